"""Whether an object has the fields and types of its kind: what Kubernetes finds out while it decodes a request's body.

Messages are worded as Kubernetes (Go's decoder of JSON) words them, since people search for them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from mininetes.apiserver.errors import ApiError, Cause
from mininetes.apiserver.resources import Resource
from mininetes.apiserver.schema import Field, Type, type_of

QUANTITY_PATTERN: Final = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
LONGEST_QUANTITY: Final = 40
_QUANTITY: Final = re.compile(r"[+-]?(\d+|\d+\.\d*|\.\d+)([eE][+-]?\d+|[KMGTPE]i|[numkMGTPE]?)", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
_JSON_NAMES: Final = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
_GO_NAMES: Final = {
    "string": "string",
    "int32": "int32",
    "int64": "int64",
    "double": "float64",
    "boolean": "bool",
    "object": "map[string]interface {}",
    "int-or-string": "intstr.IntOrString",
    "quantity": "resource.Quantity",
    "time": "v1.Time",
    "micro-time": "v1.MicroTime",
    "byte": "[]uint8",
}
_EXPECTED: Final = {"string": str, "boolean": bool, "object": dict}

Path = tuple[Any, ...]
"""Where a value is: (path of what it is in, key or index); the object itself is at ()."""


@dataclass
class Findings:
    """What was found in an object. Wrong types are raised at once, as Kubernetes does."""

    unknown: list[str] = field(default_factory=list)
    """Paths of fields that the kind does not have."""
    missing: list[Cause] = field(default_factory=list)


def decode(resource: Resource, obj: dict[str, Any]) -> Findings:
    """Check an object's fields and types, in place: unknown fields and nulls are taken out, as decoding does.

    Raises ApiError (400) at the first value of a wrong type.
    """
    findings = Findings()
    try:
        _struct(type_of(resource), obj, (), findings)
    except _WrongType as wrong:
        raise refused(resource, str(wrong)) from None
    return findings


def refused(resource: Resource, why: str) -> ApiError:
    """The error for a body that cannot be decoded."""
    message = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}'
    return ApiError.bad_request(message)


def text_of(path: Path) -> str:
    """``spec.containers[0].name``."""
    parts: list[str] = []
    while path:
        path, key = path
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    return "".join(reversed(parts)).lstrip(".")


class _WrongType(Exception):
    """A value that does not fit its field."""


def _mismatch(value: Any, owner: Type, path: Path, go_type: str) -> _WrongType:
    """In Go's words; its path has no indices, and no keys of maps."""
    parts: list[str] = []
    while path:
        path, key = path
        if isinstance(key, str):
            parts.append(key)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    found = f"number {value}" if number and "int" in go_type else _JSON_NAMES.get(type(value), "null")
    where = f"Go struct field {owner.short_name}.{'.'.join(reversed(parts))}"
    return _WrongType(f"json: cannot unmarshal {found} into {where} of type {go_type}")


def _go_type(known: Field) -> str:
    inner = _GO_NAMES[known.scalar] if known.scalar else known.type.go_name  # type: ignore[union-attr]
    return {"list": f"[]{inner}", "map": f"map[string]{inner}"}.get(known.of, inner)


def _struct(owner: Type, value: dict[str, Any], path: Path, findings: Findings) -> None:
    dropped: list[str] = []
    fields = owner.fields
    for key, item in value.items():
        known = fields.get(key)
        if known is None:
            findings.unknown.append(text_of((path, key)))
            dropped.append(key)
        elif item is None:
            dropped.append(key)
        elif known.of:
            _collection(owner, known, item, (path, key), findings)
        elif known.type is not None:
            if item.__class__ is not dict:
                raise _mismatch(item, owner, (path, key), known.type.go_name)
            _struct(known.type, item, (path, key), findings)
        elif known.scalar != "string" or item.__class__ is not str:
            value[key] = _scalar(owner, known, item, (path, key))
    for key in dropped:
        del value[key]
    for name in owner.required_fields:
        there = value.get(name)
        empty = there is None or (not there and there.__class__ in (str, list) and name != "value")
        # Whoever reports a status may do so piece by piece.
        if empty and not (path and _root(path) == "status"):
            findings.missing.append(Cause(text_of((path, name)), "FieldValueRequired", "Required value"))


def _root(path: Path) -> Any:
    while path[0]:
        path = path[0]
    return path[1]


def _collection(owner: Type, known: Field, value: Any, path: Path, findings: Findings) -> None:
    expected = list if known.of == "list" else dict
    if value.__class__ is not expected:
        raise _mismatch(value, owner, path, _go_type(known))
    entries: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in entries:
        if known.type is not None:
            if item.__class__ is not dict:
                raise _mismatch(item, owner, path, known.type.go_name)
            _struct(known.type, item, (path, key), findings)
        elif item is None and known.scalar == "string":
            value[key] = ""
        elif known.scalar != "string" or item.__class__ is not str:
            value[key] = _scalar(owner, known, item, path)


def _scalar(owner: Type, known: Field, item: Any, path: Path) -> Any:
    """The value, with amounts as text. Raises _WrongType where it is not of the field's type or format."""
    kind = known.scalar
    expected = _EXPECTED.get(kind)
    if expected is not None:
        if item.__class__ is not expected:
            raise _mismatch(item, owner, path, _GO_NAMES[kind])
        return item
    if not _FITS[kind](item):
        reason = _REASONS.get(kind) if isinstance(item, str) else None
        raise _WrongType(reason.format(item)) if reason else _mismatch(item, owner, path, _GO_NAMES[kind])
    return str(item) if kind == "quantity" else item


def _is_int(item: Any, bits: int) -> bool:
    return item.__class__ is int and -(1 << bits - 1) <= item < 1 << bits - 1


def is_quantity(item: Any) -> bool:
    """Whether a value is an amount such as ``500m``, ``1Gi``, 2."""
    text = str(item) if type(item) in (int, float) else item
    return isinstance(text, str) and len(text) <= LONGEST_QUANTITY and bool(_QUANTITY.fullmatch(text))


def _is_base64(item: Any) -> bool:
    if not isinstance(item, str):
        return False
    try:
        base64.b64decode(item, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_time(item: Any) -> bool:
    return isinstance(item, str) and bool(_TIME.fullmatch(item))


_FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "int32": lambda item: _is_int(item, 32),
    "int64": lambda item: _is_int(item, 64),
    "double": lambda item: type(item) in (int, float),
    "int-or-string": lambda item: isinstance(item, str) or _is_int(item, 32),
    "quantity": is_quantity,
    "time": _is_time,
    "micro-time": _is_time,
    "byte": _is_base64,
}
_REASONS: Final = {
    "quantity": f"quantities must match the regular expression '{QUANTITY_PATTERN}'",
    "time": 'parsing time "{0}" as "2006-01-02T15:04:05Z07:00": cannot parse "{0}"',
    "micro-time": 'parsing time "{0}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "{0}"',
    "byte": "illegal base64 data",
}
"""What is wrong with a text that is not in its field's format."""
