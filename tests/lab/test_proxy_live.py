"""A proxy's rules on live packets, and what it does when others meddle with them or refuse them."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from typing import Any

import netbox
import pytest

IPTABLES = [("iptables", "nft"), ("iptables", "legacy")]
RULES = [*IPTABLES, ("nftables", None)]
ALL = [*RULES, ("userspace", "nft")]
WEB = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
WEB_ENDS = [{"name": "http", "port": 8080, "protocol": "TCP"}]
DNS = [{"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"}]
DNS_ENDS = [{"name": "dns", "port": 5353, "protocol": "UDP"}]
ADDRESS = "10.96.0.50"
CHANGES_A_SECOND, CHANGING_S = 100, 10


def web(net: Any, *endpoints: str, **spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        net.service("web", ADDRESS, WEB, **spec),
        net.endpoint_slice("web", WEB_ENDS, [net.endpoint(ip) for ip in endpoints]),
    )


def started(net: Any) -> Any:
    """All endpoints serve: here1.. and far1.. on 8080 and 5353."""
    net.build()
    servers = net.Servers()
    for number in range(1, 5):
        for port in (8080, 5353):
            servers.serve(f"here{number}", f"here{number}", net.HERE[number - 1], port)
            servers.serve(f"far{number}", "far", net.FAR[number - 1], port)
    return servers


def spread(mode: Any, backend: str | None, connections: int) -> list[str]:
    """In the sandbox: who answered each connection from a pod."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    started(net)
    with net.Proxy(mode, {}, backend) as proxy:
        proxy.set(*web(net, net.HERE[0], net.HERE[1], net.FAR[0], net.FAR[1], net.FAR[2]))
        proxy.sync()
        return [net.ask("pod", ADDRESS, 80).endpoint for _ in range(connections)]


@pytest.mark.parametrize(("mode", "backend"), RULES)
def test_connections_spread_evenly_over_the_endpoints(mode: str, backend: str | None) -> None:
    counts = Counter(netbox.run(spread, mode, backend, 10_000))
    assert set(counts) == {"here1", "here2", "far1", "far2", "far3"}
    chi_square = sum((count - 2000) ** 2 / 2000 for count in counts.values())
    assert chi_square < 33.4, counts  # 4 degrees of freedom, p > 1e-6


def test_the_userspace_proxy_goes_round_robin() -> None:
    answered = netbox.run(spread, "userspace", "nft", 20)
    assert answered == ["here1", "here2", "far1", "far2", "far3"] * 4


