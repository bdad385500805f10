"""Label and field selectors: which objects a client means, as text in a URL or as an object in a spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.resources import Resource
from mininetes.field_rules import label_value_problem, qualified_name_problem

_TOKEN: Final = re.compile(r"\s*(?:(==|!=|=|>|<|,|\(|\)|!)|([^\s=!<>,()]+))")
_INTEGER: Final = re.compile("[+-]?[0-9]+")
_OPERATORS: Final = {"=": "=", "==": "=", "!=": "!=", ">": ">", "<": "<", "in": "in", "notin": "notin"}
_OF_EXPRESSIONS: Final = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
_FIELD_TERM: Final = re.compile(r"((?:[^\\=,!]|\\.)*)(==|!=|=)((?:[^\\,=]|\\.)*)")


@dataclass(frozen=True)
class Requirement:
    """One condition on a label. ``operator``: ``=``, ``!=``, ``in``, ``notin``, ``exists``, ``!``, ``>``, ``<``."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it. Where a label is missing, only ``!``, ``!=`` and ``notin`` hold."""
        value = labels.get(self.key)
        if self.operator in ("!", "!=", "notin"):
            return value is None or (self.operator != "!" and value not in self.values)
        if value is None:
            return False
        if self.operator in (">", "<"):
            if not _INTEGER.fullmatch(value):
                return False
            number, bound = int(value), int(self.values[0])
            return number > bound if self.operator == ">" else number < bound
        return self.operator == "exists" or value in self.values

    def __str__(self) -> str:
        if self.operator in ("in", "notin"):
            return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
        return {"exists": self.key, "!": f"!{self.key}"}.get(
            self.operator, f"{self.key}{self.operator}{''.join(self.values)}"
        )


