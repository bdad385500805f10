"""What the cluster's names are: a pure view of services, endpoint slices and namespaces, and the answers from it.

The names are those of Kubernetes' DNS-based service discovery specification, version 1.1.0, and
where that leaves a choice those of CoreDNS's kubernetes plugin as kubeadm configures it ("pods insecure"):

    SVC.NS.svc.DOMAIN                     A: the service's address, or (headless) its endpoints'
    ENDPOINT.SVC.NS.svc.DOMAIN            A: one endpoint, by hostname or by its address with dashes
    _PORT._PROTO.SVC.NS.svc.DOMAIN        SRV: port and name of the service or of its endpoints
    10-244-1-5.NS.pod.DOMAIN              A: the address that the name says
    5.1.244.10.in-addr.arpa               PTR: the service with that address, or the endpoints at it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Literal

VERSION = "1.1.0"
REVERSE = ("arpa", "in-addr")


@dataclass(frozen=True)
class Record:
    """A record of an answer. ``name`` and names in ``data`` are without the last dot."""

    name: str
    kind: str
    data: str


Result = Literal["found", "no data", "no name", "elsewhere"]
"""Elsewhere: the name is not in the cluster's domains, so nothing can be said of it."""


@dataclass(frozen=True)
class Answer:
    """What there is to say about a name and a type of record."""

    result: Result
    records: Sequence[Record] = ()
    additional: Sequence[Record] = ()


@dataclass(frozen=True)
class Target:
    """An endpoint: its label under the service, its address, and its ports as (name, protocol, number)."""

    label: str
    address: str
    ports: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class Service:
    """A service as its names need it. ``cluster_ip`` is empty for headless ones."""

    name: str
    namespace: str
    cluster_ip: str = ""
    external_name: str = ""
    ports: tuple[tuple[str, str, int], ...] = ()
    targets: tuple[Target, ...] = field(default=())


def service_of(obj: Mapping[str, Any], slices: Iterable[Mapping[str, Any]]) -> Service:
    """A service from its object and its endpoint slices; only endpoints that are ready count."""
    spec, metadata = obj["spec"], obj["metadata"]
    cluster_ip = spec.get("clusterIP") or ""
    ports = tuple(
        (p.get("name") or "", (p.get("protocol") or "TCP").lower(), p["port"]) for p in spec.get("ports") or ()
    )
    if spec.get("type") == "ExternalName":
        return Service(metadata["name"], metadata["namespace"], external_name=spec.get("externalName") or "")
    return Service(
        metadata["name"],
        metadata["namespace"],
        "" if cluster_ip == "None" else cluster_ip,
        "",
        ports,
        tuple(sorted(set(_targets(slices)), key=lambda target: (target.address, target.label))),
    )


def _targets(slices: Iterable[Mapping[str, Any]]) -> Iterator[Target]:
    for found in slices:
        if found.get("addressType", "IPv4") != "IPv4":
            continue
        ports = tuple(_port(each) for each in found.get("ports") or ())
        for endpoint in found.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint["addresses"]:
                yield Target((endpoint.get("hostname") or dashed(address)).lower(), address, ports)


def _port(port: Mapping[str, Any]) -> tuple[str, str, int]:
    return port.get("name") or "", (port.get("protocol") or "TCP").lower(), port.get("port") or 0


def dashed(address: str) -> str:
    """An address as a label: 10-244-1-5."""
    return address.replace(".", "-")