def switched(first: list[Any], second: list[Any]) -> dict[str, Any]:
    """In the sandbox: one mode, then another in its place."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    started(net)
    with net.Proxy(first[0], {}, first[1]) as proxy:
        proxy.set(*web(net, net.HERE[0], type="NodePort"))
        proxy.sync()
        before = net.ask("pod", ADDRESS, 80)
    with net.Proxy(second[0], {}, second[1]) as proxy:
        proxy.set(*web(net, net.HERE[0], type="NodePort"))
        proxy.sync()
        after = net.ask("pod", ADDRESS, 80)
        text = "".join(net.saved(backend) for backend in ("nft", "legacy"))
        tables = [item["table"]["name"] for item in net.nft_json("list", "tables")["nftables"] if "table" in item]
    return {
        "before": before.outcome,
        "after": after.outcome,
        "iptables": text,
        "kube-proxy table": "kube-proxy" in tables,
    }


@pytest.mark.parametrize("first", ALL, ids=str)
@pytest.mark.parametrize("second", ALL, ids=str)
def test_a_mode_takes_away_what_another_one_left(first: tuple[str, Any], second: tuple[str, Any]) -> None:
    found = netbox.run(switched, first, second)
    assert (found["before"], found["after"]) == ("answered", "answered")
    assert found["kube-proxy table"] == (second[0] == "nftables")
    text = found["iptables"]
    assert ("KUBE-PORTALS-HOST" in text) == (second[0] == "userspace")
    assert text.count(":KUBE-SERVICES") == (2 if second[0] == "iptables" else 0)
    if second[0] == "nftables":
        assert "KUBE" not in text


def meddled(mode: Any, backend: str | None, flush: list[list[str]]) -> dict[str, Any]:
    """In the sandbox: somebody flushes the rules; what the proxy notices, and what one whole sync brings back."""
    import asyncio  # noqa: PLC0415

    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    started(net)
    with net.Proxy(mode, {}, backend) as proxy:
        proxy.set(*web(net, net.HERE[0]))
        proxy.sync()

        def intact() -> bool:
            return asyncio.run_coroutine_threadsafe(proxy.keeper.intact(), proxy._loop).result(10)

        found: dict[str, Any] = {"at first": intact()}
        for argv in flush:
            proxy.tools.run(*argv)
        found |= {"flushed": intact(), "without rules": net.ask("pod", ADDRESS, 80).outcome}
        proxy.sync(whole=True)
        found |= {"again": intact(), "with rules": net.ask("pod", ADDRESS, 80).outcome}
    return found


@pytest.mark.parametrize(("mode", "backend"), RULES)
def test_flushed_rules_are_noticed_and_come_back(mode: str, backend: str | None) -> None:
    tables = [["iptables-" + str(backend), "-t", table] for table in ("nat", "filter", "mangle")]
    flush = [[*table, option] for option in ("-F", "-X") for table in tables]
    if mode == "nftables":
        flush = [["nft", "flush", "ruleset"]]
    found = netbox.run(meddled, mode, backend, flush)
    assert found == {"at first": True, "flushed": False, "without rules": "nothing", "again": True,
                     "with rules": "answered"}  # fmt: skip


@pytest.mark.parametrize(("mode", "backend"), RULES)
def test_a_jump_or_a_chain_that_somebody_removed_comes_back_with_a_whole_sync(mode: str, backend: str | None) -> None:
    remove = [[f"iptables-{backend}", "-t", "nat", "-F", "PREROUTING"]]
    if mode == "nftables":
        remove = [["nft", "flush", "chain", "ip", "kube-proxy", "services"]]
    found = netbox.run(meddled, mode, backend, remove)
    # nftables' own check of cluster IPs refuses what no service took
    assert found["without rules"] == ("refused" if mode == "nftables" else "nothing")
    assert found["with rules"] == "answered"


def refused(mode: Any, backend: str | None) -> dict[str, Any]:
    """In the sandbox: a compiler that writes nonsense for a while."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    from mininetes.agents.kubeproxy.restoring import RestoreFailed  # noqa: PLC0415

    started(net)
    found: dict[str, Any] = {}
    with net.Proxy(mode, {}, backend) as proxy:
        proxy.set(*web(net, net.HERE[0]))
        proxy.sync()
        good = proxy.keeper._compile

        def bad(view: Any) -> Any:
            ruleset = good(view)
            chains = dict(ruleset.chains)
            if mode == "nftables":
                chains["services"] = ("nonsense here",)
            else:
                chains["filter", "KUBE-FORWARD"] = ("-A KUBE-FORWARD -j DROP",)
                chains["nat", "KUBE-NODEPORTS"] = ("-A KUBE-NODEPORTS --nonsense",)
            return type(ruleset)(**{**vars(ruleset), "chains": chains})

        for whole in (False, True):
            proxy.keeper._compile = bad
            try:
                proxy.sync(whole=whole)
            except RestoreFailed as failed:
                found[f"refused, whole {whole}"] = failed.text
            found[f"meanwhile, whole {whole}"] = net.ask("pod", ADDRESS, 80).outcome
            found[f"dropping, whole {whole}"] = "-A KUBE-FORWARD -j DROP" in net.saved(backend or "nft")
        proxy.keeper._compile = good
        proxy.set(*web(net, net.HERE[1]))
        proxy.sync()
        found["then"] = net.ask("pod", ADDRESS, 80).endpoint
        found["failures"] = [proxy.metrics.restore_failures, proxy.metrics.partial_restore_failures]
    return found


