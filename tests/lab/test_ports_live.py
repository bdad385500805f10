"""Ports, packet filters and the probe that compares them, on live connections.

node1 h1 ---+          node1 has the control plane's ports, all three the kubelet's and kube-proxy's;
node2 h2 ---+          pods p1 and p2 "run" on node1 and node2: hosts of the same LAN with addresses
node3 h3 ---+ br0      of the pod network
pod/p1 h4 --+
pod/p2 h5 --+
client h6 --+
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import kubectls
import netbox
import pytest
from running_lab import RunningLab, mininetes, running
from waiting import wait_until

from mininetes.agents.packet_filter import FilterView, apply_filter, compile_filter
from mininetes.agents.ports_table import PortsView, rows_of, table
from mininetes.agents.serving import listening_socket
from mininetes.kernel.processes import Namespaces
from mininetes.probes.ports import PortOptions, PortsReport, ask, listeners, questions
from mininetes.probes.vantage import Vantage

VIEW = PortsView(control_plane=("node1",), workers=("node2", "node3"))
POD_ADDRESSES = IPv4Network("10.9.0.4/31")
SERVICE = 30080
QUICK = PortOptions(timeout_s=0.4)


class Cluster:
    """The picture above. ``close_port`` and ``measure`` are what the tests do with it."""

    def __init__(self, view: PortsView, *, ipv6: bool = False) -> None:
        self.view = view
        h1, h2, h3, h4, h5, h6 = netbox.Lan(6).hosts
        nodes = [replace(h, name=f"node{n}", kind="node", node=f"node{n}") for n, h in enumerate((h1, h2, h3), start=1)]
        pods = [replace(h4, name="pod/p1", node="node1"), replace(h5, name="pod/p2", node="node2")]
        self.places: list[Vantage] = [*nodes, *pods, replace(h6, name="client1", kind="outside", node="")]
        self.nodes = {each.name: each for each in nodes}
        self._open: dict[tuple[str, int], socket.socket] = {}
        for name, node in self.nodes.items():
            for row in rows_of(table(view), name):
                if row.listening in ("node", "loopback"):
                    address = "127.0.0.1" if row.listening == "loopback" else "0.0.0.0"
                    self._open[name, row.first] = listening_socket(node.netns, row.first, address)
            self._open[name, SERVICE] = listening_socket(node.netns, SERVICE)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._open.values():
            sock.close()

    def close_port(self, node: str, port: int) -> None:
        self._open.pop((node, port)).close()

    def filter(self) -> None:
        """Give every node its packet filter."""
        addresses = {name: IPv4Address(node.address) for name, node in self.nodes.items()}
        view = FilterView(
            rows=table(self.view),
            control_plane=tuple(addresses[name] for name in self.view.control_plane),
            workers=tuple(addresses[name] for name in self.view.workers),
            pods=POD_ADDRESSES,
            services=(IPv4Network("10.96.0.0/12"),),
        )
        for name, node in self.nodes.items():
            apply_filter(Namespaces(net=node.netns), compile_filter(view, name))

    def measure(self, options: PortOptions = QUICK) -> PortsReport:
        asked = questions(self.view, self.places, services=[SERVICE])
        found = {name: listeners(node.netns) for name, node in self.nodes.items()}
        return PortsReport.compare(asyncio.run(ask(asked, options)), found)


def wrong(report: PortsReport) -> list[list[str]]:
    return [[line.component, line.port, line.node] for line in report.wrong]


def red_after_closing(firewall: bool) -> dict[str, Any]:
    """What is red at first, after closing a port, after closing one more that only the node itself reaches, and
    when a port answers that ought not to.
    """
    with Cluster(replace(VIEW, firewall=firewall)) as cluster:
        if firewall:
            cluster.filter()
            cluster.filter()  # again: replaces the first
        found: dict[str, Any] = {}
        first = cluster.measure()
        found["at first"] = wrong(first)
        found["listening"] = {f"{line.node} {line.port}": list(line.listening) for line in first.lines}
        found["measured"] = {f"{line.node} {line.port}": line.measured for line in first.lines}
        found["seen"] = sorted({(check.expected, check.seen) for line in first.lines for check in line.checks})
        cluster.close_port("node2", 10250)
        found["kubelet"] = wrong(cluster.measure())
        with contextlib.closing(listening_socket(cluster.nodes["node2"].netns, 10250)):
            cluster.close_port("node3", 10249)
            found["metrics"] = wrong(cluster.measure())
            with contextlib.closing(listening_socket(cluster.nodes["node1"].netns, 2380)):
                found["metrics and peers"] = wrong(cluster.measure())
        return found


@pytest.mark.parametrize("firewall", [False, True])
def test_all_is_green_and_closing_a_port_turns_exactly_its_row_red(firewall: bool) -> None:
    found = netbox.run(red_after_closing, firewall)
    measured = found["measured"]
    assert found["at first"] == []
    assert found["kubelet"] == [["kubelet", "10250", "node2"]]
    assert found["metrics"] == [["kube-proxy metrics", "10249", "node3"]]
    assert found["metrics and peers"] == [["etcd peers", "2380", "node1"], ["kube-proxy metrics", "10249", "node3"]]
    assert found["listening"]["node1 6443"] == ["0.0.0.0"]
    assert found["listening"]["node2 10248"] == ["127.0.0.1"]
    assert found["listening"]["node1 2380"] == []
    assert measured["node1 2379"] == "nobody"
    assert measured["node1 6443"] == "everyone"
    if firewall:
        assert measured["node2 10250"] == "itself, control plane"
        assert measured["node2 10256"] == "itself, outside"
        assert measured["node1 10259"] == "itself"
        # inside the cluster a refusal is said, outside there is silence
        assert ["closed", "unreachable"] in found["seen"]
        assert ["closed", "no answer"] in found["seen"]
    else:
        assert measured["node2 10250"] == "everyone"


def red_with_a_rule_of_ones_own() -> list[list[str]]:
    with Cluster(replace(VIEW, firewall=True)) as cluster:
        cluster.filter()
        rule = ["iptables", "-w", "-I", "INPUT", "-p", "tcp", "--dport", "10250", "-j", "DROP"]
        netbox.inside(cluster.nodes["node3"], *rule)
        return wrong(cluster.measure())


def test_a_rule_that_a_person_adds_turns_its_row_red() -> None:
    assert netbox.run(red_with_a_rule_of_ones_own) == [["kubelet", "10250", "node3"]]


def what_passes_a_filter() -> dict[str, bool]:
    """What a filter must not hinder, and what it must: connections to node2, by name."""
    with Cluster(replace(VIEW, firewall=True)) as cluster:
        node, client = cluster.nodes["node2"], cluster.places[-1]
        pod = cluster.places[4]
        with contextlib.ExitStack() as undo:
            for port in (9999, 25000):
                undo.enter_context(contextlib.closing(listening_socket(node.netns, port)))
            cluster.filter()
            # an endpoint on the node itself, as kube-proxy writes it; a service's address on the node, as in ipvs mode
            netbox.inside(node, "ip", "address", "add", "10.96.0.7/32", "dev", "lo")
            rule = ["-d", "10.96.0.1", "-p", "tcp", "--dport", "443", "-j", "DNAT", "--to-destination"]
            netbox.inside(node, "iptables", "-w", "-t", "nat", "-A", "PREROUTING", *rule, f"{node.address}:9999")
            for place in (pod, client):
                netbox.inside(place, "ip", "route", "add", "10.96.0.0/12", "via", node.address)

            def reaches(place: Vantage, address: str, port: int) -> bool:
                done = netbox.run_process(
                    ["nc", "-z", "-w", "1", address, str(port)], namespaces=Namespaces(net=place.netns), check=False
                )
                return done.status == 0

            return {
                "pod, service translated to the node": reaches(pod, "10.96.0.1", 443),
                "pod, service's address on the node": reaches(pod, "10.96.0.7", 9999),
                "pod, a port that is in no table": reaches(pod, node.address, 25000),
                "node, a port that is in no table": reaches(cluster.nodes["node3"], node.address, 25000),
                "outside, a port that is in no table": reaches(client, node.address, 25000),
                "outside, a node port": reaches(client, node.address, SERVICE),
                "pod, the kubelet": reaches(pod, node.address, 10250),
                "outside, ping": netbox.run_process(
                    ["ping", "-c", "1", "-W", "1", node.address], namespaces=Namespaces(net=client.netns), check=False
                ).status == 0,
                "node to outside": reaches(node, cluster.nodes["node1"].address, 6443),
            }  # fmt: skip


@pytest.mark.parametrize("user_namespace", [False, True])
def test_a_filter_hinders_what_it_must_and_nothing_else(user_namespace: bool) -> None:
    assert netbox.run(what_passes_a_filter, user_namespace=user_namespace) == {
        "pod, service translated to the node": True,
        "pod, service's address on the node": True,
        "pod, a port that is in no table": True,
        "node, a port that is in no table": True,
        "outside, a port that is in no table": False,
        "outside, a node port": True,
        "pod, the kubelet": False,
        "outside, ping": True,
        "node to outside": True,
    }


def both_families() -> dict[str, list[str]]:
    netbox.ip_batch("", ["link set lo up"])
    with contextlib.ExitStack() as undo:
        for family, address, port in (
            (socket.AF_INET, "127.0.0.1", 1001),
            (socket.AF_INET, "0.0.0.0", 1002),
            (socket.AF_INET6, "::", 1003),
            (socket.AF_INET6, "::1", 1004),
            (socket.AF_INET6, "::ffff:127.0.0.1", 1005),
        ):
            sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.bind((address, port))
            sock.listen()
        return {str(port): found for port, found in listeners("/proc/thread-self/ns/net").items()}


def test_listeners_of_both_families_are_seen() -> None:
    assert netbox.run(both_families) == {
        "1001": ["127.0.0.1"],
        "1002": ["0.0.0.0"],
        "1003": ["0.0.0.0"],
        "1005": ["127.0.0.1"],
    }


@pytest.fixture(scope="module")
def walled() -> Iterator[RunningLab]:
    """A lab whose nodes have packet filters."""
    with running("--set", "firewall=kubernetes", "--pods", "2") as lab:
        yield lab


def probed(lab: RunningLab) -> tuple[int, list[dict[str, Any]]]:
    done = mininetes("probe", "ports", "--lab", lab.name, "-o", "json")
    assert done.status in (0, 1), done
    return done.status, json.loads(done.stdout)


def red(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(row["component"], row["port"], row["node"]) for row in rows if not row["holds"]]


def test_the_ports_of_a_lab_are_as_the_table_has_them(three_nodes: RunningLab) -> None:
    status, rows = probed(three_nodes)
    assert (status, red(rows)) == (0, [])


def test_with_the_filter_too_and_pods_still_reach_each_other(walled: RunningLab) -> None:
    status, rows = probed(walled)
    assert (status, red(rows)) == (0, [])
    kubelet = next(row for row in rows if (row["port"], row["node"]) == ("10250", "node2"))
    assert kubelet["measured"] == "itself, control plane"
    assert walled.probe().status == 0
    assert "mininetes-firewall" in walled.exec("node2", "nft", "list", "tables")


def test_closing_one_port_on_one_node_of_a_lab_turns_exactly_that_row_red(walled: RunningLab) -> None:
    rule = ["INPUT", "-p", "tcp", "--dport", "10250", "-j", "DROP"]
    walled.exec("node2", "iptables", "-w", "-I", *rule)
    try:
        status, rows = probed(walled)
        assert (status, red(rows)) == (1, [("kubelet", "10250", "node2")])
        shown = mininetes("probe", "ports", "--lab", walled.name)
        assert shown.status == 1
        assert len([line for line in shown.stdout.splitlines() if "NOT AS EXPECTED" in line]) == 1
        assert "kubelet on node2: " in shown.stdout
    finally:
        walled.exec("node2", "iptables", "-w", "-D", *rule)
    assert probed(walled)[0] == 0


def test_a_service_with_a_node_port_is_asked_at_every_node(walled: RunningLab, tmp_path: Path) -> None:
    with kubectls.set_up(walled, kubectls.ANY, tmp_path) as kubectl, kubectls.namespace(kubectl, "ports") as own:
        manifest = kubectls.deployment("web", 2).replace("port: 80,", "port: 80, nodePort: 30080,")
        own.apply(manifest.replace("  selector: {app: web}\n", "  selector: {app: web}\n  type: NodePort\n"))
        own("rollout", "status", "deployment/web", "--timeout=30s")

        def answers() -> list[dict[str, Any]]:
            rows = [row for row in probed(walled)[1] if row["port"] == "30080"]
            return rows if rows and all(row["holds"] for row in rows) else []

        rows = wait_until(answers, "the service answers at its node port", within_s=30)
        assert {row["node"] for row in rows} == set(walled.nodes)
        assert {row["measured"] for row in rows} == {"everyone"}


def test_three_etcds_are_for_the_control_plane_alone(tmp_path: Path) -> None:
    cluster = tmp_path / "three.yaml"
    cluster.write_text(
        "apiVersion: mininetes/v1\nkind: Cluster\nspec:\n  nodes: {controlPlane: 3, workers: 1}\n"
        "  controlPlane: {store: etcd}\n  firewall: kubernetes\n  pods: {perNode: 1}\n"
    )
    with running(str(cluster)) as lab:
        status, rows = probed(lab)
        assert (status, red(rows)) == (0, [])
        etcd = [row for row in rows if row["component"].startswith("etcd")]
        assert {(row["port"], row["node"]) for row in etcd} == {
            (port, node) for port in ("2379", "2380") for node in ("node1", "node2", "node3")
        }
        assert {row["measured"] for row in etcd} == {"itself, control plane"}
        assert lab.probe().status == 0


def test_where_no_fabric_connects_nodes_pods_reach_the_ports_of_their_own_node() -> None:
    with running("--fabric", "none", "--pods", "1") as lab:
        status, rows = probed(lab)
        assert (status, red(rows)) == (0, [])
        kubelet = next(row for row in rows if (row["port"], row["node"]) == ("10250", "node2"))
        pods = {check["source"]: check["expected"] for check in kubelet["checks"] if check["origin"] == "pod"}
        assert pods["pod/node2-1"] == "open"
        assert sorted(pods.values()) == ["closed", "open"]


def test_a_lab_without_a_control_plane_has_no_ports_to_ask() -> None:
    with running("--set", "controlPlane.store=none", "--pods", "0") as lab:
        done = mininetes("probe", "ports", "--lab", lab.name)
        assert done.status == 2
        assert "spec.controlPlane.store: 'none' is not valid: memory or etcd, to have ports" in done.stderr
