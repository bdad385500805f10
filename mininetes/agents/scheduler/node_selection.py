"""Which nodes a pod names or bears: nodeSelector, node affinity, taints and tolerations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

KEEPS_OFF = ("NoSchedule", "NoExecute")


def tolerates(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """Whether one of a pod's tolerations covers the taint."""
    return any(covers(toleration, taint) for toleration in tolerations)


def covers(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether a toleration covers a taint: effect, key and value; an absent one stands for all."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def untolerated(
    spec: Mapping[str, Any], taints: Sequence[Mapping[str, Any]], effects: Sequence[str] = KEEPS_OFF
) -> Mapping[str, Any] | None:
    """The first taint with such an effect that the pod does not tolerate; None when it may go there."""
    tolerations = spec.get("tolerations") or ()
    return next((t for t in taints if t.get("effect") in effects and not tolerates(tolerations, t)), None)


def selects(spec: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Whether the pod's nodeSelector and required node affinity take a node of that name and labels."""
    wanted = spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(term_takes(term, name, labels) for term in required.get("nodeSelectorTerms") or ())


def preference(spec: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> int:
    """The sum of the weights of the preferred node affinity's terms that the node meets."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(
        int(each.get("weight") or 0) for each in preferred if term_takes(each.get("preference") or {}, name, labels)
    )


def term_takes(term: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node selector term takes a node; a term without requirements takes none."""
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_holds(each, labels) for each in expressions) and all(
        _holds(each, {"metadata.name": name}) for each in fields
    )


def _holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(str(requirement.get("key")))
    values = list(requirement.get("values") or ())
    operator = requirement.get("operator")
    if operator in ("Gt", "Lt"):
        return _compares(operator, value, values)
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(str(operator), False)


def _compares(operator: str, value: str | None, values: list[str]) -> bool:
    """Gt and Lt: of whole numbers; false where one is none."""
    try:
        have, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return have > bound if operator == "Gt" else have < bound
