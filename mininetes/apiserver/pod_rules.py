"""Rules for pods: what their spec may say. Used for pods and for the templates of workloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mininetes.apiserver.container_rules import check_containers
from mininetes.apiserver.metadata_rules import check_labels, check_selector, selector_is_usable
from mininetes.apiserver.problems import Problems, selector_shown
from mininetes.apiserver.selectors import LabelSelector
from mininetes.field_rules import (
    dns_label_problem,
    dns_subdomain_problem,
    ipv4_problem,
    qualified_name_problem,
)

Object = Mapping[str, Any]
_RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_DNS_POLICIES: Final = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MOST_NAMESERVERS: Final = 3
_NODE_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def check_pod(pod: Object, problems: Problems) -> None:
    """A pod."""
    check_pod_spec(pod.get("spec") or {}, "spec", problems)


def check_pod_spec(spec: Object, field: str, problems: Problems) -> None:
    """The spec of a pod or of a template."""
    volumes = _check_volumes(spec.get("volumes") or (), f"{field}.volumes", problems)
    check_containers(spec, field, volumes, problems)
    if (policy := spec.get("restartPolicy")) is not None:
        problems.unsupported(f"{field}.restartPolicy", policy, _RESTART_POLICIES)
    problems.not_negative(f"{field}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    if (deadline := spec.get("activeDeadlineSeconds")) is not None and deadline < 1:
        problems.invalid(f"{field}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    check_labels(spec.get("nodeSelector"), f"{field}.nodeSelector", problems)
    for name in ("serviceAccountName", "nodeName"):
        if value := spec.get(name):
            problems.invalid(f"{field}.{name}", value, dns_subdomain_problem(value))
    for name in ("hostname", "subdomain"):
        if value := spec.get(name):
            problems.invalid(f"{field}.{name}", value, dns_label_problem(value))
    _check_names(spec, field, problems)
    _check_scheduling(spec, field, problems)
    for at, gate in enumerate(spec.get("readinessGates") or ()):
        if condition := gate.get("conditionType"):
            where = f"{field}.readinessGates[{at}].conditionType"
            problems.invalid(where, condition, qualified_name_problem(condition))


def _check_volumes(volumes: Sequence[Object], field: str, problems: Problems) -> set[str]:
    """The volumes; returns their names."""
    names = [each.get("name") for each in volumes]
    problems.unique(field, names, ".name")
    for at, volume in enumerate(volumes):
        if name := volume.get("name"):
            problems.invalid(f"{field}[{at}].name", name, dns_label_problem(name))
        sources = [key for key, value in volume.items() if isinstance(value, dict)]
        for source in sources[1:]:
            problems.forbidden(f"{field}[{at}].{source}", "may not specify more than 1 volume type")
    return {name for name in names if name}


def _check_names(spec: Object, field: str, problems: Problems) -> None:
    """How the pod finds names."""
    policy, config = spec.get("dnsPolicy"), spec.get("dnsConfig") or {}
    if policy is not None:
        problems.unsupported(f"{field}.dnsPolicy", policy, _DNS_POLICIES)
    servers = config.get("nameservers") or ()
    if policy == "None" and not servers:
        problems.required(
            f"{field}.dnsConfig.nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None"
        )
    if len(servers) > _MOST_NAMESERVERS:
        problems.invalid(
            f"{field}.dnsConfig.nameservers", servers, f"must not have more than {_MOST_NAMESERVERS} nameservers"
        )
    for at, server in enumerate(servers):
        problems.invalid(f"{field}.dnsConfig.nameservers[{at}]", server, ipv4_problem(server))
    for at, search in enumerate(config.get("searches") or ()):
        problems.invalid(f"{field}.dnsConfig.searches[{at}]", search, dns_subdomain_problem(search.rstrip(".")))
    for at, alias in enumerate(spec.get("hostAliases") or ()):
        where = f"{field}.hostAliases[{at}]"
        if ip := alias.get("ip"):
            problems.invalid(f"{where}.ip", ip, ipv4_problem(ip))
        for index, name in enumerate(alias.get("hostnames") or ()):
            problems.invalid(f"{where}.hostnames[{index}]", name, dns_subdomain_problem(name))


def _check_scheduling(spec: Object, field: str, problems: Problems) -> None:
    for at, toleration in enumerate(spec.get("tolerations") or ()):
        check_toleration(toleration, f"{field}.tolerations[{at}]", problems)
    for at, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        where = f"{field}.topologySpreadConstraints[{at}]"
        if (skew := constraint.get("maxSkew")) is not None and skew < 1:
            problems.invalid(f"{where}.maxSkew", skew, "must be greater than zero")
        if unsatisfiable := constraint.get("whenUnsatisfiable"):
            choices = ("DoNotSchedule", "ScheduleAnyway")
            problems.unsupported(f"{where}.whenUnsatisfiable", unsatisfiable, choices)
        if (selector := constraint.get("labelSelector")) is not None:
            check_selector(selector, f"{where}.labelSelector", problems)
    affinity = spec.get("affinity") or {}
    node = (affinity.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for at, term in enumerate(node.get("nodeSelectorTerms") or ()):
        where = f"{field}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{at}]"
        for index, each in enumerate(term.get("matchExpressions") or ()):
            operator = each.get("operator")
            if operator and operator not in _NODE_OPERATORS:
                what = f"{where}.matchExpressions[{index}].operator"
                problems.invalid(what, operator, "not a valid selector operator")
    for name in ("podAffinity", "podAntiAffinity"):
        _check_pod_affinity(affinity.get(name) or {}, f"{field}.affinity.{name}", problems)


def _check_pod_affinity(affinity: Object, field: str, problems: Problems) -> None:
    required, preferred = (f"{how}DuringSchedulingIgnoredDuringExecution" for how in ("required", "preferred"))
    terms = [(f"{field}.{required}[{at}]", term) for at, term in enumerate(affinity.get(required) or ())]
    for at, weighted in enumerate(affinity.get(preferred) or ()):
        terms.append((f"{field}.{preferred}[{at}].podAffinityTerm", weighted.get("podAffinityTerm") or {}))
    for where, term in terms:
        if (selector := term.get("labelSelector")) is not None:
            check_selector(selector, f"{where}.labelSelector", problems)


def check_toleration(toleration: Object, field: str, problems: Problems) -> None:
    """One toleration."""
    key, operator, effect = toleration.get("key"), toleration.get("operator"), toleration.get("effect")
    if key:
        problems.invalid(f"{field}.key", key, qualified_name_problem(key))
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        problems.invalid(f"{field}.operator", operator or "", why)
    if operator:
        problems.unsupported(f"{field}.operator", operator, ("Equal", "Exists"))
    if operator == "Exists" and toleration.get("value"):
        problems.invalid(f"{field}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'")
    if effect:
        problems.unsupported(f"{field}.effect", effect, _EFFECTS)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        problems.invalid(f"{field}.effect", effect or "", "effect must be 'NoExecute' when `tolerationSeconds` is set")


def check_template(spec: Object, problems: Problems, kind: str) -> None:
    """Selector and template of a workload: they must belong together."""
    selector, template = spec.get("selector"), spec.get("template")
    if template is None:  # reported where required fields are, but for the one that may be without in the schema
        if kind == "replicaset":
            problems.required("spec.template")
        return
    metadata = template.get("metadata") or {}
    labels = metadata.get("labels") or {}
    check_labels(labels, "spec.template.metadata.labels", problems)
    if selector is not None:
        _check_own_selector(selector, labels, kind, problems)
    pod_spec = template.get("spec") or {}
    check_pod_spec(pod_spec, "spec.template.spec", problems)
    policy = pod_spec.get("restartPolicy")
    if policy in ("OnFailure", "Never"):
        problems.unsupported("spec.template.spec.restartPolicy", policy, ("Always",))
    if pod_spec.get("activeDeadlineSeconds") is not None:
        problems.forbidden(
            "spec.template.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported"
        )


def _check_own_selector(selector: Object, labels: Mapping[str, str], kind: str, problems: Problems) -> None:
    check_selector(selector, "spec.selector", problems)
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        why = f"empty selector is invalid for {kind}"
        problems.invalid("spec.selector", selector, why, text=selector_shown(selector))
    elif selector_is_usable(selector) and not LabelSelector.of(selector).matches(labels):
        problems.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
