"""What the cluster's names are: a table of questions and answers, and the messages that carry them."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from mininetes.agents.dns.messages import reply
from mininetes.agents.dns.zone import Service, Zone, service_of
from mininetes.agents.objects import service_of_slice


def service(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def slice_of(name: str, *endpoints: dict[str, Any], ports: Any = (), namespace: str = "default") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    metadata = {"name": f"{name}-x", "namespace": namespace, "labels": labels}
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": list(endpoints), "ports": list(ports)}


def at(address: str, hostname: str = "", ready: bool | None = True) -> dict[str, Any]:
    conditions = {} if ready is None else {"ready": ready}
    return {"addresses": [address], "conditions": conditions, **({"hostname": hostname} if hostname else {})}


HTTP = {"name": "http", "protocol": "TCP", "port": 80}
HTTP_TARGET = {"name": "http", "protocol": "TCP", "port": 8080}
OBJECTS = [
    service("kubernetes", clusterIP="10.96.0.1", ports=[{"name": "https", "port": 443}]),
    service("web", clusterIP="10.96.0.7", ports=[HTTP, {"name": "dns", "protocol": "UDP", "port": 53}]),
    service("db", clusterIP="None", ports=[HTTP]),
    service("bare", clusterIP="None"),
    service("nobody", clusterIP="None", ports=[HTTP]),
    service("out", type="ExternalName", externalName="www.example.com"),
    service("alias", type="ExternalName", externalName="web.default.svc.cluster.local."),
    service("loop", type="ExternalName", externalName="loop.default.svc.cluster.local"),
    service("api", "team", clusterIP="10.96.9.9", ports=[HTTP]),
]
SLICES = [
    slice_of("web", at("10.244.1.2"), ports=[HTTP_TARGET]),
    slice_of("db", at("10.244.2.2", "db-0"), at("10.244.2.3"), at("10.244.2.4", ready=False), ports=[HTTP_TARGET]),
    slice_of("bare", at("10.244.3.3", ready=None)),
    {**slice_of("web", at("fd00::1")), "addressType": "IPv6"},
]


def services_from(services: list[dict[str, Any]], slices: list[dict[str, Any]]) -> list[Service]:
    keys = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in services]
    return [
        service_of(each, [one for one in slices if service_of_slice(one) == key])
        for each, key in zip(services, keys, strict=True)
    ]


@pytest.fixture
def zone() -> Zone:
    made = Zone("cluster.local")
    for each in services_from(OBJECTS, SLICES):
        made.put(each)
    made.put_namespace("empty")
    return made


D = "default.svc.cluster.local"
ANSWERS = [
    # name, type, result, records
    (f"web.{D}", "A", "found", ["A 10.96.0.7"]),
    (f"WEB.{D.upper()}", "A", "found", ["A 10.96.0.7"]),
    (f"web.{D}", "AAAA", "no data", []),
    (f"web.{D}", "TXT", "no data", []),
    (f"kubernetes.{D}", "A", "found", ["A 10.96.0.1"]),
    (f"_http._tcp.web.{D}", "SRV", "found", [f"SRV 0 100 80 web.{D}"]),
    (f"_dns._udp.web.{D}", "SRV", "found", [f"SRV 0 100 53 web.{D}"]),
    (f"_http._udp.web.{D}", "SRV", "no name", []),
    (f"_http._tcp.web.{D}", "A", "found", ["A 10.96.0.7"]),
    (f"_tcp.web.{D}", "A", "no data", []),
    (f"web.{D}", "SRV", "found", [f"SRV 0 50 80 web.{D}", f"SRV 0 50 53 web.{D}"]),
    (f"10-244-1-2.web.{D}", "A", "found", ["A 10.244.1.2"]),
    (f"10-244-1-3.web.{D}", "A", "no name", []),
    (f"db.{D}", "A", "found", ["A 10.244.2.2", "A 10.244.2.3"]),
    (f"db-0.db.{D}", "A", "found", ["A 10.244.2.2"]),
    (f"10-244-2-2.db.{D}", "A", "no name", []),
    (f"10-244-2-3.db.{D}", "A", "found", ["A 10.244.2.3"]),
    (f"10-244-2-4.db.{D}", "A", "no name", []),
    (f"_http._tcp.db.{D}", "SRV", "found", [f"SRV 0 50 8080 db-0.db.{D}", f"SRV 0 50 8080 10-244-2-3.db.{D}"]),
    (f"_https._tcp.db.{D}", "SRV", "no name", []),
    (f"bare.{D}", "A", "found", ["A 10.244.3.3"]),
    (f"bare.{D}", "SRV", "no data", []),
    (f"nobody.{D}", "A", "no data", []),
    (f"out.{D}", "A", "found", ["CNAME www.example.com"]),
    (f"out.{D}", "CNAME", "found", ["CNAME www.example.com"]),
    (f"alias.{D}", "A", "found", [f"CNAME web.{D}", "A 10.96.0.7"]),
    (f"loop.{D}", "A", "found", [f"CNAME loop.{D}"]),
    (f"x.out.{D}", "A", "no name", []),
    ("api.team.svc.cluster.local", "A", "found", ["A 10.96.9.9"]),
    ("web.team.svc.cluster.local", "A", "no name", []),
    (f"missing.{D}", "A", "no name", []),
    (f"a.b.c.web.{D}", "A", "no name", []),
    (D, "A", "no data", []),
    ("empty.svc.cluster.local", "A", "no data", []),
    ("nowhere.svc.cluster.local", "A", "no name", []),
    ("svc.cluster.local", "A", "no data", []),
    ("cluster.local", "A", "no data", []),
    ("cluster.local", "NS", "found", ["NS ns.dns.cluster.local"]),
    ("ns.dns.cluster.local", "A", "no data", []),
    ("dns-version.cluster.local", "TXT", "found", ["TXT 1.1.0"]),
    ("other.cluster.local", "A", "no name", []),
    ("10-244-1-5.default.pod.cluster.local", "A", "found", ["A 10.244.1.5"]),
    ("10-244-1-5.default.pod.cluster.local", "AAAA", "no data", []),
    ("10-244-1-5.nowhere.pod.cluster.local", "A", "no name", []),
    ("some-pod.default.pod.cluster.local", "A", "no name", []),
    ("default.pod.cluster.local", "A", "no data", []),
    ("7.0.96.10.in-addr.arpa", "PTR", "found", [f"PTR web.{D}"]),
    ("2.2.244.10.in-addr.arpa", "PTR", "found", [f"PTR db-0.db.{D}"]),
    ("2.1.244.10.in-addr.arpa", "PTR", "found", [f"PTR 10-244-1-2.web.{D}"]),
    ("4.2.244.10.in-addr.arpa", "PTR", "no name", []),
    ("244.10.in-addr.arpa", "PTR", "no data", []),
    ("9.9.9.9.in-addr.arpa", "PTR", "no name", []),
    ("7.0.96.10.in-addr.arpa", "A", "no data", []),
    ("1.0.ip6.arpa", "PTR", "no name", []),
    ("www.example.com", "A", "elsewhere", []),
    ("notcluster.local", "A", "elsewhere", []),
    (".", "NS", "elsewhere", []),
]


@pytest.mark.parametrize(("name", "kind", "result", "records"), ANSWERS)
def test_names(zone: Zone, name: str, kind: str, result: str, records: list[str]) -> None:
    answer = zone.answer(name, kind)
    assert (answer.result, [f"{each.kind} {each.data}" for each in answer.records]) == (result, records)


def test_srv_records_come_with_the_addresses_of_what_they_name(zone: Zone) -> None:
    answer = zone.answer(f"_http._tcp.db.{D}", "SRV")
    assert [(each.name, each.data) for each in answer.additional] == [
        (f"db-0.db.{D}", "10.244.2.2"),
        (f"10-244-2-3.db.{D}", "10.244.2.3"),
    ]


def test_what_is_removed_leaves_no_trace(zone: Zone) -> None:
    for each in services_from(OBJECTS, SLICES):
        zone.remove(each.namespace, each.name)
    zone.remove("default", "web")
    zone.remove_namespace("empty")
    for name, kind, _, _ in ANSWERS:
        if name.endswith("svc.cluster.local") and name != "svc.cluster.local":
            assert zone.answer(name, kind).result == "no name"
    assert zone.answer("7.0.96.10.in-addr.arpa", "PTR").result == "no name"
    assert vars(zone)["_endpoints"] == {}


def ask(zone: Zone | None, name: str, kind: str = "A", *, udp: bool = True, **how: Any) -> dns.message.Message:
    wire = reply(zone, dns.message.make_query(name, kind, **how).to_wire(), udp=udp)
    assert wire is not None
    return dns.message.from_wire(wire)


CODES = [
    (f"web.{D}", "A", "NOERROR", True),
    (f"web.{D}", "AAAA", "NOERROR", True),
    (f"missing.{D}", "A", "NXDOMAIN", True),
    ("example.com", "A", "REFUSED", False),
]


@pytest.mark.parametrize(("name", "kind", "code", "authoritative"), CODES)
def test_codes_and_authority(zone: Zone, name: str, kind: str, code: str, authoritative: bool) -> None:
    said = ask(zone, name, kind)
    assert dns.rcode.to_text(said.rcode()) == code
    assert bool(said.flags & dns.flags.AA) is authoritative
    assert not said.flags & dns.flags.RA
    has_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in said.authority)
    assert has_soa is (authoritative and not said.answer)


def test_the_case_of_a_question_is_kept_in_its_answer(zone: Zone) -> None:
    said = ask(zone, f"wEb.{D}")
    assert str(said.answer[0].name) == f"wEb.{D}."


def test_before_anything_is_known_the_answer_is_servfail() -> None:
    assert ask(None, f"web.{D}").rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(("udp", "edns", "limit"), [(True, False, 512), (True, 0, 1232), (False, False, 65535)])
def test_large_answers_are_cut_to_what_the_client_takes(zone: Zone, udp: bool, edns: Any, limit: int) -> None:
    many = [at(f"10.244.{n >> 8}.{n & 255}") for n in range(1, 301)]
    zone.put(services_from([service("many", clusterIP="None")], [slice_of("many", *many)])[0])
    wire = reply(zone, dns.message.make_query(f"many.{D}", "A", use_edns=edns, payload=4096).to_wire(), udp=udp)
    assert wire is not None
    said = dns.message.from_wire(wire)
    records = sum(map(len, said.answer))
    assert len(wire) <= limit
    assert bool(said.flags & dns.flags.TC) is udp
    assert records == 300 if not udp else 20 <= records < 300


@pytest.mark.parametrize("wire", [b"", b"\x00", b"\xff" * 11, b"\x00\x01\x80" + bytes(40)])
def test_what_is_no_query_gets_no_answer(zone: Zone, wire: bytes) -> None:
    assert reply(zone, wire, udp=True) is None


@pytest.mark.parametrize("wire", [b"\x12\x34\x00\x00\x00\x05" + bytes(6), b"\x12\x34\x01\x00" + b"\xff" * 20])
def test_a_query_that_is_broken_gets_a_format_error(zone: Zone, wire: bytes) -> None:
    answer = reply(zone, wire, udp=True)
    assert answer is not None
    assert answer[:2] == wire[:2]
    assert answer[3] & 15 == dns.rcode.FORMERR


def test_what_is_no_ordinary_question_is_refused_by_its_code(zone: Zone) -> None:
    update = dns.message.make_query(f"web.{D}", "A")
    update.set_opcode(dns.opcode.STATUS)
    assert dns.message.from_wire(reply(zone, update.to_wire(), udp=True) or b"").rcode() == dns.rcode.NOTIMP
    assert ask(zone, f"web.{D}", rdclass="CH").rcode() == dns.rcode.REFUSED
    newer = dns.message.make_query(f"web.{D}", "A", use_edns=1)
    assert dns.message.from_wire(reply(zone, newer.to_wire(), udp=True) or b"").rcode() == dns.rcode.BADVERS
