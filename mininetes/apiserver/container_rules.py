"""Rules for containers: names, ports, variables, probes, amounts, mounts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from mininetes.apiserver.problems import Problems
from mininetes.field_rules import (
    dns_label_problem,
    ipv4_problem,
    port_name_problem,
    port_problem,
    qualified_name_problem,
)

Object = Mapping[str, Any]
PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_VARIABLE: Final = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_VARIABLE_PROBLEM: Final = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not "
    "start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is "
    "'[-._a-zA-Z][-._a-zA-Z0-9]*')"
)
_STANDARD_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")
_UNITS: Final = {
    **{"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(1000)},
    **{unit: Fraction(1000**power) for power, unit in enumerate("MGTPE", start=2)},
    **{f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", start=1)},
}


_LARGEST_EXPONENT: Final = 30
"""What is beyond counts as this, so that no number takes long."""


@lru_cache(maxsize=1024)
def amount(quantity: str) -> Fraction:
    """The number that a quantity means: ``500m`` is 1/2. It must have the format of a quantity."""
    found = re.fullmatch(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([numkKMGTPE]i?))?", quantity)
    if found is None:
        raise ValueError(f"not a quantity: {quantity}")
    if found[2]:
        exponent = max(-_LARGEST_EXPONENT, min(_LARGEST_EXPONENT, int(found[2][1:])))
        return Fraction(found[1]) * Fraction(10) ** exponent
    return Fraction(found[1]) * _UNITS[found[3] or ""]


def check_containers(spec: Object, field: str, volumes: set[str], problems: Problems) -> None:
    """All containers of a pod's spec; ``volumes`` are the names of its volumes."""
    containers, beginning = spec.get("containers") or (), spec.get("initContainers") or ()
    names: set[str] = set()
    for kind, group in (("initContainers", beginning), ("containers", containers)):
        for at, container in enumerate(group):
            where = f"{field}.{kind}[{at}]"
            name = container.get("name")
            if name in names:
                problems.duplicate(f"{where}.name", name)
            elif name:
                names.add(name)
                problems.invalid(f"{where}.name", name, dns_label_problem(name))
            _check_container(container, where, volumes, problems)
            if kind == "initContainers" and container.get("restartPolicy") != "Always":
                _refuse_probes(container, where, problems)
    _check_host_ports(containers, spec.get("hostNetwork", False), field, problems)


def _check_container(container: Object, field: str, volumes: set[str], problems: Problems) -> None:
    image = container.get("image")
    if not image:
        problems.required(f"{field}.image")
    elif image != image.strip():
        problems.invalid(f"{field}.image", image, "must not have leading or trailing whitespace")
    if (policy := container.get("imagePullPolicy")) is not None:
        problems.unsupported(f"{field}.imagePullPolicy", policy, _PULL_POLICIES)
    if ports := container.get("ports"):
        _check_ports(ports, f"{field}.ports", problems)
    for at, variable in enumerate(container.get("env") or ()):
        _check_variable(variable, f"{field}.env[{at}]", problems)
    if mounts := container.get("volumeMounts"):
        _check_mounts(mounts, f"{field}.volumeMounts", volumes, problems)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(name)) is not None:
            _check_probe(probe, f"{field}.{name}", name, problems)
    for name, handler in (container.get("lifecycle") or {}).items():
        _check_handler(handler, f"{field}.lifecycle.{name}", (*_HANDLERS, "sleep"), problems)
    if resources := container.get("resources"):
        _check_resources(resources, f"{field}.resources", problems)


def _refuse_probes(container: Object, field: str, problems: Problems) -> None:
    for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            problems.forbidden(f"{field}.{name}", "may not be set for init containers without restartPolicy=Always")


def _check_ports(ports: Sequence[Object], field: str, problems: Problems) -> None:
    problems.unique(field, (each.get("name") for each in ports), ".name")
    for at, port in enumerate(ports):
        where = f"{field}[{at}]"
        if name := port.get("name"):
            problems.invalid(f"{where}.name", name, port_name_problem(name))
        for kind in ("containerPort", "hostPort"):
            if (number := port.get(kind)) is not None and (number or kind == "containerPort"):
                problems.invalid(f"{where}.{kind}", number, port_problem(number))
        if (protocol := port.get("protocol")) is not None:
            problems.unsupported(f"{where}.protocol", protocol, PROTOCOLS)
        if address := port.get("hostIP"):
            problems.invalid(f"{where}.hostIP", address, ipv4_problem(address))


