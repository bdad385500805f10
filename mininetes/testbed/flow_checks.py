"""Packet flows as far as they can be checked without a lab: the fields that there are, and their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mininetes.agents.kubeproxy.configuration import MODES
from mininetes.errors import BadInput

Flow = Mapping[str, Any]
_NEEDED = ("id", "service", "endpoints", "from", "to", "expect", "modes")
_ID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,56}[A-Za-z0-9])?")
_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_SENDERS = ("pod", "node", "localhost", "outside", "blocked", "node, from the load balancer's address")
_ADDRESSES = ("clusterIP", "nodePort", "externalIP", "loadBalancerIP", "localhost", "second node address",
              "healthCheckNodePort")  # fmt: skip
_OUTCOMES = ("DNAT", "REJECT", "DROP", "NOMATCH", "CLOSED", "ACCEPT")
_POLICIES = ("Cluster", "Local")
_CONDITIONS = ("ready", "serving", "terminating")


def checked_flows(flows: Iterable[Any], lines: Sequence[int] = ()) -> list[Flow]:
    """Flows as they are. ``lines``: where each stands in its file. Raises BadInput, which names line and field."""
    found = []
    for at, flow in enumerate(flows):
        place = f"--flows, line {lines[at] if lines else at + 1}"
        lacking = [key for key in _NEEDED if not isinstance(flow, Mapping) or key not in flow]
        if lacking:
            raise BadInput(place, None, f"a packet flow; it lacks {', '.join(lacking)}")
        _Check(place, flow).all()
        found.append(flow)
    return found


class _Check:
    """Checks one flow."""

    def __init__(self, place: str, flow: Flow) -> None:
        self._place, self._flow = place, flow
        self._names: list[str] = []

    def all(self) -> None:
        """Raises BadInput at the first value that cannot be."""
        flow = self._flow
        if not isinstance(flow["id"], str) or not _ID.fullmatch(flow["id"]):
            self._refuse("id", flow["id"], "letters, digits and dashes, at most 58")
        self._service(self._mapping("service", flow["service"]))
        self._endpoints(self._list("endpoints", flow["endpoints"]))
        self._choice("from", flow["from"], (*_SENDERS, *(f"endpoint {name}" for name in self._names)))
        to = self._mapping("to", flow["to"])
        self._choice("to.address", to.get("address"), _ADDRESSES)
        self._port("to.port", to.get("port"))
        self._choice("to.protocol", to.get("protocol"), _PROTOCOLS)
        for mode in self._list("modes", flow["modes"]):
            self._choice("modes", mode, MODES)
        self._outcome("expect", flow["expect"])
        for mode, said in self._mapping("in_mode", flow.get("in_mode") or {}).items():
            self._choice("in_mode", mode, MODES)
            self._outcome(f"in_mode.{mode}", said)
        self._mapping("proxy", flow.get("proxy") or {})

    def _refuse(self, field: str, value: Any, right: str) -> None:
        raise BadInput(f"{self._place}: {field}", value if isinstance(value, str) else str(value), right)

    def _of(self, kind: type, right: str, field: str, value: Any) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self._refuse(field, value, right)
        return value

    def _mapping(self, field: str, value: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._of(dict, "a mapping", field, value)
        return found

    def _list(self, field: str, value: Any) -> list[Any]:
        found: list[Any] = self._of(list, "a list", field, value)
        return found

    def _choice(self, field: str, value: Any, choices: Sequence[str]) -> None:
        if value not in choices:
            self._refuse(field, value, f"one of {'; '.join(choices)}" if field == "from" else _one_of(choices))

    def _port(self, field: str, value: Any) -> None:
        if not 1 <= self._of(int, "a port, 1 to 65535", field, value) <= 65535:
            self._refuse(field, value, "a port, 1 to 65535")

    def _given(self, of: Mapping[str, Any], where: str, keys: Iterable[str], check: Callable[[str, Any], Any]) -> None:
        for key in keys:
            if key in of:
                check(f"{where}.{key}", of[key])

    def _service(self, service: Mapping[str, Any]) -> None:
        self._choice("service.type", service.get("type"), _TYPES)
        ports = self._list("service.ports", service.get("ports"))
        if not ports:
            self._refuse("service.ports", ports, "at least one port")
        for at, port in enumerate(ports):
            where = f"service.ports[{at}]"
            self._mapping(where, port)
            self._port(f"{where}.port", port.get("port"))
            self._choice(f"{where}.protocol", port.get("protocol", "TCP"), _PROTOCOLS)
            self._given(port, where, ("targetPort", "nodePort"), self._port)
        policies = ("externalTrafficPolicy", "internalTrafficPolicy")
        self._given(service, "service", policies, lambda field, value: self._choice(field, value, _POLICIES))
        affinities = ("None", "ClientIP")
        self._given(
            service, "service", ("sessionAffinity",), lambda field, value: self._choice(field, value, affinities)
        )
        numbers = ("externalIPs", "loadBalancerIPs", "sessionAffinityTimeoutSeconds", "healthCheckNodePort")
        self._given(service, "service", numbers, lambda field, value: self._of(int, "a number", field, value))
        self._given(service, "service", ("loadBalancerSourceRanges",), self._ranges)
        self._given(service, "service", ("annotations",), self._mapping)

    def _ranges(self, field: str, value: Any) -> None:
        for each in self._list(field, value):
            self._choice(field, each, ("nodes", "outside"))

    def _endpoints(self, endpoints: list[Any]) -> None:
        for at, endpoint in enumerate(endpoints):
            where = f"endpoints[{at}]"
            name = self._mapping(where, endpoint).get("name")
            if not isinstance(name, str) or not name or name in self._names:
                self._refuse(f"{where}.name", name, "a name that no other endpoint of the flow has")
            self._names.append(str(name))
            self._choice(f"{where}.node", endpoint.get("node"), ("here", "elsewhere"))
            self._given(endpoint, where, _CONDITIONS, lambda f, value: self._of(bool, "true or false", f, value))
            self._given(endpoint, where, ("zoneHint",), lambda f, value: self._of(str, "a zone", f, value))

    def _outcome(self, where: str, said: Any) -> None:
        self._choice(f"{where}.outcome", self._mapping(where, said).get("outcome"), _OUTCOMES)
        for name in self._list(f"{where}.endpoints", said.get("endpoints", [])):
            self._choice(f"{where}.endpoints", name, self._names)
        keys = ("masquerade", "sticky")
        self._given(said, where, keys, lambda field, value: self._of(bool, "true or false", field, value))


def _one_of(choices: Sequence[str]) -> str:
    return f"one of {', '.join(choices)}" if choices else "none: the flow has no endpoints"
