"""Mode ipvs where the kernel has ip_vs: rules read back as kube-proxy's are, and packets through virtual servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netbox
import pytest
import rule_dumps
import test_proxy_flows
from test_proxy_live import ADDRESS, WEB, web

GOLDEN = Path(__file__).parents[2] / "golden" / "kube-proxy-1.30"
CASES = sorted(path.stem for path in (GOLDEN / "objects").glob("*.json"))
CONFIG = {"clusterCIDR": "10.244.0.0/16"}
SLOWLY_S = 600.0
"""Without KVM all of this is emulated."""

LOAD = """
for case in *; do
    echo "=== $case"
    cd "$case"
    unshare --net sh -ec 'ip -batch addresses; ipvsadm --restore <servers; ipset restore <sets; iptables-restore <rules
        ipvsadm -Sn; ipset save; ip -4 address show dev kube-ipvs0; iptables-save' || exit
    cd ..
done
"""
"""Restores each case in the working directory into a network namespace of its own, and prints what is read back."""


def restorable(text: str) -> dict[str, str]:
    """A dump of kube-proxy's, or our text, taken apart for the programs that restore it."""
    import re  # noqa: PLC0415 - in the sandbox

    lines = [line.strip() for line in text.splitlines()]
    carried = re.findall(r"inet (\S+) scope", text) or re.findall(r"^address add (\S+) dev kube-ipvs0", text, re.M)
    addresses = ["link add kube-ipvs0 type dummy", *(f"address add {each} dev kube-ipvs0" for each in carried)]
    # bucketsize and initval are of one kernel's own choosing
    sets = [re.sub(r" (bucketsize|initval) \S+", "", line) for line in lines if re.match("(create|add) KUBE", line)]
    rules = [line for line in lines if line.startswith(("*", ":", "COMMIT")) or re.match("-A [A-Z]", line)]
    servers = [line for line in lines if re.match("-[Aa] -", line)]
    parts = {"addresses": addresses, "servers": servers, "sets": sets, "rules": rules}
    return {name: "".join(f"{line}\n" for line in part) for name, part in parts.items()}


def loaded() -> list[dict[str, str]]:
    """In the sandbox: every case's rules, ours and kube-proxy's, as they are read back after they were restored."""
    import subprocess  # noqa: PLC0415 - in the sandbox

    from mininetes.agents.kubeproxy.compiling import compiled  # noqa: PLC0415
    from mininetes.agents.kubeproxy.objects import read_objects  # noqa: PLC0415

    sides = [Path("/run/ours"), Path("/run/theirs")]
    for case in CASES:
        ruleset: Any = compiled(read_objects(GOLDEN / "objects" / f"{case}.json"), "node1", "ipvs", CONFIG)
        ours = ruleset.ipvsadm_text() + ruleset.ipset_text() + ruleset.addresses_text() + ruleset.iptables.text()
        for side, text in zip(sides, (ours, (GOLDEN / "ipvs" / f"{case}.rules").read_text()), strict=True):
            (side / case).mkdir(parents=True)
            for name, part in restorable(text).items():
                (side / case / name).write_text(part)
    running = [subprocess.Popen(["sh", "-c", LOAD], cwd=side, stdout=subprocess.PIPE, text=True) for side in sides]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    return [dict(part.split("\n", 1) for part in each.split("=== ")[1:]) for each in said]


