"""What a pod wants of the pods around it: pod affinity and anti-affinity, topology spread. Pure.

A constraint is evaluated once for all nodes, since it is about counts per domain (the value of a
node label): each function here returns a test of one node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mininetes.agents.scheduler.loads import REQUIRED, NodeLoad, PodNeeds
from mininetes.agents.scheduler.node_selection import selects
from mininetes.apiserver.selectors import LabelSelector

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"
SPREAD = "node(s) didn't match pod topology spread constraints"
SPREAD_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"

NodeTest = Callable[[NodeLoad], str]
"""Why a node is no good; empty when it is."""


def node_tests(pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> list[NodeTest]:
    """All the tests that come from other pods, in the order in which kube-scheduler's plugins run."""
    affinity = pod.spec.get("affinity") or {}
    tests = [_spread_test(each, pod, loads) for each in _constraints(pod.spec, "DoNotSchedule")]
    tests += [_affinity_test(term, pod, loads) for term in (affinity.get("podAffinity") or {}).get(REQUIRED) or ()]
    tests += [_anti_affinity_test(term, pod, loads) for term in pod.guards]
    tests += _existing_tests(pod, loads)
    return tests


def soft_skew(pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> Callable[[NodeLoad], int]:
    """How many like pods are in a node's domains already, over the constraints that are a wish (ScheduleAnyway)."""
    wishes = [(str(c.get("topologyKey")), _per_domain(c, pod, loads)) for c in _constraints(pod.spec, "ScheduleAnyway")]
    return lambda load: sum(counts[load.labels.get(key, "")] for key, counts in wishes)


def soft_affinity(pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> Callable[[NodeLoad], int]:
    """The weights of the preferred pod (anti-)affinity terms that a node meets, those against it negative."""
    affinity = pod.spec.get("affinity") or {}
    weighted: list[tuple[int, str, set[str]]] = []
    for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for each in (affinity.get(kind) or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            term = each.get("podAffinityTerm") or {}
            weight = sign * int(each.get("weight") or 0)
            weighted.append((weight, str(term.get("topologyKey")), _domains_with(term, pod, loads)))
    return lambda load: sum(weight for weight, key, there in weighted if load.labels.get(key, "") in there)


def _constraints(spec: Mapping[str, Any], when: str) -> list[Mapping[str, Any]]:
    found = spec.get("topologySpreadConstraints") or ()
    return [each for each in found if (each.get("whenUnsatisfiable") or "DoNotSchedule") == when]


def _takes(term: Mapping[str, Any], owner: PodNeeds, other: PodNeeds) -> bool:
    """Whether an affinity term of ``owner`` is about ``other``: namespace and labels."""
    if term.get("namespaceSelector") is None or term.get("namespaces"):
        if other.namespace not in (term.get("namespaces") or [owner.namespace]):
            return False
    elif term["namespaceSelector"]:
        return False  # namespaces by label: not known here, so none is meant; {} means all
    selector = term.get("labelSelector")
    return selector is not None and LabelSelector.of(selector).matches(other.labels)


def _domains_with(term: Mapping[str, Any], pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> set[str]:
    """The domains in which a pod runs that the term is about."""
    key = str(term.get("topologyKey"))
    found = set()
    for load in loads.values():
        domain = load.labels.get(key)
        if domain is not None and domain not in found and any(_takes(term, pod, p) for p in load.pods.values()):
            found.add(domain)
    return found


def _affinity_test(term: Mapping[str, Any], pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> NodeTest:
    key, there = str(term.get("topologyKey")), _domains_with(term, pod, loads)
    # The first pod of a group that wants to be with its like finds none: it may go anywhere that has the label.
    first = not there and _takes(term, pod, pod)
    return lambda load: "" if key in load.labels and (first or load.labels[key] in there) else AFFINITY


def _anti_affinity_test(term: Mapping[str, Any], pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> NodeTest:
    key, there = str(term.get("topologyKey")), _domains_with(term, pod, loads)
    return lambda load: ANTI_AFFINITY if load.labels.get(key, "") in there else ""


def _existing_tests(pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> list[NodeTest]:
    """Pods that run and do not want this one near them."""
    forbidden: set[tuple[str, str]] = set()
    for load in loads.values():
        for other in load.guarded.values():
            for term in other.guards:
                key = str(term.get("topologyKey"))
                if key in load.labels and _takes(term, other, pod):
                    forbidden.add((key, load.labels[key]))
    if not forbidden:
        return []
    return [lambda load: EXISTING_ANTI_AFFINITY if not forbidden.isdisjoint(load.labels.items()) else ""]


def _per_domain(constraint: Mapping[str, Any], pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> Counter[str]:
    """How many pods each domain has that the constraint counts; domains are those of nodes the pod may be on."""
    key = str(constraint.get("topologyKey"))
    selector = LabelSelector.of(_with_own_labels(constraint, pod))
    counts: Counter[str] = Counter()
    for load in loads.values():
        domain = load.labels.get(key)
        if domain is None or not selects(pod.spec, load.name, load.labels):
            continue
        counts[domain] += sum(
            1
            for other in load.pods.values()
            if other.namespace == pod.namespace and not other.terminating and selector.matches(other.labels)
        )
    return counts


def _with_own_labels(constraint: Mapping[str, Any], pod: PodNeeds) -> Mapping[str, Any] | None:
    """The constraint's selector, with the pod's own values of its matchLabelKeys (such as pod-template-hash)."""
    selector = constraint.get("labelSelector")
    keys = [key for key in constraint.get("matchLabelKeys") or () if key in pod.labels]
    if selector is None or not keys:
        return selector
    return {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), **{k: pod.labels[k] for k in keys}}}


def _spread_test(constraint: Mapping[str, Any], pod: PodNeeds, loads: Mapping[str, NodeLoad]) -> NodeTest:
    key, most = str(constraint.get("topologyKey")), int(constraint.get("maxSkew") or 1)
    counts = _per_domain(constraint, pod, loads)
    least = min(counts.values(), default=0)
    if len(counts) < int(constraint.get("minDomains") or 1):
        least = 0
    selector = _with_own_labels(constraint, pod)
    own = 1 if selector is not None and LabelSelector.of(selector).matches(pod.labels) else 0

    def test(load: NodeLoad) -> str:
        if key not in load.labels:
            return SPREAD_LABEL
        return SPREAD if counts[load.labels[key]] + own - least > most else ""

    return test
