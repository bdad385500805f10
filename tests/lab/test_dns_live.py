"""The DNS server in a pod's namespace, asked from another over UDP and TCP, by a client that is not ours.

sandbox: API server, the server's informers        h1 10.9.0.1: port 53        h2 10.9.0.2: asks
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import netbox
from cluster_api import service
from small_cluster import SmallCluster

from mininetes.agents.dns.server import DnsServer
from mininetes.errors import MininetesError
from mininetes.kernel.netns import in_netns, socket_in
from mininetes.kernel.processes import Namespaces
from mininetes.kernel.processes import run as run_process

SERVER = "10.9.0.1"
SLICES = "endpointslices.discovery.k8s.io"
MANY = 120


def ask(name: str, kind: str = "A", *, tcp: bool = False, edns: bool = False) -> dns.message.Message:
    """One question from h2."""
    query = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=4096)
    if not tcp:
        sock = socket_in("/run/netns/h2", socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.setblocking(False)
            return dns.query.udp(query, SERVER, timeout=5, sock=sock)
    sock = socket_in("/run/netns/h2", socket.AF_INET, socket.SOCK_STREAM)
    with sock:
        sock.connect((SERVER, 53))
        sock.setblocking(False)
        return dns.query.tcp(query, SERVER, timeout=5, sock=sock)


async def answer(name: str, kind: str = "A", **how: bool) -> list[Any]:
    said = await asyncio.to_thread(ask, name, kind, **how)
    records = sorted(rdata.to_text() for rrset in said.answer for rdata in rrset)
    return [dns.rcode.to_text(said.rcode()), *records]


def a_slice(name: str, addresses: list[str], hostname: str = "") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    endpoints = [{"addresses": [address], "conditions": {"ready": True}} for address in addresses]
    if hostname:
        endpoints[0]["hostname"] = hostname  # type: ignore[assignment]
    return {
        "metadata": {"name": f"{name}-1", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


async def names() -> dict[str, Any]:
    netbox.Lan(2)
    async with SmallCluster(nodes=1, agents=False) as cluster:
        web = service("web", clusterIP="10.96.7.7")
        web["spec"]["ports"][0]["name"] = "http"
        headless = service("db", clusterIP="None")
        for each in (web, headless):
            each["metadata"]["namespace"] = "default"
            await cluster.client.create("services", each)
        await cluster.client.create(SLICES, a_slice("db", ["10.244.2.2", "10.244.3.2"], "db-0"))
        log: list[str] = []
        server = DnsServer(cluster.client, "/run/netns/h1", log.append)
        await server.start()
        try:
            await cluster.until(is_well, "readiness")
            found = {
                "kubernetes": await answer("kubernetes.default.svc.cluster.local"),
                "web": await answer("WEB.default.svc.Cluster.local"),
                "web over TCP": await answer("web.default.svc.cluster.local", tcp=True),
                "AAAA": await answer("web.default.svc.cluster.local", "AAAA"),
                "db": await answer("db.default.svc.cluster.local"),
                "db-0": await answer("db-0.db.default.svc.cluster.local"),
                "SRV": await answer("_http._tcp.db.default.svc.cluster.local", "SRV"),
                "PTR": await answer("7.7.96.10.in-addr.arpa", "PTR"),
                "pod": await answer("10-244-1-5.default.pod.cluster.local"),
                "missing": await answer("nothing.default.svc.cluster.local"),
                "outside": await answer("example.com"),
                "health": await asyncio.to_thread(page, "8080/health"),
                "metrics": "coredns_dns_requests_total" in await asyncio.to_thread(page, "9153/metrics"),
                "log": log,
            }
            many = [f"10.244.9.{number}" for number in range(1, MANY + 1)]
            changed = await cluster.client.get(SLICES, "db-1", "default")
            await cluster.client.update(SLICES, {**changed, "endpoints": a_slice("db", many)["endpoints"]})

            async def all_there() -> bool:
                return len(await answer("db.default.svc.cluster.local", tcp=True)) == MANY + 1

            await cluster.until(all_there, "all endpoints over TCP")
            short = await asyncio.to_thread(ask, "db.default.svc.cluster.local")
            longer = await asyncio.to_thread(ask, "db.default.svc.cluster.local", edns=True)
            found["truncated"] = [bool(each.flags & dns.flags.TC) for each in (short, longer)]
            found["sizes"] = [len(each.to_wire()) for each in (short, longer)]
            await cluster.server.stop()
            found["without the API"] = await answer("web.default.svc.cluster.local")
            await cluster.start_server()
            found["second server"] = await refusal(cluster)
        finally:
            await server.stop()
            await server.stop()
        again = DnsServer(cluster.client, "/run/netns/h1", log.append, outside="SERVFAIL")
        await again.start()
        await cluster.until(is_well, "readiness again")
        found["outside, otherwise"] = await answer("example.com")
        await again.stop()
        return found


async def refusal(cluster: SmallCluster) -> str:
    try:
        await DnsServer(cluster.client, "/run/netns/h1", print).start()
    except MininetesError as refused:
        return str(refused)
    return ""


async def is_well() -> bool:
    return await asyncio.to_thread(page, "8181/ready") == "OK"


def page(where: str) -> str:
    argv = ["curl", "-s", "--max-time", "5", f"http://{SERVER}:{where}"]
    return run_process(argv, namespaces=Namespaces(net="/run/netns/h2"), check=False).stdout


async def rough_clients() -> dict[str, Any]:
    """What is no DNS must neither be answered for long nor hurt others."""
    netbox.Lan(2)
    async with SmallCluster(nodes=1, agents=False) as cluster:
        server = DnsServer(cluster.client, "/run/netns/h1", print)
        await server.start()
        with in_netns("/run/netns/h2"):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            tcp = socket.create_connection((SERVER, 53))
        for rubbish in (b"", b"x", b"\xff" * 11, bytes(12), b"\x12\x34" + bytes(600), b"\x00\x01\x80" + bytes(20)):
            udp.sendto(rubbish, (SERVER, 53))
        tcp.sendall(b"\xff\xff half of a message")
        await cluster.until(lambda: answers(server), "an answer in spite of it")
        udp.close()
        tcp.close()
        await server.stop()
        return {"well": True}


async def answers(server: DnsServer) -> bool:
    return (await answer("kubernetes.default.svc.cluster.local"))[0] == "NOERROR"


def run_names() -> Any:
    return asyncio.run(names())


def run_rough_clients() -> Any:
    return asyncio.run(rough_clients())


def test_names_are_answered_over_udp_and_tcp_with_and_without_the_api() -> None:
    found = netbox.run(run_names)
    assert found["kubernetes"] == ["NOERROR", "10.96.0.1"]
    assert found["web"] == found["web over TCP"] == found["without the API"] == ["NOERROR", "10.96.7.7"]
    assert found["AAAA"] == ["NOERROR"]
    assert found["db"] == ["NOERROR", "10.244.2.2", "10.244.3.2"]
    assert found["db-0"] == ["NOERROR", "10.244.2.2"]
    assert found["SRV"] == [
        "NOERROR",
        "0 50 8080 10-244-3-2.db.default.svc.cluster.local.",
        "0 50 8080 db-0.db.default.svc.cluster.local.",
    ]
    assert found["PTR"] == ["NOERROR", "web.default.svc.cluster.local."]
    assert found["pod"] == ["NOERROR", "10.244.1.5"]
    assert found["missing"] == ["NXDOMAIN"]
    assert found["outside"] == ["REFUSED"]
    assert found["outside, otherwise"] == ["SERVFAIL"]
    assert found["health"] == "ok"
    assert found["metrics"]
    assert any("ready" in line for line in found["log"])
    assert found["truncated"] == [True, True]
    assert found["sizes"][0] <= 512 < found["sizes"][1] <= 1232
    assert "cannot listen on" in found["second server"]


def test_rubbish_does_not_hurt() -> None:
    assert netbox.run(run_rough_clients) == {"well": True}