@pytest.mark.parametrize(("mode", "backend"), RULES)
def test_a_refused_text_leaves_the_old_rules_in_force_and_names_the_line(mode: str, backend: str | None) -> None:
    found = netbox.run(refused, mode, backend)
    for whole in (False, True):
        assert "nonsense" in found[f"refused, whole {whole}"]
        assert found[f"meanwhile, whole {whole}"] == "answered"
        assert not found[f"dropping, whole {whole}"]
    assert found["then"] == "here2"
    assert found["failures"][0] == 2


def datagrams(mode: Any, backend: str | None) -> list[str]:
    """In the sandbox: one client, one source port, while the only endpoint comes, is replaced, and goes."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    started(net)
    said = []
    with net.Proxy(mode, {}, backend) as proxy:
        service = net.service("dns", ADDRESS, DNS, type="NodePort")
        service["spec"]["ports"] = [{**DNS[0], "nodePort": 30053}]
        proxy.set(service)
        proxy.sync()
        for endpoints in ([], [net.HERE[0]], [net.HERE[1]], [net.FAR[0]], [], [net.FAR[1]]):
            proxy.set(net.endpoint_slice("dns", DNS_ENDS, [net.endpoint(ip) for ip in endpoints]))
            proxy.sync()
            for netns, address, port in (("pod", ADDRESS, 53), ("outside", net.NODE, 30053)):
                source = net.OUTSIDE if netns == "outside" else net.POD
                heard = net.ask(netns, address, port, protocol="udp", source=source, source_port=4000)
                said.append(heard.endpoint or heard.outcome)
        proxy.remove(service)
        proxy.sync()
        left = proxy.tools.run("conntrack", "-L", "-p", "udp", check=False).stdout
    return [*said, str("dport=53 " in left or "dport=30053" in left)]


@pytest.mark.parametrize(("mode", "backend"), RULES)
def test_udp_clients_follow_the_endpoint_on_the_same_five_tuple(mode: str, backend: str | None) -> None:
    *said, left = netbox.run(datagrams, mode, backend)
    inside, outside = said[::2], said[1::2]
    assert [each for each in inside if each != "refused"] == ["here1", "here2", "far1", "far2"]
    assert inside == outside
    assert left == "False"


def kept_clients(mode: Any, backend: str | None) -> dict[str, Any]:
    """In the sandbox: session affinity while the proxy restarts, writes all anew, and loses the endpoint."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    started(net)
    affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 2}}}
    found: dict[str, Any] = {}

    def asked(times: int = 6) -> list[str]:
        return sorted({net.ask("pod", ADDRESS, 80).endpoint for _ in range(times)})

    with net.Proxy(mode, {}, backend) as proxy:
        proxy.set(*web(net, *net.FAR, **affinity))
        proxy.sync()
        found["first"] = asked()
        proxy.sync(whole=True)
        found["after a whole sync"] = asked()
    with net.Proxy(mode, {}, backend) as proxy:
        proxy.set(*web(net, *net.FAR, **affinity))
        proxy.sync()
        found["after a restart"] = asked()
        kept = int(found["first"][0].removeprefix("far"))
        proxy.set(*web(net, *[ip for number, ip in enumerate(net.FAR, 1) if number != kept], **affinity))
        proxy.sync()
        found["when it is gone"] = asked()
        proxy.set(*web(net, *net.FAR))
        proxy.sync()
        found["without affinity"] = asked(60)
    return found


@pytest.mark.parametrize(("mode", "backend"), ALL)
def test_clients_keep_their_endpoint_while_it_is_there(mode: str, backend: str | None) -> None:
    found = netbox.run(kept_clients, mode, backend)
    assert len(found["first"]) == 1
    assert found["after a whole sync"] == found["first"]
    if mode != "userspace":  # its process forgets when it ends
        assert found["after a restart"] == found["first"]
        assert len(found["when it is gone"]) == 1
        assert found["when it is gone"] != found["first"]
    assert found["without affinity"] == ["far1", "far2", "far3", "far4"]


