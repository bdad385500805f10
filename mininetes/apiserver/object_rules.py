"""Rules for workloads, nodes, and the kinds with little to check."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mininetes.apiserver.pod_rules import check_template
from mininetes.apiserver.problems import Problems
from mininetes.field_rules import (
    data_key_problem,
    ipv4_network_problem,
    label_value_problem,
    qualified_name_problem,
)

Object = Mapping[str, Any]
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PERCENTAGE: Final = re.compile("[0-9]+%")
_PERCENTAGE_PROBLEM: Final = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)
_MOST_DATA_BYTES: Final = 1024 * 1024
_COUNTS: Final = ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")


def check_deployment(obj: Object, problems: Problems) -> None:
    """A deployment."""
    spec = obj.get("spec") or {}
    _check_counts(spec, problems)
    check_template(spec, problems, "deployment")
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds", 0)
    if deadline is not None and deadline <= ready:
        problems.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
    strategy = spec.get("strategy") or {}
    if kind := strategy.get("type"):
        problems.unsupported("spec.strategy.type", kind, ("Recreate", "RollingUpdate"))
    if (rolling := strategy.get("rollingUpdate")) is not None:
        if kind == "Recreate":
            why = "may not be specified when strategy `type` is 'Recreate'"
            problems.forbidden("spec.strategy.rollingUpdate", why)
        else:
            _check_rolling(rolling, "spec.strategy.rollingUpdate", problems)


def check_replica_set(obj: Object, problems: Problems) -> None:
    """A replica set."""
    spec = obj.get("spec") or {}
    _check_counts(spec, problems)
    check_template(spec, problems, "replicaset")


def check_daemon_set(obj: Object, problems: Problems) -> None:
    """A daemon set."""
    spec = obj.get("spec") or {}
    _check_counts(spec, problems)
    check_template(spec, problems, "daemonset")
    strategy = spec.get("updateStrategy") or {}
    if kind := strategy.get("type"):
        problems.unsupported("spec.updateStrategy.type", kind, ("OnDelete", "RollingUpdate"))
    for name, value in (strategy.get("rollingUpdate") or {}).items():
        _check_share(value, f"spec.updateStrategy.rollingUpdate.{name}", problems)


def _check_counts(spec: Object, problems: Problems) -> None:
    for name in _COUNTS:
        problems.not_negative(f"spec.{name}", spec.get(name))


def _check_share(value: Any, field: str, problems: Problems) -> None:
    """A number of pods or a percentage of them."""
    if isinstance(value, str):
        problems.invalid(field, value, "" if _PERCENTAGE.fullmatch(value) else _PERCENTAGE_PROBLEM)
    else:
        problems.not_negative(field, value)


def _check_rolling(rolling: Object, field: str, problems: Problems) -> None:
    for name in ("maxUnavailable", "maxSurge"):
        if (value := rolling.get(name)) is not None:
            _check_share(value, f"{field}.{name}", problems)
    unavailable = rolling.get("maxUnavailable")
    if unavailable in (0, "0%") and rolling.get("maxSurge") in (0, "0%"):
        problems.invalid(f"{field}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    if isinstance(unavailable, str) and _PERCENTAGE.fullmatch(unavailable) and int(unavailable[:-1]) > 100:
        problems.invalid(f"{field}.maxUnavailable", unavailable, "must not be greater than 100%")


def check_node(obj: Object, problems: Problems) -> None:
    """A node."""
    spec = obj.get("spec") or {}
    ranges = [each for each in (spec.get("podCIDR"), *(spec.get("podCIDRs") or ())) if each]
    for each in dict.fromkeys(ranges):
        problems.invalid("spec.podCIDRs", each, ipv4_network_problem(each))
    seen = set()
    for at, taint in enumerate(spec.get("taints") or ()):
        where = f"spec.taints[{at}]"
        key, effect = taint.get("key"), taint.get("effect")
        if key:
            problems.invalid(f"{where}.key", key, qualified_name_problem(key))
        if effect:
            problems.unsupported(f"{where}.effect", effect, _EFFECTS)
        if value := taint.get("value"):
            problems.invalid(f"{where}.value", value, label_value_problem(value))
        if (key, effect) in seen:
            problems.duplicate(where, {"key": key, "effect": effect})
        seen.add((key, effect))


def check_config_map(obj: Object, problems: Problems) -> None:
    """A config map."""
    _check_data(obj, ("data", "binaryData"), problems)
    for key in (obj.get("data") or {}).keys() & (obj.get("binaryData") or {}).keys():
        problems.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")


def check_secret(obj: Object, problems: Problems) -> None:
    """A secret."""
    _check_data(obj, ("data", "stringData"), problems)


def _check_data(obj: Object, fields: tuple[str, ...], problems: Problems) -> None:
    size = 0
    for field in fields:
        for key, value in (obj.get(field) or {}).items():
            problems.invalid(f"{field}[{key}]", key, data_key_problem(key))
            size += len(value.encode()) if field in ("data", "stringData") else len(value) * 3 // 4
    if size > _MOST_DATA_BYTES:
        problems.too_long("", _MOST_DATA_BYTES)


def check_lease(obj: Object, problems: Problems) -> None:
    """A lease."""
    spec = obj.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        problems.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    problems.not_negative("spec.leaseTransitions", transitions)


def check_event(obj: Object, problems: Problems) -> None:
    """An event in either group's words: it lies in the namespace of what it is about."""
    field = "involvedObject" if "involvedObject" in obj else "regarding"
    about = obj.get(field) or {}
    namespace = (obj.get("metadata") or {}).get("namespace")
    expected = about.get("namespace") or "default"
    if (
        namespace is not None
        and namespace != expected
        and not (namespace == "kube-system" and not about.get("namespace"))
    ):
        problems.invalid(f"{field}.namespace", about.get("namespace", ""), "does not match event.namespace")
