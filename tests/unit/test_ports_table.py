"""The ports table, the packet filters written from it, and what is expected of each connection."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from rich.console import Console

from mininetes.agents.packet_filter import FilterView, compile_filter
from mininetes.agents.ports_table import EVERYONE, Origin, PortsView, Row, rows_of, table, who
from mininetes.errors import BadInput
from mininetes.probes.outcomes import Seen
from mininetes.probes.ports import PortOptions, PortsReport, Question, questions
from mininetes.probes.vantage import Vantage
from mininetes.testbed import show_ports

VIEW = PortsView(control_plane=("node1",), workers=("node2", "node3"))
THREE = PortsView(control_plane=("node1", "node2", "node3"), workers=("node4",), etcd_members=3)
PLACES = [
    *(Vantage(f"node{n}", "node", f"node{n}", f"192.168.1.1{n}", f"/netns/node{n}") for n in (1, 2, 3)),
    *(Vantage(f"pod/p{n}", "pod", f"node{n}", f"10.244.{n}.2", f"/netns/p{n}") for n in (1, 2, 3)),
    Vantage("client1", "outside", "", "203.0.113.2", "/netns/client1"),
]


def row(view: PortsView, port: int) -> Row:
    return next(each for each in table(view) if each.first == port)


def filter_view(view: PortsView) -> FilterView:
    number = {name: index for index, name in enumerate(view.nodes, start=11)}
    return FilterView(
        rows=table(view),
        control_plane=tuple(IPv4Address(f"192.168.1.{number[name]}") for name in view.control_plane),
        workers=tuple(IPv4Address(f"192.168.1.{number[name]}") for name in view.workers),
        pods=IPv4Network("10.244.0.0/16"),
        services=(IPv4Network("10.96.0.0/12"), IPv4Network("198.51.100.0/24")),
    )


def test_every_port_of_kubernetes_is_in_the_table() -> None:
    ports = {each.first for each in table(VIEW)}
    assert ports == {6443, 2379, 2380, 10259, 10251, 10257, 10252, 10250, 10248, 10256, 10249, 30000}


def test_control_plane_ports_are_of_the_control_plane_alone() -> None:
    assert {each.first for each in rows_of(table(VIEW), "node2")} == {10250, 10248, 10256, 10249, 30000}
    assert {each.first for each in rows_of(table(VIEW), "node1")} == {each.first for each in table(VIEW)}


@pytest.mark.parametrize(
    ("members", "listening", "clients", "peers"),
    [
        (0, "nobody", "nobody", "nobody"),
        (1, "node", "itself, control plane", "itself"),
        (3, "node", "itself, control plane", "itself, control plane"),
    ],
)
def test_etcd_is_open_where_it_runs_and_to_peers_where_there_are_some(
    members: int, listening: str, clients: str, peers: str
) -> None:
    view = replace(THREE, etcd_members=members)
    assert [row(view, port).listening for port in (2379, 2380)] == [listening, listening]
    assert [who(row(view, port).may_reach) for port in (2379, 2380)] == [clients, peers]


def test_without_kube_proxy_its_ports_are_expected_closed() -> None:
    view = replace(VIEW, proxy=False)
    assert {row(view, port).listening for port in (10256, 10249)} == {"nobody"}


def test_more_etcd_members_than_nodes_are_refused() -> None:
    with pytest.raises(BadInput, match="etcd members: 3 is not valid: at most the 1 control-plane nodes"):
        table(replace(VIEW, etcd_members=3))


def test_without_a_firewall_everyone_gets_to_what_listens_at_the_node() -> None:
    kubelet, healthz = row(VIEW, 10250), row(VIEW, 10248)
    assert all(kubelet.admits(origin, firewall=False) for origin in Origin)
    assert [origin for origin in Origin if healthz.admits(origin, firewall=False)] == [Origin.ITSELF]


def test_with_one_only_those_whom_the_table_names() -> None:
    def admitted(port: int) -> str:
        return who([origin for origin in Origin if row(VIEW, port).admits(origin, firewall=True)])

    assert admitted(6443) == admitted(30000) == "everyone"
    assert admitted(10250) == "itself, control plane"
    assert admitted(10256) == "itself, outside"
    assert {admitted(port) for port in (10259, 10251, 10257, 10252, 10248, 10249, 2379)} == {"itself"}
    assert who([]) == "nobody"


def test_filters_are_as_they_were(golden: Callable[[str, Any], None]) -> None:
    texts = {"one": filter_view(VIEW), "three": filter_view(THREE)}
    golden(
        "packet_filter",
        {f"{name}/{node}": compile_filter(view, node).splitlines() for name, view in texts.items()
         for node in ("node1", "node3")},
    )  # fmt: skip


def test_a_filter_has_a_rule_for_each_row_and_replaces_the_earlier_one() -> None:
    text = compile_filter(filter_view(VIEW), "node1")
    assert text.startswith("table inet mininetes-firewall\ndelete table inet mininetes-firewall\n")
    for each in table(VIEW):
        assert f"tcp dport {each.port} " in text
        assert f'comment "{each.component}"' in text
        if each.may_reach != EVERYONE:
            assert f"tcp dport {each.port} goto refuse" in text or Origin.OUTSIDE in each.may_reach
    assert "tcp dport 6443" not in compile_filter(filter_view(VIEW), "node2")


def test_a_cluster_without_workers_has_a_filter_too() -> None:
    text = compile_filter(filter_view(PortsView(control_plane=("node1",), workers=())), "node1")
    assert "set workers {\n\t\ttype ipv4_addr; flags interval;\n\t}" in text


def expected(view: PortsView, port: int, node: str, **more: Any) -> dict[str, str]:
    return {
        each.source.name: each.expected
        for each in questions(view, PLACES, **more)
        if (each.port, each.node) == (port, node)
    }


def test_each_kind_of_origin_asks_each_port_of_each_node() -> None:
    asked = questions(VIEW, PLACES)
    for each in table(VIEW):
        for node in each.nodes:
            origins = {q.origin for q in asked if q.row == each and q.node == node}
            assert origins == set(Origin) - ({Origin.CONTROL_PLANE} if node == "node1" else set()), (each, node)
    assert len({(q.source.name, q.address, q.port) for q in asked}) == len(asked)


def test_what_is_expected_follows_firewall_and_table() -> None:
    free = expected(VIEW, 10250, "node2")
    assert set(free.values()) == {"open"}
    walled = expected(replace(VIEW, firewall=True), 10250, "node2")
    assert {name for name, each in walled.items() if each == "open"} == {"node2", "node1"}
    assert walled.keys() == {"node1", "node2", "node3", "pod/p1", "pod/p2", "client1"}
    assert set(expected(VIEW, 2379, "node1").values()) == {"closed"}


def test_loopback_ports_are_asked_at_loopback_by_the_node_alone() -> None:
    asked = [q for q in questions(VIEW, PLACES) if (q.port, q.node) == (10248, "node2")]
    assert {(q.source.name, q.address, q.expected) for q in asked if q.address == "127.0.0.1"} == {
        ("node2", "127.0.0.1", "open")
    }
    assert {q.expected for q in asked if q.address != "127.0.0.1"} == {"closed"}


def test_masquerading_makes_a_pod_its_node() -> None:
    view = replace(VIEW, firewall=True)
    assert expected(view, 10250, "node2")["pod/p1"] == "closed"
    assert expected(view, 10250, "node2", masquerades=True)["pod/p1"] == "open"
    assert expected(view, 10250, "node2", masquerades=True)["pod/p2"] == "closed"


def test_where_the_network_leads_nowhere_nothing_is_expected() -> None:
    found = expected(VIEW, 10250, "node2", connects=lambda source, node: source.node == node.node)
    assert {name for name, each in found.items() if each == "open"} == {"node2", "pod/p2"}


def test_services_ports_are_open_everywhere_and_a_free_one_is_let_through() -> None:
    assert set(expected(VIEW, 30080, "node3", services=[30080]).values()) == {"open"}
    assert set(expected(VIEW, 32767, "node3", services=[30080]).values()) == {"let through"}
    assert set(expected(VIEW, 32766, "node3", services=[32767]).values()) == {"let through"}
    full = replace(VIEW, node_ports=range(30000, 30001))
    assert set(expected(full, 30000, "node3", services=[30000]).values()) == {"open"}
    with pytest.raises(BadInput, match="node port: 80 is not valid: within 30000-32767"):
        questions(VIEW, PLACES, services=[80])


def as_expected(question: Question) -> tuple[Question, Seen, str]:
    seen = {"open": Seen.ANSWERED, "closed": Seen.NO_ANSWER, "let through": Seen.REFUSED}[question.expected]
    return question, seen, ""


def test_one_connection_that_fails_turns_exactly_its_row_red() -> None:
    answered = [as_expected(question) for question in questions(VIEW, PLACES)]
    report = PortsReport.compare(answered, {"node2": {10250: ["0.0.0.0"]}})
    assert report.holds
    assert report.summary() == f"{len(report.lines)} ports, {len(answered)} connections, all as the table has it"
    at = next(i for i, (q, _, _) in enumerate(answered) if (q.port, q.node, q.source.name) == (10250, "node2", "node1"))
    answered[at] = (answered[at][0], Seen.UNREACHABLE, "No route to host")
    report = PortsReport.compare(answered, {"node2": {10250: ["0.0.0.0"]}})
    (wrong,) = report.wrong
    assert (wrong.component, wrong.port, wrong.node, wrong.listening) == ("kubelet", "10250", "node2", ("0.0.0.0",))
    assert (wrong.expected, wrong.measured) == ("everyone", "itself, workers, pods, outside")
    assert str(wrong.mismatches[0]) == (
        "node1 (control plane) -> 192.168.1.12:10250: expected open, saw unreachable: No route to host"
    )
    assert report.summary().endswith("1 port not as the table has it")


def test_a_port_that_answers_against_expectation_is_wrong_too() -> None:
    answered = [as_expected(question) for question in questions(VIEW, PLACES)]
    at = next(i for i, (q, _, _) in enumerate(answered) if q.port == 2379)
    answered[at] = (answered[at][0], Seen.ANSWERED, "")
    assert [line.component for line in PortsReport.compare(answered, {}).wrong] == ["etcd"]


def test_rows_go_through_json_and_back() -> None:
    report = PortsReport.compare([as_expected(question) for question in questions(VIEW, PLACES)], {})
    rows = report.rows()
    assert PortsReport.from_rows(rows) == report
    assert {"component", "port", "node", "listening", "expected", "measured", "holds", "checks"} <= rows[0].keys()
    assert next(line for line in rows if line["component"] == "NodePort services")["port"] == "30000-32767"


def test_the_table_for_people_marks_a_wrong_row() -> None:
    answered = [as_expected(question) for question in questions(VIEW, PLACES)]
    at = next(i for i, (q, _, _) in enumerate(answered) if (q.port, q.node) == (10256, "node3"))
    answered[at] = (answered[at][0], Seen.REFUSED, "")
    report = PortsReport.compare(answered, {"node3": {10249: ["127.0.0.1"]}})
    shown = Console(file=io.StringIO(), width=200)
    shown.print(show_ports.table(report))
    lines = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (wrong,) = [line for line in lines if "NOT AS EXPECTED" in line]
    assert wrong.split()[:4] == ["kube-proxy", "healthz", "10256/tcp", "node3"]
    assert [row.style for row in show_ports.table(report).rows].count("bold red") == 1
    assert any("10249/tcp" in line and "127.0.0.1" in line and "itself" in line for line in lines)


@pytest.mark.parametrize(("field", "value"), [("timeout_s", 0), ("timeout_s", 61), ("at_once", 0), ("at_once", 1025)])
def test_options_that_cannot_be_are_refused(field: str, value: int) -> None:
    with pytest.raises(BadInput, match=str(value)):
        PortOptions(**{field: value})