def established(mode: Any, backend: str | None) -> dict[str, Any]:
    """In the sandbox: connections that are open while other services change, and one to an endpoint that stays."""
    import socket  # noqa: PLC0415

    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    started(net)
    with net.Proxy(mode, {}, backend) as proxy:
        proxy.set(*web(net, net.HERE[0], net.FAR[0]))
        proxy.sync()
        open_ones = []
        for _ in range(10):
            with net.in_netns(net.path("pod")):
                sock = socket.create_connection((ADDRESS, 80), timeout=2)
            assert sock.recv(100)
            open_ones.append(sock)
        started_at, changes, syncs = time.monotonic(), 0, 0
        while time.monotonic() < started_at + CHANGING_S:
            while changes < CHANGES_A_SECOND * (time.monotonic() - started_at):
                changes += 1
                name = f"other{changes % 7}"
                proxy.set(net.service(name, f"10.96.2.{changes % 7 + 1}", WEB),
                          net.endpoint_slice(name, WEB_ENDS, [net.endpoint(net.FAR[changes // 7 % 4])]))  # fmt: skip
            syncs += 1
            proxy.sync(whole=syncs % 50 == 0)
        broken = 0
        for sock in open_ones:
            sock.sendall(b"still there?")
            broken += not sock.recv(100).endswith(b"still there?")
    return {"changes": changes, "broken": broken}


@pytest.mark.parametrize(("mode", "backend"), RULES)
def test_established_connections_outlive_changes_of_other_services(mode: str, backend: str | None) -> None:
    found = netbox.run(established, mode, backend)
    assert found["broken"] == 0
    assert found["changes"] >= CHANGES_A_SECOND * CHANGING_S * 0.9


def out_of_window(mode: Any, backend: str | None, distances: list[int]) -> dict[str, Any]:
    """In the sandbox: an endpoint's segments that fit no window, in the middle of a connection through a service."""
    import socket  # noqa: PLC0415

    import proxy_net as net  # noqa: PLC0415 - in the sandbox
    from scapy.layers.inet import IP, TCP  # noqa: PLC0415

    def segments(captured: socket.socket) -> list[Any]:
        """The TCP segments at the pod's interface, until none came for a while."""
        captured.settimeout(0.3)
        found = []
        with contextlib.suppress(TimeoutError):
            while True:
                frame = captured.recv(2048)
                if frame[12:14] == b"\x08\x00" and TCP in (packet := IP(frame[14:])):
                    found.append(packet)
        return found

    started(net)
    with net.Proxy(mode, {}, backend) as proxy:
        proxy.set(*web(net, net.FAR[0]))
        proxy.sync()
        with net.in_netns(net.path("pod")):
            captured = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # all, also what leaves
            captured.bind(("eth0", 3))
            sock = socket.create_connection((ADDRESS, 80), timeout=2)
        sock.recv(100)
        last = [packet for packet in segments(captured) if packet[IP].src == ADDRESS and packet[TCP].payload][-1]
        with net.in_netns(net.path("far")):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for distance in distances:
            sequence = (last[TCP].seq + distance) % (1 << 32)
            stray = IP(src=net.FAR[0], dst=net.POD) / TCP(
                sport=8080, dport=last[TCP].dport, ack=last[TCP].ack, seq=sequence, flags="PA"
            )
            raw.sendto(bytes(stray / b"boom"), (net.POD, 0))
        sock.sendall(b"on and on")
        said = sock.recv(100).decode()
        resets = [packet.summary() for packet in segments(captured) if packet[TCP].flags.R]
    return {"said": said, "resets": resets}


@pytest.mark.parametrize(("mode", "backend"), RULES)
def test_a_segment_outside_the_window_resets_nothing(mode: str, backend: str | None) -> None:
    """Mode nftables of 1.30 has no rule against invalid packets; kernels from 6.1 on need none against old ones."""
    distances = [-100_000] if mode == "nftables" else [-100_000, 1 << 30, 1 << 31]
    found = netbox.run(out_of_window, mode, backend, distances)
    assert found == {"said": "far1 on and on", "resets": []}


def told() -> dict[str, Any]:
    """In the sandbox: the log of a service's life, and the sysctls of the node."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    started(net)
    with net.Proxy("iptables", {}, "nft") as proxy:
        proxy.set(*web(net, net.HERE[0]))
        proxy.sync()
        moved, ends = web(net, net.HERE[0])
        moved["spec"]["ports"] = [{**WEB[0], "port": 81}]
        proxy.set(moved, ends)
        proxy.sync()
        proxy.remove(moved)
        proxy.sync()
        values = {}
        for key in ("ipv4/conf/all/route_localnet", "netfilter/nf_conntrack_tcp_timeout_established",
                    "netfilter/nf_conntrack_tcp_timeout_close_wait", "bridge/bridge-nf-call-iptables"):  # fmt: skip
            with net.in_netns(net.path("node")), open(f"/proc/sys/net/{key}") as file:
                values[key] = file.read().strip()
    return {"log": net.lines(), "sysctls": values}


def test_the_log_tells_a_services_life_and_sysctls_are_set() -> None:
    found = netbox.run(told)
    log = "\n".join(found["log"])
    for said in (
        '"Adding new service port" portName="default/web:http" servicePort="10.96.0.50:80/TCP"',
        '"Updating existing service port" portName="default/web:http" servicePort="10.96.0.50:81/TCP"',
        '"Removing service port" portName="default/web:http"',
        '"Reloading service iptables data" numServices=1 numEndpoints=1 numFilterChains=6',
        '"SyncProxyRules complete" elapsed="',
    ):
        assert said in log, json.dumps(found["log"], indent=1)
    assert found["sysctls"] == {
        "ipv4/conf/all/route_localnet": "1",
        "netfilter/nf_conntrack_tcp_timeout_established": "86400",
        "netfilter/nf_conntrack_tcp_timeout_close_wait": "3600",
        "bridge/bridge-nf-call-iptables": "1",
    }


def userspace_udp_and_half_open() -> dict[str, Any]:
    """In the sandbox: UDP through the userspace proxy, an endpoint that nobody serves, a half-closed connection."""
    import socket  # noqa: PLC0415

    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    started(net)
    found: dict[str, Any] = {}
    with net.Proxy("userspace", {}, "nft") as proxy:
        service = net.service("dns", ADDRESS, DNS, type="NodePort")
        service["spec"]["ports"] = [{**DNS[0], "nodePort": 30053}]
        proxy.set(service, net.endpoint_slice("dns", DNS_ENDS, [net.endpoint(net.HERE[0])]))
        proxy.set(*(obj for obj in web_elsewhere(net)))
        proxy.sync()
        found["udp from a pod"] = net.ask("pod", ADDRESS, 53, protocol="udp").endpoint
        found["udp from the node"] = net.ask("node", ADDRESS, 53, protocol="udp").endpoint
        found["udp node port from outside"] = net.ask(
            "outside", net.NODE, 30053, protocol="udp", source=net.OUTSIDE
        ).endpoint
        found["passing over"] = sorted({net.ask("pod", "10.96.0.60", 80).endpoint for _ in range(4)})
        found["client"] = net.ask("pod", "10.96.0.60", 80).seen
        with net.in_netns(net.path("pod")):
            sock = socket.create_connection(("10.96.0.60", 80), timeout=3)
        sock.recv(100)
        sock.sendall(b"last words")
        sock.shutdown(socket.SHUT_WR)
        found["half closed"] = sock.recv(100).decode()
        proxy.set(net.endpoint_slice("web", WEB_ENDS, []))
        proxy.sync()
        found["nobody"] = net.ask("pod", "10.96.0.60", 80).outcome
        proxy.remove(service)
        proxy.sync()
        found["gone"] = net.ask("pod", ADDRESS, 53, protocol="udp").outcome
    return found


def web_elsewhere(net: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A service of which one endpoint, 10.244.1.9, serves nothing."""
    return (
        net.service("web", "10.96.0.60", WEB),
        net.endpoint_slice("web", WEB_ENDS, [net.endpoint(net.FAR[0]), net.endpoint("10.244.1.9")]),
    )


def test_the_userspace_proxy_carries_udp_passes_over_the_dead_and_half_closes() -> None:
    found = netbox.run(userspace_udp_and_half_open)
    assert found == {
        "udp from a pod": "here1",
        "udp from the node": "here1",
        "udp node port from outside": "here1",
        "passing over": ["far1"],
        "client": "192.168.1.11",
        "half closed": "far1 last words",
        "nobody": "closed",
        "gone": "nothing",
    }
