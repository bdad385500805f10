"""Strategic merge patches: merge patches that know which lists have keys.

Semantics as Kubernetes documents them ("Update API Objects in Place Using kubectl patch", and the design
note "strategic-merge-patch"): ``$patch`` (replace, delete, merge), ``$retainKeys``,
``$setElementOrder/FIELD`` and ``$deleteFromPrimitiveList/FIELD``.
"""

from __future__ import annotations

from typing import Any, Final

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.schema import Field, Type

_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"
Object = dict[str, Any]


def merge(kind: Type | None, current: Object, patch: Object) -> Object:
    """The merged object. ``current`` is used up. Raises ApiError (400) for directives that make no sense."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: _without_directives(value) for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise _bad(f"Unknown patch type found: {directive}")
    if "$retainKeys" in patch:
        _retain(current, patch, patch["$retainKeys"])
    for key, value in patch.items():
        if not _is_directive(key):
            _merge_field(kind.fields.get(key) if kind else None, current, key, value, patch.get(_ORDER + key))
    for key, value in patch.items():
        if key.startswith(_DELETE):
            _delete_from_list(current, key[len(_DELETE) :], value, patch)
        elif key.startswith(_ORDER) and key[len(_ORDER) :] not in patch:
            _only_order(kind, current, key[len(_ORDER) :], value)
    return current


def _is_directive(key: str) -> bool:
    return key in ("$patch", "$retainKeys") or key.startswith((_ORDER, _DELETE))


def _bad(message: str) -> ApiError:
    return ApiError.bad_request(f"invalid strategic merge patch: {message}")


def _retain(current: Object, patch: Object, retained: Any) -> None:
    """Take away the fields of ``current`` that ``$retainKeys`` does not name."""
    if not isinstance(retained, list):
        raise _bad("$retainKeys must be a list of field names")
    unknown = [key for key in patch if not key.startswith("$") and patch[key] is not None and key not in retained]
    if unknown:
        raise _bad(f"$retainKeys must name every field of the patch, and {', '.join(unknown)} is missing")
    for key in [key for key in current if key not in retained]:
        del current[key]


def _merge_field(field: Field | None, current: Object, key: str, value: Any, order: Any) -> None:
    there = current.get(key)
    if value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
        current.pop(key, None)
    elif isinstance(value, dict):
        inner = field.type if field is not None and not field.of else None
        current[key] = merge(inner, there if isinstance(there, dict) else {}, value)
    elif isinstance(value, list) and field is not None and (field.keys or field.is_set):
        current[key] = _merge_list(field, there if isinstance(there, list) else [], value, order)
    else:
        current[key] = _without_directives(value)


def _merge_list(field: Field, there: list[Any], changes: list[Any], order: Any) -> list[Any]:
    if field.is_set:
        new = [each for each in dict.fromkeys(changes) if each not in there]
        return _ordered([*there, *new], there, changes if order is None else order, "")
    key = field.keys[0]
    for each in changes:
        if not isinstance(each, dict):
            raise _bad(f"elements of {field.name} must be objects, not {type(each).__name__}")
    if any(each.get("$patch") == "replace" for each in changes):
        return [_without_directives(each) for each in changes if "$patch" not in each]
    result = list(there)
    for each in changes:
        _merge_element(field, result, each)
    wanted = [each for each in changes if each.get("$patch") != "delete"]
    return _ordered(result, there, wanted if order is None else order, key)


def _merge_element(field: Field, result: list[Any], change: Object) -> None:
    """Bring one element of a patch into the list: change, add or delete the one with the same key."""
    key = field.keys[0]
    if key not in change:
        raise _bad(f"map: {change} does not contain declared merge key: {key}")
    places = [at for at, each in enumerate(result) if isinstance(each, dict) and each.get(key) == change[key]]
    directive = change.get("$patch")
    if directive == "delete":
        for at in reversed(places):
            del result[at]
    elif directive is not None:
        raise _bad(f"$patch: {directive} cannot be used in an element of {field.name}")
    elif places:
        # Ports may share a number: the further keys choose among them where the patch gives them.
        exact = [at for at in places if all(result[at].get(k) == change.get(k, result[at].get(k)) for k in field.keys)]
        at = (exact or places)[0]
        result[at] = merge(field.type, result[at], change)
    else:
        result.append(merge(field.type, {}, change))


def _ordered(merged: list[Any], before: list[Any], order: Any, key: str) -> list[Any]:
    """What the patch names, in the patch's order; what it does not name keeps its place relative to that."""
    if not isinstance(order, list):
        raise _bad(f"{_ORDER}... must be a list")

    def identity(each: Any) -> Any:
        return each.get(key) if key and isinstance(each, dict) else each

    wanted = {identity(each): at for at, each in reversed(list(enumerate(order)))}
    places = {identity(each): at for at, each in reversed(list(enumerate(before)))}
    named = sorted((each for each in merged if identity(each) in wanted), key=lambda each: wanted[identity(each)])
    others = [each for each in merged if identity(each) not in wanted]
    result: list[Any] = []
    while named and others:
        place = places.get(identity(named[0]))
        first = named if place is None or place < places.get(identity(others[0]), place + 1) else others
        result.append(first.pop(0))
    return [*result, *named, *others]


def _delete_from_list(current: Object, key: str, values: Any, patch: Object) -> None:
    if not isinstance(values, list):
        raise _bad(f"{_DELETE}{key} must be a list")
    there = current.get(key)
    if isinstance(there, list):
        current[key] = [each for each in there if each not in values or each in (patch.get(key) or ())]


def _only_order(kind: Type | None, current: Object, key: str, order: Any) -> None:
    """The patch changes no element and yet says in which order they are."""
    field = kind.fields.get(key) if kind else None
    there = current.get(key)
    if field is not None and isinstance(there, list) and (field.keys or field.is_set):
        current[key] = _ordered(there, there, order, field.keys[0] if field.keys else "")


def _without_directives(value: Any) -> Any:
    """The value as it is to be kept, where there is nothing to merge it with: no directives, no nulls in objects."""
    if isinstance(value, dict):
        return {
            key: _without_directives(item) for key, item in value.items() if item is not None and not _is_directive(key)
        }
    if isinstance(value, list):
        return [_without_directives(each) for each in value]
    return value
