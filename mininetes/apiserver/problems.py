"""What is wrong with an object, field by field, in Kubernetes' words and with its reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from mininetes.apiserver.errors import Cause


def shown(value: Any) -> str:
    """A value as Kubernetes' messages show it: Go's notation for lists and maps of texts, else JSON."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return f"[]string{{{', '.join(shown(each) for each in value)}}}"
    if isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()):
        pairs = ", ".join(f"{shown(key)}:{shown(item)}" for key, item in sorted(value.items()))
        return f"map[string]string{{{pairs}}}"
    return orjson.dumps(value).decode()


def selector_shown(selector: Mapping[str, Any]) -> str:
    """A LabelSelector as Kubernetes' messages show it."""
    labels = selector.get("matchLabels")
    requirements = selector.get("matchExpressions")
    label_text = shown(labels) if labels else "map[string]string(nil)"
    inner = "(nil)" if not requirements else f"{{{', '.join(orjson.dumps(each).decode() for each in requirements)}}}"
    return f"v1.LabelSelector{{MatchLabels:{label_text}, MatchExpressions:[]v1.LabelSelectorRequirement{inner}}}"


class Problems:
    """Collects the causes of a refusal; all are reported together."""

    def __init__(self, causes: Iterable[Cause] = ()) -> None:
        self.causes = list(causes)

    def _add(self, field: str, reason: str, message: str) -> None:
        self.causes.append(Cause(field, reason, message))

    def required(self, field: str, why: str = "") -> None:
        """The field must be there."""
        self._add(field, "FieldValueRequired", f"Required value: {why}" if why else "Required value")

    def invalid(self, field: str, value: Any, why: str, *, text: str = "") -> None:
        """The value is wrong; nothing is added when ``why`` is empty. ``text`` shows the value, if JSON does not do."""
        if why:
            self._add(field, "FieldValueInvalid", f"Invalid value: {text or shown(value)}: {why}")

    def unsupported(self, field: str, value: Any, supported: Iterable[str]) -> None:
        """The value is none of those there are; nothing is added when it is."""
        choices = sorted(supported)
        if value not in choices:
            listed = ", ".join(f'"{each}"' for each in choices)
            self._add(field, "FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {listed}")

    def duplicate(self, field: str, value: Any) -> None:
        """The value is there already."""
        self._add(field, "FieldValueDuplicate", f"Duplicate value: {shown(value)}")

    def forbidden(self, field: str, why: str) -> None:
        """The field may not be set, or changed."""
        self._add(field, "FieldValueForbidden", f"Forbidden: {why}")

    def not_found(self, field: str, value: Any) -> None:
        """The value refers to nothing."""
        self._add(field, "FieldValueNotFound", f"Not found: {shown(value)}")

    def too_long(self, field: str, limit: int) -> None:
        """The value has more than ``limit`` bytes."""
        self._add(field, "FieldValueTooLong", f"Too long: must have at most {limit} bytes")

    def not_negative(self, field: str, value: Any) -> None:
        """The number, if there is one, must not be below 0."""
        if value is not None and value < 0:
            self.invalid(field, value, "must be greater than or equal to 0")

    def unique(self, field: str, values: Iterable[Any], inner: str = "") -> None:
        """Each value of a list may come only once; None does not count. ``inner``: the field within an element."""
        seen = set()
        for at, value in enumerate(values):
            if value is None:
                continue
            if value in seen:
                self.duplicate(f"{field}[{at}]{inner}", value)
            seen.add(value)