class LabelSelector:
    """Requirements on labels, all of which must hold. Without any, it matches everything."""

    __slots__ = ("_equal", "_nothing", "_others", "requirements")

    def __init__(self, requirements: tuple[Requirement, ...] = (), *, nothing: bool = False) -> None:
        self.requirements = requirements
        self._nothing = nothing
        # Most selectors only say which label has which value: those are compared without a call.
        self._equal = tuple((each.key, each.values[0]) for each in requirements if each.operator == "=")
        self._others = tuple(each for each in requirements if each.operator != "=")

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """The selector of a ``labelSelector`` parameter: ``app=web,tier in (a, b),!old``. Raises ApiError (400)."""
        return _parse_labels(text)

    @classmethod
    def of(cls, selector: Mapping[str, Any] | None) -> LabelSelector:
        """The selector of a spec's LabelSelector. None matches nothing, an empty one everything, as in Kubernetes.

        It must have been validated.
        """
        if selector is None:
            return cls(nothing=True)
        found = [Requirement(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
        for each in selector.get("matchExpressions") or ():
            found.append(Requirement(each["key"], _OF_EXPRESSIONS[each["operator"]], tuple(each.get("values") or ())))
        return cls(tuple(sorted(found, key=lambda each: each.key)))

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with these labels is meant."""
        if self._nothing:
            return False
        there = labels or {}
        for key, value in self._equal:
            if there.get(key) != value:
                return False
        return all(each.holds(there) for each in self._others)

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.requirements)


def _bad_labels(text: str, why: str) -> ApiError:
    return ApiError.bad_request(f'unable to parse requirement: {why} (in label selector "{text}")')


def _tokens(text: str) -> list[str]:
    found, position = [], 0
    while text[position:].strip():
        token = _TOKEN.match(text, position)
        if token is None:  # pragma: no cover - the pattern takes any character
            raise _bad_labels(text, f"found '{text[position:]}'")
        found.append(token[1] or token[2])
        position = token.end()
    return found


class _LabelParser:
    """Reads the requirements of one text, from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)

    def next(self, expected: str) -> str:
        if not self.tokens:
            raise _bad_labels(self.text, f"found '', expected: {expected}")
        return self.tokens.pop(0)

    def requirements(self) -> tuple[Requirement, ...]:
        found = []
        while self.tokens:
            found.append(self.requirement())
            if self.tokens and self.next("','") != ",":
                raise _bad_labels(self.text, "expected ',' or the end between requirements")
            if found and self.text.rstrip().endswith(",") and not self.tokens:
                raise _bad_labels(self.text, "found '', expected: identifier after ','")
        return tuple(found)

    def key(self) -> str:
        key = self.next("!, identifier")
        if problem := qualified_name_problem(key):
            raise _bad_labels(self.text, f'key: Invalid value: "{key}": {problem}')
        return key

    def requirement(self) -> Requirement:
        if self.tokens[0] == "!":
            self.tokens.pop(0)
            return Requirement(self.key(), "!")
        key = self.key()
        if not self.tokens or self.tokens[0] == ",":
            return Requirement(key, "exists")
        word = self.next("an operator")
        operator = _OPERATORS.get(word)
        if operator is None:
            raise _bad_labels(self.text, f"found '{word}', expected: in, notin, =, ==, !=, gt, lt")
        values = self.several() if operator in ("in", "notin") else (self.value(),)
        if operator in (">", "<") and not _INTEGER.fullmatch(values[0]):
            raise _bad_labels(self.text, f"for '>' and '<' the value must be an integer, not '{values[0]}'")
        return Requirement(key, operator, values)

    def value(self) -> str:
        if not self.tokens or self.tokens[0] in (",", ")"):
            return ""
        value = self.next("identifier")
        if problem := label_value_problem(value):
            raise _bad_labels(self.text, f'values: Invalid value: "{value}": {problem}')
        return value

    def several(self) -> tuple[str, ...]:
        if self.next("'('") != "(":
            raise _bad_labels(self.text, "expected: '(' after in and notin")
        found = [self.value()]
        while (mark := self.next("',' or ')'")) != ")":
            if mark != ",":
                raise _bad_labels(self.text, f"found '{mark}', expected: ',' or ')'")
            found.append(self.value())
        return tuple(found)


@lru_cache(maxsize=512)
def _parse_labels(text: str) -> LabelSelector:
    return LabelSelector(_LabelParser(text).requirements())


_METADATA: Final = ("metadata.name", "metadata.namespace")
_OF_REFERENCES: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_SELECTABLE: Final = {
    "pods": (
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"),
        *("status.phase", "status.podIP", "status.nominatedNodeName"),
    ),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "services": ("spec.clusterIP", "spec.type"),
    "secrets": ("type",),
    "replicasets.apps": ("status.replicas",),
    "events": (
        *(f"involvedObject.{each}" for each in _OF_REFERENCES),
        *("reason", "reportingComponent", "source", "type"),
    ),
    "events.events.k8s.io": (
        *(f"regarding.{each}" for each in _OF_REFERENCES),
        *("reason", "reportingController", "type"),
    ),
}
_WHEN_UNSET: Final = {"spec.unschedulable": "false", "spec.hostNetwork": "false", "status.replicas": "0"}


@dataclass(frozen=True)
class _FieldTerm:
    path: tuple[str, ...]
    value: str
    equal: bool
    unset: str


class FieldSelector:
    """Conditions on fields of an object, all of which must hold. Only those that Kubernetes offers for the kind."""

    __slots__ = ("_terms", "text")

    def __init__(self, text: str, terms: tuple[_FieldTerm, ...]) -> None:
        self.text = text
        self._terms = terms

    @classmethod
    def parse(cls, text: str, resource: Resource) -> FieldSelector:
        """The selector of a ``fieldSelector`` parameter: ``spec.nodeName=node1,status.phase!=Failed``.

        Raises ApiError (400) for other syntax, and for fields that cannot be selected by.
        """
        return _parse_fields(text, resource)

    def matches(self, obj: Mapping[str, Any]) -> bool:
        """Whether an object is meant. A field that is not set counts as empty."""
        for term in self._terms:
            value: Any = obj
            for step in term.path:
                value = value.get(step) if isinstance(value, dict) else None
            if value.__class__ is not str:
                value = _as_text(value) or term.unset
            if (value == term.value) is not term.equal:
                return False
        return True

    def value_of(self, field: str) -> str | None:
        """The value that ``field`` must have, if any: ``metadata.name`` of a watch for one object."""
        path = tuple(field.split("."))
        return next((term.value for term in self._terms if term.path == path and term.equal), None)

    def __str__(self) -> str:
        return self.text


def _as_text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "true" if value else ""
    return str(value.get("component") or "") if isinstance(value, dict) else str(value)


@lru_cache(maxsize=512)
def _parse_fields(text: str, resource: Resource) -> FieldSelector:
    terms = []
    for part in re.split(r"(?<!\\),", text) if text.strip() else ():
        found = _FIELD_TERM.fullmatch(part.strip())
        if found is None:
            raise ApiError.bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        field, value = found[1], re.sub(r"\\(.)", r"\1", found[3])
        if field not in _METADATA and field not in _SELECTABLE.get(resource.resource_name, ()):
            raise ApiError.bad_request(
                f'Unable to find "{resource.api_version}, Resource={resource.plural}" that match label selector "", '
                f'field selector "{text}": field label not supported: {field}'
            )
        terms.append(_FieldTerm(tuple(field.split(".")), value, found[2] != "!=", _WHEN_UNSET.get(field, "")))
    return FieldSelector(text, tuple(terms))
