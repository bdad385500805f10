"""Server-side apply: merges what a manager wants into an object, and keeps account of what each manager set.

The account (managedFields, in the format FieldsV1) serves to take away what a manager applied once and now
leaves out. Conflicts between managers are not looked for: the last one wins.
"""

from __future__ import annotations

from typing import Any

import orjson

from mininetes.apiserver.schema import Field, Type

Object = dict[str, Any]
_UNTRACKED = ("apiVersion", "kind")
_UNTRACKED_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
)


def applied(kind: Type, current: Object, wanted: Object, manager: str, now: str, api_version: str) -> Object:
    """``current`` (used up) with ``wanted`` applied. ``now`` is a time in Kubernetes' format."""
    entries = (current.get("metadata") or {}).get("managedFields") or []
    before = next((each for each in entries if _is_entry_of(each, manager)), None)
    fields = _field_set(kind, wanted, _UNTRACKED)
    others = [each for each in entries if each is not before]
    if before is not None:
        kept = [fields, *(each.get("fieldsV1") or {} for each in others)]
        _take_away(kind, current, before.get("fieldsV1") or {}, kept)
    result = _merge(kind, current, wanted)
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": api_version,
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    if before is not None and before.get("fieldsV1") == fields:
        entry["time"] = before.get("time", now)  # applying the same again changes nothing
    result.setdefault("metadata", {})["managedFields"] = [*others, entry]
    return result


def _is_entry_of(entry: Object, manager: str) -> bool:
    same = entry.get("manager") == manager and entry.get("operation") == "Apply"
    return same and not entry.get("subresource")


def _key_of(field: Field, element: Object) -> str:
    """``k:{"name":"web"}``. A key that is left out counts with its default, TCP: protocols are the only such keys."""
    keys = {key: element.get(key, "TCP" if key == "protocol" else None) for key in sorted(field.keys)}
    return f"k:{orjson.dumps(keys).decode()}"


def _field_set(kind: Type, value: Object, untracked: tuple[str, ...] = ()) -> Object:
    """Which fields an object has, as FieldsV1."""
    found: Object = {}
    for key, item in value.items():
        if key in untracked:
            continue
        field = kind.fields.get(key)
        found[f"f:{key}"] = _fields_of_value(field, item) if field is not None else {}
    return found


def _fields_of_value(field: Field, item: Any) -> Object:
    if field.of == "map" and isinstance(item, dict):
        return {f"f:{key}": {} for key in item}
    if field.keys and isinstance(item, list):
        assert field.type is not None
        return {_key_of(field, each): {".": {}, **_field_set(field.type, each)} for each in item}
    if field.is_set and isinstance(item, list):
        return {f"v:{orjson.dumps(each).decode()}": {} for each in item}
    if field.of or field.type is None or not isinstance(item, dict):
        return {}
    return _field_set(field.type, item, _UNTRACKED_METADATA if field.name == "metadata" else ())


def _take_away(kind: Type, current: Object, before: Object, kept: list[Object]) -> None:
    """Remove from ``current`` what ``before`` names and none of ``kept`` does."""
    for name, inner in before.items():
        key = name.partition(":")[2]
        if not name.startswith("f:") or key not in current:
            continue
        holders = [each[name] for each in kept if name in each]
        field = kind.fields.get(key)
        if not inner or field is None:
            if not holders:
                del current[key]
        elif field.keys or field.is_set:
            current[key] = _left_in_list(field, current[key], inner, holders)
            if not current[key] and not holders:
                del current[key]
        elif field.of == "map":
            for each in inner:
                if not any(each in holder for holder in holders):
                    current[key].pop(each[2:], None)
        elif field.type is not None:
            _take_away(field.type, current[key], inner, holders)
            if not current[key] and not holders:
                del current[key]


def _left_in_list(field: Field, elements: list[Any], before: Object, kept: list[Object]) -> list[Any]:
    left = []
    for each in elements:
        name = _key_of(field, each) if field.keys else f"v:{orjson.dumps(each).decode()}"
        holders = [holder[name] for holder in kept if name in holder]
        if name in before and not holders:
            continue
        if name in before and field.type is not None:
            _take_away(field.type, each, before[name], holders)
        left.append(each)
    return left


def _merge(kind: Type, current: Object, wanted: Object) -> Object:
    for key, item in wanted.items():
        field = kind.fields.get(key)
        there = current.get(key)
        if item is None:
            continue
        if field is None or there is None or not isinstance(there, type(item)):
            current[key] = item
        elif field.of == "map":
            current[key] = {**there, **item}
        elif field.is_set:
            current[key] = list(dict.fromkeys([*there, *item]))
        elif field.keys:
            current[key] = _merge_list(field, there, item)
        elif field.type is not None and not field.of:
            current[key] = _merge(field.type, there, item)
        else:
            current[key] = item
    return current


def _merge_list(field: Field, there: list[Object], wanted: list[Object]) -> list[Object]:
    assert field.type is not None
    found = {_key_of(field, each): each for each in there}
    for each in wanted:
        name = _key_of(field, each)
        found[name] = _merge(field.type, found[name], each) if name in found else each
    return list(found.values())