def test_the_kernel_reads_ours_back_as_it_does_kube_proxys() -> None:
    ours, theirs = netbox.run(loaded, timeout_s=SLOWLY_S)
    assert len(CASES) == 23
    assert list(ours) == list(theirs) == CASES
    for text in (*ours.values(), *theirs.values()):
        assert "KUBE-IPVS-FILTER" in text
        assert "create KUBE-CLUSTER-IP" in text
    assert sum("-A -t 10.96." in text for text in ours.values()) > 15
    wrong = [
        f"{case}: {line}"
        for case in CASES
        for line in rule_dumps.differences(rule_dumps.ipvs(ours[case]), rule_dumps.ipvs(theirs[case]))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def flows() -> dict[str, str]:
    return netbox.run(test_proxy_flows.played, "ipvs", None, timeout_s=SLOWLY_S)


@pytest.mark.parametrize("flow", [flow["id"] for flow in test_proxy_flows.flows("ipvs")])
def test_the_flow_ends_as_the_table_says(flow: str, flows: dict[str, str]) -> None:
    assert flows[flow] == ""


def lived() -> dict[str, Any]:
    """In the sandbox: a service's life in mode ipvs, what the kernel has and what packets meet; then mode iptables."""
    import proxy_net as net  # noqa: PLC0415

    net.build()
    servers = net.Servers()
    for name, netns, address in [(f"here{n}", f"here{n}", net.HERE[n - 1]) for n in (1, 2, 3)]:
        servers.serve(name, netns, address, 8080)
    found: dict[str, Any] = {}

    def inside(*argv: str) -> str:
        return str(proxy.tools.run(*argv, check=False).stdout)

    def carried() -> list[str]:
        return [
            line.split()[3] for line in inside("ip", "-4", "-o", "address", "show", "dev", "kube-ipvs0").splitlines()
        ]

    three = net.HERE[:3]
    with net.Proxy("ipvs", {"ipvs": {"tcpTimeout": "800s", "udpTimeout": "200s"}}) as proxy:
        node_port = [{**WEB[0], "nodePort": 30080}]
        proxy.set(*with_ports(web(net, *three, type="NodePort"), node_port))
        proxy.sync()
        found["timeouts"] = inside("ipvsadm", "--list", "--timeout")
        found["servers"] = inside("ipvsadm", "-Sn").splitlines()
        found["carried"] = carried()
        found["set"] = inside("ipset", "list", "KUBE-CLUSTER-IP")
        found["rotation"] = [net.ask("pod", ADDRESS, 80).endpoint for _ in range(9)]
        found["node port"] = [net.ask("outside", net.NODE, 30080, source=net.OUTSIDE).endpoint for _ in range(3)]
        found["other port"] = net.ask("pod", ADDRESS, 81).outcome
        affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
        proxy.set(*web(net, *three, **affinity))
        proxy.sync()
        found["with affinity"] = inside("ipvsadm", "-Sn").splitlines()
        found["sticky"] = [net.ask("pod", ADDRESS, 80).endpoint for _ in range(6)]
        proxy.set(*web(net))
        proxy.sync()
        found["no endpoints"] = net.ask("pod", ADDRESS, 80).outcome
        found["empty"] = inside("ipvsadm", "-Sn").splitlines()
        service, endpoints = web(net)
        proxy.remove(service)
        proxy.remove(endpoints)
        proxy.sync()
        found["removed"] = [inside("ipvsadm", "-Sn").splitlines(), carried()]
        proxy.set(*web(net, *three))
        proxy.sync()
    with net.Proxy("iptables", {}, "nft") as proxy:
        proxy.set(*web(net, *three))
        proxy.sync()
        found["switched"] = net.ask("pod", ADDRESS, 80).outcome
        found["left"] = [
            inside("ipvsadm", "-Sn"),
            inside("ipset", "list", "-name"),
            inside("ip", "link", "show", "kube-ipvs0"),
        ]
        found["rules left"] = [line for line in net.saved().splitlines() if "IPVS" in line or "--match-set" in line]
    return found


TCP_AND_UDP = [*WEB, {"name": "dgram", "port": 90, "targetPort": 8080, "protocol": "UDP"}]
OVER_AFTER_S = 10
"""The kernel's own time for a connection that was reset."""


def drained() -> dict[str, Any]:
    """In the sandbox: endpoints go and come back while a connection to one of them stands."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415
    import time  # noqa: PLC0415

    import proxy_net as net  # noqa: PLC0415

    net.build()
    servers = net.Servers()
    for n in (1, 2):
        servers.serve(f"here{n}", f"here{n}", net.HERE[n - 1], 8080)
    first, second = net.HERE[:2]
    found: dict[str, Any] = {}

    def real() -> list[str]:
        lines = proxy.tools.run("ipvsadm", "-Sn").stdout.splitlines()
        return sorted(line.partition(" -r ")[2] for line in lines if line.startswith("-a"))

    def become(*endpoints: str) -> float | None:
        service, made = web(net, *endpoints)
        service["spec"]["ports"] = TCP_AND_UDP
        made["ports"] = [*made["ports"], {"name": "dgram", "port": 8080, "protocol": "UDP"}]
        proxy.set(service, made)
        return proxy.sync().again_s

    def says(sent: bytes) -> str:
        client.sendall(sent)
        return client.recv(2048).decode()

    with net.Proxy("ipvs", {}) as proxy:
        become(first)
        found["udp"] = net.ask("pod", ADDRESS, 90, protocol="udp", source_port=40000).endpoint
        with net.in_netns(net.path("pod")):
            client = socket.socket()
        with client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.settimeout(5)
            client.connect((ADDRESS, 80))
            found["greeting"] = client.recv(2048).decode().split()[0]
            found["again while draining"] = become(second)
            found["draining"] = real()
            found["established"] = says(b"still there?")
            found["new ones"] = sorted({net.ask("pod", ADDRESS, 80).endpoint for _ in range(6)})
            found["udp afterwards"] = net.ask("pod", ADDRESS, 90, protocol="udp", source_port=40000).endpoint
            become(first, second)
            found["back"] = real()
            become(second)
            found["established to the end"] = says(b"and now?")
        end = time.monotonic() + 6 * OVER_AFTER_S
        while proxy.sync().again_s is not None and time.monotonic() < end:
            time.sleep(0.2)
        found["over"] = real()
    return found


@pytest.fixture(scope="module")
def draining() -> dict[str, Any]:
    return netbox.run(drained, timeout_s=SLOWLY_S)


def test_an_endpoint_that_goes_keeps_its_connections_and_gets_no_new_ones(draining: dict[str, Any]) -> None:
    assert draining["greeting"] == "here1"
    assert "10.244.1.21:8080 -m -w 0" in draining["draining"]
    assert draining["established"] == "here1 still there?"
    assert draining["established to the end"] == "here1 and now?"
    assert draining["new ones"] == ["here2"]


def test_datagrams_go_elsewhere_at_once(draining: dict[str, Any]) -> None:
    assert draining["udp"] == "here1"
    assert draining["udp afterwards"] == "here2"
    assert [line for line in draining["draining"] if line.startswith("10.244.1.21")] == ["10.244.1.21:8080 -m -w 0"]


def test_one_that_comes_back_gets_connections_again(draining: dict[str, Any]) -> None:
    assert draining["back"] == sorted(f"10.244.1.{n}:8080 -m -w 1" for n in (21, 21, 22, 22))


def test_a_drained_one_goes_when_its_last_connection_is_over(draining: dict[str, Any]) -> None:
    assert draining["again while draining"] == 60
    assert draining["over"] == ["10.244.1.22:8080 -m -w 1"] * 2


def with_ports(objects: tuple[dict[str, Any], dict[str, Any]], ports: list[dict[str, Any]]) -> tuple[Any, Any]:
    """The same service with these ports."""
    objects[0]["spec"]["ports"] = ports
    return objects


@pytest.fixture(scope="module")
def life() -> dict[str, Any]:
    return netbox.run(lived, timeout_s=SLOWLY_S)


def test_timeouts_of_the_configuration_are_set_and_others_left(life: dict[str, Any]) -> None:
    assert life["timeouts"].strip() == "Timeout (tcp tcpfin udp): 800 120 200"


def test_each_service_port_is_a_virtual_server_and_kube_ipvs0_carries_its_address(life: dict[str, Any]) -> None:
    assert f"-A -t {ADDRESS}:80 -s rr" in life["servers"]
    assert "-A -t 192.168.1.11:30080 -s rr" in life["servers"]
    real = [line for line in life["servers"] if line.startswith(f"-a -t {ADDRESS}:80 ")]
    assert sorted(real) == [f"-a -t {ADDRESS}:80 -r 10.244.1.{n}:8080 -m -w 1" for n in (21, 22, 23)]
    assert life["carried"] == [f"{ADDRESS}/32"]
    assert f"{ADDRESS},tcp:80" in life["set"]


def test_connections_go_round_robin_in_strict_order(life: dict[str, Any]) -> None:
    answered = life["rotation"]
    assert sorted(answered[:3]) == ["here1", "here2", "here3"]
    assert answered == answered[:3] * 3
    assert sorted(life["node port"]) == ["here1", "here2", "here3"]


def test_what_is_no_port_of_a_service_is_refused(life: dict[str, Any]) -> None:
    assert life["other port"] == "refused"


def test_session_affinity_is_the_virtual_servers_persistence(life: dict[str, Any]) -> None:
    assert f"-A -t {ADDRESS}:80 -s rr -p 60" in life["with affinity"]
    assert len(set(life["sticky"])) == 1
    assert life["sticky"][0].startswith("here")


def test_a_service_without_endpoints_answers_nobody(life: dict[str, Any]) -> None:
    server, *draining = life["empty"]
    assert server == f"-A -t {ADDRESS}:80 -s rr"
    assert [line for line in draining if not line.endswith(" -w 0")] == []  # those with connections, for a while
    assert life["no endpoints"] in ("refused", "nothing")


def test_nothing_is_left_of_a_removed_service(life: dict[str, Any]) -> None:
    assert life["removed"] == [[], []]


def test_another_mode_takes_away_what_ipvs_left(life: dict[str, Any]) -> None:
    assert life["switched"] == "answered"
    assert life["left"] == ["", "", ""]
    assert life["rules left"] == []
