"""Whether a value is as a JSON schema has it: of the standard's words those that our schema uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_SILENT = {"$schema", "$defs", "title", "description", "default", "format"}
_KNOWN = _SILENT | {
    "$ref", "anyOf", "type", "const", "enum", "pattern", "minimum", "maximum", "minLength", "minItems", "items",
    "properties", "required", "additionalProperties", "propertyNames",
}  # fmt: skip


def problems(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any], place: str = "$") -> Iterator[str]:
    """What is wrong, each with its place. A word that is not known here is a problem, too."""
    yield from (f"{place}: schema word {word}" for word in set(schema) - _KNOWN)
    if "$ref" in schema:
        yield from problems(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root, place)
    if "anyOf" in schema:
        found = [list(problems(each, value, root, place)) for each in schema["anyOf"]]
        if all(found):
            yield f"{place}: none of {found}"
    if "type" in schema and not _is(schema["type"], value):
        yield f"{place}: {value!r} is no {schema['type']}"
        return
    yield from _simple(schema, value, place)
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from problems(schema.get("items", {}), each, root, f"{place}[{number}]")
    if isinstance(value, dict):
        yield from (f"{place}: {key} is missing" for key in schema.get("required", ()) if key not in value)
        for key in value:
            yield from problems(schema.get("propertyNames", {}), key, root, f"{place}: {key}")
        rest = schema.get("additionalProperties", True)
        for key, each in value.items():
            if key in schema.get("properties", {}):
                yield from problems(schema["properties"][key], each, root, f"{place}.{key}")
            elif rest is False:
                yield f"{place}: {key} is unknown"
            elif isinstance(rest, dict):
                yield from problems(rest, each, root, f"{place}.{key}")


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _simple(schema: Mapping[str, Any], value: Any, place: str) -> Iterator[str]:
    if "const" in schema and value != schema["const"]:
        yield f"{place}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{place}: {value!r} is not like {schema['pattern']}"
        if len(value) < schema.get("minLength", 0):
            yield f"{place}: {value!r} is too short"
    if isinstance(value, list) and len(value) < schema.get("minItems", 0):
        yield f"{place}: too few"
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{place}: {value} is out of range"