class Zone:
    """The names of one cluster domain. Answers are made when asked for, from what was put in last."""

    def __init__(self, domain: str = "cluster.local") -> None:
        self.domain = domain.strip(".").lower()
        self._domain = tuple(reversed(self.domain.split(".")))
        self._services: dict[tuple[str, str], Service] = {}
        self._by_ip: dict[str, Service] = {}
        self._endpoints: dict[str, dict[tuple[str, str], str]] = {}
        self._namespaces: dict[str, int] = {}

    def put_namespace(self, name: str) -> None:
        """A namespace is there. Namespaces of services are known by these too."""
        self._count(name, 1)

    def remove_namespace(self, name: str) -> None:
        """A namespace is gone."""
        self._count(name, -1)

    def put(self, service: Service) -> None:
        """A service is there, or has changed, or its endpoints have."""
        self.remove(service.namespace, service.name)
        key = (service.namespace, service.name)
        self._services[key] = service
        self._count(service.namespace, 1)
        if service.cluster_ip:
            self._by_ip[service.cluster_ip] = service
        for target in service.targets:
            self._endpoints.setdefault(target.address, {})[key] = target.label

    def remove(self, namespace: str, name: str) -> None:
        """A service is gone. Does nothing when it was not there."""
        service = self._services.pop((namespace, name), None)
        if service is None:
            return
        self._count(namespace, -1)
        if self._by_ip.get(service.cluster_ip) is service:
            del self._by_ip[service.cluster_ip]
        for target in service.targets:
            there = self._endpoints.get(target.address)
            if there is not None:
                there.pop((namespace, name), None)
                if not there:
                    del self._endpoints[target.address]

    def answer(self, name: str, kind: str) -> Answer:
        """What there is for a name (without the last dot, in any case) and a type ("A", "SRV", ...)."""
        asked = name.lower()
        labels = tuple(reversed(asked.split(".")))
        if labels[: len(self._domain)] == self._domain:
            return self._inside(name, labels[len(self._domain) :], kind)
        if labels[:2] == REVERSE:
            return self._reverse(name, labels[2:], kind)
        if labels[:2] == ("arpa", "ip6"):
            return Answer("no name")
        return Answer("elsewhere")

    def name_of(self, service: Service) -> str:
        """The full name of a service."""
        return f"{service.name}.{service.namespace}.svc.{self.domain}"

    def _count(self, namespace: str, by: int) -> None:
        count = self._namespaces.get(namespace, 0) + by
        if count > 0:
            self._namespaces[namespace] = count
        else:
            self._namespaces.pop(namespace, None)

    def _inside(self, name: str, labels: Sequence[str], kind: str) -> Answer:
        """Names under the domain; ``labels`` are those before it, the last one first."""
        match labels:
            case []:
                return _of(kind, [Record(name, "NS", f"ns.dns.{self.domain}"), Record(name, "SOA", "")])
            case ["dns-version"]:
                return _of(kind, [Record(name, "TXT", VERSION)])
            case ["svc" | "pod", *rest]:
                return self._in_namespace(name, labels[0], rest, kind)
        return Answer("no data" if labels in (("dns",), ("dns", "ns")) else "no name")

    def _in_namespace(self, name: str, tree: str, labels: Sequence[str], kind: str) -> Answer:
        if not labels:
            return Answer("no data")
        namespace, rest = labels[0], labels[1:]
        if namespace not in self._namespaces:
            return Answer("no name")
        if not rest:
            return Answer("no data")
        if tree == "pod":
            return _pod(name, rest[0], kind) if len(rest) == 1 else Answer("no name")
        service = self._services.get((namespace, rest[0]))
        return self._service(name, service, rest[1:], kind) if service is not None else Answer("no name")

    def _service(self, name: str, service: Service, rest: Sequence[str], kind: str) -> Answer:
        if service.external_name:
            return self._external(name, service, kind) if not rest else Answer("no name")
        match rest:
            case []:
                return self._whole(name, service, kind)
            case ["_tcp" | "_udp" | "_sctp"]:
                return Answer("no data")
            case [protocol, port] if protocol.startswith("_") and port.startswith("_"):
                return self._port(name, service, port[1:], protocol[1:], kind)
            case [label]:
                targets = [target for target in service.targets if target.label == label]
                if targets:
                    records = [Record(name, "A", address) for address in _addresses(targets)]
                    return _of(kind, [*records, *self._srv(name, service, targets)], self._glue(service, targets, kind))
        return Answer("no name")

    def _whole(self, name: str, service: Service, kind: str) -> Answer:
        """A headless service without endpoints has no addresses, but is a name."""
        addresses = [service.cluster_ip] if service.cluster_ip else _addresses(service.targets)
        records = [Record(name, "A", address) for address in addresses]
        records += self._srv(name, service, service.targets)
        return _of(kind, records, self._glue(service, service.targets, kind))

    def _port(self, name: str, service: Service, port: str, protocol: str, kind: str) -> Answer:
        if service.cluster_ip:
            if not any(_is(each, port, protocol) for each in service.ports):
                return Answer("no name")
            addresses, targets = [service.cluster_ip], list(service.targets)
        else:
            targets = [t for t in service.targets if any(_is(each, port, protocol) for each in t.ports)]
            addresses = _addresses(targets)
            if not targets:
                return Answer("no name")
        records = [Record(name, "A", address) for address in addresses]
        records += self._srv(name, service, targets, port, protocol)
        return _of(kind, records, self._glue(service, targets, kind))

    def _srv(
        self, name: str, service: Service, targets: Iterable[Target], port: str = "*", protocol: str = "*"
    ) -> list[Record]:
        """A service's SRV records: of priority 0, and of weights that share 100 out evenly."""
        if service.cluster_ip:
            pairs = [(self.name_of(service), each) for each in service.ports if _is(each, port, protocol)]
        else:
            full = self.name_of(service)
            pairs = [
                (f"{target.label}.{full}", each)
                for target in targets
                for each in target.ports
                if _is(each, port, protocol)
            ]
        weight = 100 // max(1, len(pairs))
        return [Record(name, "SRV", f"0 {max(1, weight)} {number} {host}") for host, (_, _, number) in pairs]

    def _glue(self, service: Service, targets: Iterable[Target], kind: str) -> list[Record]:
        """The addresses of what SRV records name."""
        if kind != "SRV":
            return []
        full = self.name_of(service)
        if service.cluster_ip:
            return [Record(full, "A", service.cluster_ip)]
        return [Record(f"{target.label}.{full}", "A", target.address) for target in targets]

    def _external(self, name: str, service: Service, kind: str) -> Answer:
        """A CNAME, and what it leads to as far as that is here."""
        alias = Record(name, "CNAME", service.external_name.strip("."))
        if kind in ("CNAME", "ANY"):
            return Answer("found", [alias])
        records = [alias]
        seen = {name.lower()}
        while records[-1].kind == "CNAME" and records[-1].data.lower() not in seen:
            target = records[-1].data
            seen.add(target.lower())
            found = self._next(target, kind)
            records += found
            if not found:
                break
        return Answer("found", records)

    def _next(self, target: str, kind: str) -> Sequence[Record]:
        """One step of a chain of aliases."""
        labels = tuple(reversed(target.lower().split(".")))
        if labels[: len(self._domain)] != self._domain:
            return []
        match labels[len(self._domain) :]:
            case ["svc", namespace, service] if (namespace, service) in self._services:
                found = self._services[namespace, service]
                if found.external_name:
                    return [Record(target, "CNAME", found.external_name.strip("."))]
        return self.answer(target, kind).records

    def _reverse(self, name: str, labels: Sequence[str], kind: str) -> Answer:
        try:
            address = str(IPv4Address(".".join(labels)))
        except AddressValueError:
            return Answer("no data" if self._is_above(labels) else "no name")
        service = self._by_ip.get(address)
        if service is not None:
            return _of(kind, [Record(name, "PTR", self.name_of(service))])
        found = self._endpoints.get(address, {})
        names = [
            f"{label}.{service}.{namespace}.svc.{self.domain}" for (namespace, service), label in sorted(found.items())
        ]
        if not names:
            return Answer("no name")
        return _of(kind, [Record(name, "PTR", each) for each in names])

    def _is_above(self, labels: Sequence[str]) -> bool:
        """Whether names that are there lie below this part of the reverse tree."""
        start = ".".join(labels) + "." if labels else ""
        return any(address.startswith(start) for known in (self._by_ip, self._endpoints) for address in known)


def _of(kind: str, records: Sequence[Record], additional: Sequence[Record] = ()) -> Answer:
    """The records of a type among those of a name that is there."""
    found = [each for each in records if kind in ("ANY", each.kind)]
    return Answer("found", found, additional) if found else Answer("no data")


def _is(port: tuple[str, str, int], name: str, protocol: str) -> bool:
    return name in ("*", port[0]) and protocol in ("*", port[1])


def _addresses(targets: Iterable[Target]) -> list[str]:
    return list(dict.fromkeys(target.address for target in targets))


def _pod(name: str, label: str, kind: str) -> Answer:
    try:
        address = str(IPv4Address(label.replace("-", ".")))
    except AddressValueError:
        return Answer("no name")
    return _of(kind, [Record(name, "A", address)])
