"""Rules for what every object has: names, labels, annotations, owners; and for label selectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mininetes.apiserver.problems import Problems
from mininetes.apiserver.resources import Resource
from mininetes.field_rules import (
    dns_1035_label_problem,
    dns_label_problem,
    dns_subdomain_problem,
    label_value_problem,
    qualified_name_problem,
)

MOST_ANNOTATION_BYTES: Final = 256 * 1024
_NAME_RULES: Final[dict[str, Callable[[str], str]]] = {
    "namespaces": dns_label_problem,
    "services": dns_1035_label_problem,
}
_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")


def check_metadata(resource: Resource, metadata: Mapping[str, Any], problems: Problems) -> None:
    """The metadata of an object of its own, whose name the server has made if it was to be generated."""
    name = metadata.get("name")
    rule = _NAME_RULES.get(resource.resource_name, dns_subdomain_problem)
    if not name:
        problems.required("metadata.name", "name or generateName is required")
    elif problem := rule(name):
        problems.invalid("metadata.name", name, problem)
    if generated := metadata.get("generateName"):
        # What follows makes the end good, so a dash at the end is no harm.
        problems.invalid("metadata.generateName", generated, rule(generated.rstrip("-") or "-"))
    if resource.namespaced and (namespace := metadata.get("namespace")):
        problems.invalid("metadata.namespace", namespace, dns_label_problem(namespace))
    check_labels(metadata.get("labels"), "metadata.labels", problems)
    check_annotations(metadata.get("annotations"), "metadata.annotations", problems)
    for at, finalizer in enumerate(metadata.get("finalizers") or ()):
        problems.invalid(f"metadata.finalizers[{at}]", finalizer, qualified_name_problem(finalizer))
    owners = metadata.get("ownerReferences") or ()
    if sum(1 for each in owners if each.get("controller")) > 1:
        problems.invalid("metadata.ownerReferences", owners, "Only one reference can have Controller set to true")


def check_labels(labels: Mapping[str, str] | None, field: str, problems: Problems) -> None:
    """A map of labels."""
    for key, value in (labels or {}).items():
        if problem := qualified_name_problem(key):
            problems.invalid(field, key, problem)
        if problem := label_value_problem(value):
            problems.invalid(field, value, problem)


def check_annotations(annotations: Mapping[str, str] | None, field: str, problems: Problems) -> None:
    """A map of annotations: keys like those of labels but in any case, and a limit for all together."""
    size = 0
    for key, value in (annotations or {}).items():
        problems.invalid(field, key, qualified_name_problem(key.lower()))
        size += len(key) + len(value)
    if size > MOST_ANNOTATION_BYTES:
        problems.too_long(field, MOST_ANNOTATION_BYTES)


def check_selector(selector: Mapping[str, Any], field: str, problems: Problems) -> None:
    """A LabelSelector."""
    check_labels(selector.get("matchLabels"), f"{field}.matchLabels", problems)
    for at, each in enumerate(selector.get("matchExpressions") or ()):
        where = f"{field}.matchExpressions[{at}]"
        operator, values = each.get("operator"), each.get("values") or ()
        if operator in ("In", "NotIn") and not values:
            problems.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            problems.forbidden(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        elif operator and operator not in _OPERATORS:
            problems.invalid(f"{where}.operator", operator, "not a valid selector operator")
        if key := each.get("key"):
            problems.invalid(f"{where}.key", key, qualified_name_problem(key))
        for index, value in enumerate(values):
            problems.invalid(f"{where}.values[{index}]", value, label_value_problem(value))


def selector_is_usable(selector: Mapping[str, Any]) -> bool:
    """Whether a LabelSelector has what it needs, so that it can be tried on labels."""
    return all(
        each.get("key") and operator in _OPERATORS and (each.get("values") or operator not in ("In", "NotIn"))
        for each in selector.get("matchExpressions") or ()
        for operator in (each.get("operator"),)
    )