def _check_host_ports(containers: Sequence[Object], host_network: bool, field: str, problems: Problems) -> None:
    taken = set()
    for at, container in enumerate(containers):
        for index, port in enumerate(container.get("ports") or ()):
            number = port.get("hostPort")
            where = f"{field}.containers[{at}].ports[{index}]"
            if host_network and number and number != port.get("containerPort"):
                problems.invalid(
                    f"{where}.containerPort",
                    port.get("containerPort"),
                    "must match `hostPort` when `hostNetwork` is true",
                )
            if not number:
                continue
            key = (number, port.get("protocol", "TCP"), port.get("hostIP", ""))
            if key in taken:
                problems.duplicate(f"{where}.hostPort", f"{key[2]}/{number}/{key[1]}".lstrip("/"))
            taken.add(key)


def _check_variable(variable: Object, field: str, problems: Problems) -> None:
    name = variable.get("name")
    if name and not _VARIABLE.fullmatch(name):
        problems.invalid(f"{field}.name", name, _VARIABLE_PROBLEM)
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        problems.invalid(f"{field}.valueFrom", "", "may not be specified when `value` is not empty")
    if len(source) != 1:
        why = (
            "may not have more than one field specified at a time"
            if source
            else "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        )
        problems.invalid(f"{field}.valueFrom", "", why)


def _check_mounts(mounts: Sequence[Object], field: str, volumes: set[str], problems: Problems) -> None:
    seen = set()
    for at, mount in enumerate(mounts):
        name, path = mount.get("name"), mount.get("mountPath")
        if name and name not in volumes:
            problems.not_found(f"{field}[{at}].name", name)
        if path in seen:
            problems.invalid(f"{field}[{at}].mountPath", path, "must be unique")
        seen.add(path)
        if mount.get("subPath", "").startswith("/"):
            problems.invalid(f"{field}[{at}].subPath", mount["subPath"], "must be a relative path")


def _check_probe(probe: Object, field: str, kind: str, problems: Problems) -> None:
    _check_handler(probe, field, _HANDLERS, problems)
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        problems.not_negative(f"{field}.{name}", probe.get(name))
    if kind != "readinessProbe" and probe.get("successThreshold", 1) not in (0, 1):
        problems.invalid(f"{field}.successThreshold", probe["successThreshold"], "must be 1")


def _check_handler(handler: Object, field: str, choices: Sequence[str], problems: Problems) -> None:
    """What a probe or a hook does: exactly one thing."""
    found = [name for name in choices if name in handler]
    if not found:
        problems.required(field, "must specify a handler type")
    for name in found[1:]:
        problems.forbidden(f"{field}.{name}", "may not specify more than 1 handler type")
    for name in found:
        action = handler[name]
        if name == "exec" and not action.get("command"):
            problems.required(f"{field}.exec.command")
        elif (port := action.get("port")) is not None:
            problem = port_name_problem(port) if isinstance(port, str) else port_problem(port)
            problems.invalid(f"{field}.{name}.port", port, problem)
        if name == "httpGet" and action.get("scheme"):
            problems.unsupported(f"{field}.httpGet.scheme", action["scheme"], ("HTTP", "HTTPS"))


def _check_resources(resources: Object, field: str, problems: Problems) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, quantity in amounts.items():
            where = f"{field}.{kind}"
            if "/" in name:
                problems.invalid(f"{where}[{name}]", name, qualified_name_problem(name))
            elif name not in _STANDARD_RESOURCES and not name.startswith("hugepages-"):
                problems.invalid(f"{where}[{name}]", name, "must be a standard resource for containers")
            if amount(quantity) < 0:
                problems.invalid(f"{where}[{name}]", quantity, "must be greater than or equal to 0")
    for name, quantity in requests.items():
        if name in limits and amount(quantity) > amount(limits[name]):
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            problems.invalid(f"{field}.requests", quantity, why)
