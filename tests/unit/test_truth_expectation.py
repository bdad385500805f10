"""What the truth table expects is what the packet flows say; what it asks, and how it judges what it hears."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from proxy_objects import NODE, endpoint_slice, service, view

from mininetes.agents.kubeproxy.configuration import MODES
from mininetes.errors import BadInput
from mininetes.probes.service_asking import AskOptions, Heard
from mininetes.probes.truth_expectation import Asker, Expected, Outcome, expect
from mininetes.probes.truth_questions import Question, Scene, questions
from mininetes.probes.truth_table import Known, Line, TruthTable, asking_of, judge, together
from mininetes.probes.vantage import Vantage
from mininetes.testbed import show, show_truth

FLOWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "golden" / "packet-flows" / "flows.jsonl").read_text().splitlines()
]
BALANCERS = ("198.51.100.10", "198.51.100.11")
RANGES = {"nodes": "192.168.1.0/24", "outside": "203.0.113.0/25"}
KEYS = ("externalTrafficPolicy", "internalTrafficPolicy", "sessionAffinity", "healthCheckNodePort")
KINDS: dict[str, Any] = {"clusterIP": "cluster IP", "nodePort": "node port", "externalIP": "external IP",
                         "loadBalancerIP": "load balancer", "localhost": "localhost"}  # fmt: skip
NOT_OF_A_SERVICE = {"CIP-7"}
"""Its packet goes to a port that the service does not have: no row of the truth table."""


def endpoint_of(each: dict[str, Any], number: int) -> dict[str, Any]:
    node = 1 if each["node"] == "here" else 2
    hints = {"hints": {"forZones": [{"name": each["zoneHint"]}]}} if each.get("zoneHint") else {}
    conditions = {key: each[key] for key in ("ready", "serving", "terminating")}
    address = f"10.244.{node}.{number}"
    return {"addresses": [address], "nodeName": f"node{node}", "conditions": conditions, **hints}


def seen_by_node1(flow: dict[str, Any], mode: Any) -> Any:
    wanted = flow["service"]
    spec: dict[str, Any] = {key: wanted[key] for key in KEYS if key in wanted}
    if wanted.get("externalIPs"):
        spec["externalIPs"] = ["203.0.113.200"]
    if wanted.get("loadBalancerIPs"):
        spec["status"] = {"loadBalancer": {"ingress": [{"ip": ip} for ip in BALANCERS[: wanted["loadBalancerIPs"]]]}}
    if wanted.get("loadBalancerSourceRanges"):
        spec["loadBalancerSourceRanges"] = [RANGES[each] for each in wanted["loadBalancerSourceRanges"]]
    annotations = wanted.get("annotations", {})
    made = service(ports=wanted["ports"], type=wanted["type"], annotations=annotations, **spec)
    ports = [{"name": p.get("name", ""), "port": p["targetPort"], "protocol": p["protocol"]} for p in wanted["ports"]]
    ends = [endpoint_of(each, number) for number, each in enumerate(flow["endpoints"], start=1)]
    config = {"nftables" if mode == "nftables" else "iptables": dict(flow.get("proxy", {}))}
    config.get("nftables", {}).pop("localhostNodePorts", None)
    node = replace(NODE, zone=flow.get("nodeZone", ""))
    return view(made, endpoint_slice(*ends, ports=ports), mode=mode, node=node, **config)


def asker_of(flow: dict[str, Any]) -> Asker:
    names = [each["name"] for each in flow["endpoints"]]
    sender = flow["from"]
    if sender.startswith("endpoint "):
        return Asker(f"10.244.1.{names.index(sender.removeprefix('endpoint ')) + 1}", pod=True, here=True)
    return {
        "pod": Asker("10.244.1.99", pod=True, here=True),
        "node": Asker(NODE.address, own=True, here=True),
        "localhost": Asker("127.0.0.1", own=True, here=True),
        "outside": Asker("203.0.113.2"),
        "blocked": Asker("203.0.113.130"),
    }[sender]


PLAYED = [
    pytest.param(flow, mode, id=f"{flow['id']}-{mode}")
    for flow in FLOWS
    if flow["id"] not in NOT_OF_A_SERVICE
    for mode in flow["modes"]
]


@pytest.mark.parametrize(("flow", "mode"), PLAYED)
def test_expectations_are_those_of_the_packet_flows(flow: dict[str, Any], mode: Any) -> None:
    seen = seen_by_node1(flow, mode)
    to = flow["to"]
    number = "node_port" if to["address"] in ("nodePort", "localhost") else "port"
    wanted_port = (to["port"], to["protocol"].lower())
    (traffic,) = [each for each in seen.ports if (getattr(each.port, number), each.port.protocol) == wanted_port]
    asker = asker_of(flow)
    said = expect(seen, traffic, mode, asker, KINDS[to["address"]])
    wanted = flow.get("in_mode", {}).get(mode, flow["expect"])
    assert said.outcome.value == wanted["outcome"]
    names = {endpoint_of(each, n)["addresses"][0]: each["name"] for n, each in enumerate(flow["endpoints"], 1)}
    assert {names[each.partition(":")[0]] for each in said.endpoints} == set(wanted.get("endpoints", ()))
    itself = [each for each in said.endpoints if each.partition(":")[0] == asker.address]
    if "masquerade" in wanted:
        assert (said.masquerade or bool(itself)) == wanted["masquerade"]
    assert said.sticky == wanted.get("sticky", False)
    assert bool(said.differs) == (mode in flow.get("in_mode", {}) or mode == "userspace")


def test_every_mode_has_flows_and_userspace_its_own_ways() -> None:
    assert {mode for flow in FLOWS for mode in flow["modes"]} == set(MODES)
    local = {"internalTrafficPolicy": "Local", "externalIPs": ["203.0.113.200"]}
    seen = view(service(**local), endpoint_slice({"addresses": ["10.244.2.1"], "nodeName": "node2"}), mode="userspace")
    (traffic,) = seen.ports
    pod, outside = Asker("10.244.1.9", pod=True, here=True), Asker("203.0.113.2")
    assert expect(seen, traffic, "userspace", pod, "cluster IP").endpoints == ("10.244.2.1:8080",)
    assert expect(seen, traffic, "userspace", pod, "external IP").outcome is Outcome.NOMATCH
    assert expect(seen, traffic, "userspace", outside, "external IP").masquerade
    (nothing,) = view(service(), mode="userspace").ports
    assert expect(seen, nothing, "userspace", pod, "cluster IP").outcome is Outcome.CLOSED


def ipvs_local(*nodes: int, **spec: Any) -> Any:
    """What must happen in mode ipvs on node1, when a service under policy Local has endpoints on these nodes."""
    status = {"loadBalancer": {"ingress": [{"ip": BALANCERS[0]}]}}
    more = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "status": status, **spec}
    ends = [{"addresses": [f"10.244.{n}.5"], "nodeName": f"node{n}"} for n in nodes]
    seen = view(service(ports=NODE_PORT, **more), endpoint_slice(*ends), mode="ipvs")
    (traffic,) = seen.ports
    return lambda asker, to: expect(seen, traffic, "ipvs", asker, to)


def test_ipvs_has_one_virtual_server_for_all_under_policy_local() -> None:
    pod, own = Asker("10.244.1.9", pod=True, here=True), Asker(NODE.address, own=True, here=True)
    here, far = "10.244.1.5:8080", "10.244.2.5:8080"
    both = ipvs_local(1, 2)
    for asker in (pod, own):
        said = both(asker, "load balancer")
        assert (said.endpoints, bool(said.differs)) == ((here,), True)
    elsewhere = ipvs_local(2)
    assert (elsewhere(pod, "load balancer").endpoints, elsewhere(pod, "load balancer").differs) == ((far,), "")
    assert elsewhere(own, "node port").endpoints == (far,)
    lost = elsewhere(own, "load balancer")
    assert (lost.outcome, "do not find back" in lost.differs) == (Outcome.DROP, True)
    assert elsewhere(Asker("203.0.113.2"), "load balancer").outcome is Outcome.DROP
    fallen_back = ipvs_local(2, internalTrafficPolicy="Local")(pod, "cluster IP")
    assert (fallen_back.endpoints, bool(fallen_back.differs)) == ((far,), True)


# which rows there are


def vantage(name: str, kind: Any, node: str, address: str) -> Vantage:
    return Vantage(name, kind, node, address, "/netns")


VANTAGES = [
    vantage("node1", "node", "node1", "192.168.1.11"),
    vantage("node2", "node", "node2", "192.168.1.12"),
    vantage("pod/a", "pod", "node1", "10.244.1.5"),
    vantage("pod/b", "pod", "node1", "10.244.1.6"),
    vantage("pod/c", "pod", "node2", "10.244.2.5"),
    vantage("client1", "outside", "", "203.0.113.2"),
]
SECOND = replace(NODE, name="node2", address="192.168.1.12", addresses=("192.168.1.12",))
ENDS = [{"addresses": [f"10.244.{n}.5"], "nodeName": f"node{n}"} for n in (1, 2)]
NODE_PORT = [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]


def scene(*objects: dict[str, Any], **more: Any) -> Scene:
    views = {"node1": view(*objects), "node2": view(*objects, node=SECOND)}
    addresses = {"node1": frozenset(NODE.addresses), "node2": frozenset(SECOND.addresses)}
    answering = {"10.244.1.5:8080/tcp": "a", "10.244.2.5:8080/tcp": "c"}
    made = {"responders": answering, "entries": lambda *_: (), **more}
    return Scene("iptables", views, addresses, VANTAGES, **made)


def asked(found: Scene) -> dict[tuple[str, str, str], Question]:
    return {(each.source.name, each.to, each.at): each for each in questions(found).asked}


def test_a_node_port_is_asked_on_the_own_node_and_another_and_everywhere_from_outside() -> None:
    rows = asked(scene(service(ports=NODE_PORT, type="NodePort"), endpoint_slice(*ENDS)))
    assert {key[1:] for key in rows if key[0] == "pod/b"} == {("cluster IP", ""), ("node port", "node1"),
                                                              ("node port", "node2")}  # fmt: skip
    assert ("node1", "localhost", "node1") in rows
    assert {key[2] for key in rows if key[0] == "client1"} == {"node1", "node2"}
    assert (rows["pod/a", "cluster IP", ""].who, rows["pod/b", "cluster IP", ""].who) == ("endpoint itself", "pod")


def test_replies_that_would_go_past_the_node_are_not_asked_for_and_named() -> None:
    local = service(ports=NODE_PORT, type="NodePort", externalTrafficPolicy="Local")
    found = questions(scene(local, endpoint_slice(*ENDS)))
    assert ("pod/b", "node2") not in {(each.source.name, each.at) for each in found.asked}
    assert any("pod/b -> node port of node2: replies would not pass node2" in each for each in found.skipped)
    (path,) = asked(scene(local, endpoint_slice(*ENDS), masquerades=True))["pod/b", "node port", "node2"].paths
    assert path.expected.endpoints == ("10.244.2.5:8080",)
    assert path.unchanged == frozenset(NODE.addresses)


def test_what_the_network_does_not_lead_there_is_not_asked() -> None:
    objects = (service(externalIPs=["203.0.113.200"]), endpoint_slice(*ENDS))
    assert ("client1", "external IP", "") not in asked(scene(*objects))
    assert "the network does not lead there" in questions(scene(*objects)).skipped[0]
    rows = asked(scene(*objects, entries=lambda *_: ("node1", "node2")))
    assert [path.node for path in rows["client1", "external IP", ""].paths] == ["node1", "node2"]


# judging


def heard(*answers: tuple[str, str], **replies: int) -> Heard:
    return Heard(Counter({"answered": len(answers), **replies} if answers else replies), Counter(answers))


def question(name: str, to: Any = "cluster IP") -> Question:
    return asked(scene(service(), endpoint_slice(*ENDS)))[name, to, ""]


@pytest.mark.parametrize(
    ("source", "what", "wrong"),
    [
        ("pod/b", heard(("a", "10.244.1.6"), ("c", "10.244.1.6")), ""),
        ("pod/b", heard(("a", "10.244.1.6")), "never answered by 10.244.2.5:8080"),
        (
            "pod/b",
            heard(("a", "10.244.1.6"), ("c", "192.168.1.11")),
            "10.244.2.5:8080 saw 192.168.1.11, not 10.244.1.6",
        ),
        ("pod/b", heard(("a", "10.244.1.6"), ("z", "10.244.1.6")), "answered by z, which must not get it"),
        ("pod/b", heard(("a", "10.244.1.6"), nothing=1), "1 answered, 1 nothing, not answered by all"),
        ("pod/a", heard(("a", "10.244.1.1"), ("c", "10.244.1.5")), ""),
        ("pod/a", heard(("a", "10.244.1.5"), ("c", "10.244.1.5")), "10.244.1.5:8080 saw 10.244.1.5, not an address"),
        ("node1", heard(("a", "10.244.1.1"), ("c", "192.168.1.11")), ""),
    ],
)
def test_what_was_heard_is_judged_by_endpoints_and_by_the_clients_they_saw(
    source: str, what: Heard, wrong: str
) -> None:
    line = judge(question(source), what)
    assert line.wrong.startswith(wrong)
    assert line.holds == (not wrong)


@pytest.mark.parametrize(
    ("what", "measured", "wrong"),
    [
        (heard(connected=4), "connected", ""),
        (heard(("a", "10.244.1.6"), connected=3), "connected", ""),
        (heard(("z", "10.244.1.6"), connected=3), "connected", ""),
        (heard(refused=4), "REJECT x4", "4 refused, not connected"),
    ],
)
def test_of_endpoints_that_do_not_say_who_they_are_none_is_claimed(what: Heard, measured: str, wrong: str) -> None:
    mute = replace(question("pod/b"), mute=frozenset({"10.244.2.5:8080"}), endpoints={"a": "10.244.1.5:8080"})
    line = judge(mute, what)
    assert (line.measured, line.wrong, line.only_connected) == (measured, wrong, not wrong)
    table = TruthTable((line,))
    assert TruthTable.from_json(json.loads(json.dumps(table.as_json()))) == table
    with show.console.capture() as said:
        show_truth.report(table)
    assert "it does" not in said.get()
    if not wrong:
        assert re.search(r"10\.244\.2\.5:8080 +connected$", said.get(), re.MULTILINE)
        assert table.summary().endswith(
            "all as they must be; 1 connected to endpoints that do not all say who they are"
        )
        assert "<system-out>connected: the endpoints do not all say" in table.junit()
    told = judge(question("pod/b"), heard(("a", "10.244.1.6"), ("c", "10.244.1.6")))
    assert (told.measured, told.only_connected) == (told.expected, False)


def test_an_endpoint_that_says_who_it_is_may_be_the_wrong_one_beside_those_that_do_not() -> None:
    one = question("pod/b")
    path = replace(one.paths[0], expected=Expected(Outcome.DNAT, ("10.244.2.5:8080",)))
    mixed = replace(one, paths=(path,), mute=frozenset({"10.244.2.5:8080"}))
    line = judge(mixed, heard(("a", "10.244.1.6"), connected=3))
    assert line.wrong == "answered by 10.244.1.5:8080, which must not get it"


def test_of_mixed_endpoints_each_row_is_judged_by_its_own_and_clients_where_they_are_heard() -> None:
    local = service(ports=NODE_PORT, type="NodePort", externalTrafficPolicy="Local")
    found = scene(local, endpoint_slice(*ENDS), responders={"10.244.2.5:8080/tcp": "c"})
    rows = asked(found)
    mute, told, both = (rows["client1", "node port", "node1"], rows["client1", "node port", "node2"],
                        rows["pod/b", "cluster IP", ""])  # fmt: skip
    options = AskOptions()
    assert [asking_of(each, options).times for each in (mute, told, both)] == [4, 20, 4]
    line = judge(told, heard(("c", "203.0.113.2")))
    assert (line.measured, line.wrong, line.only_connected) == ("DNAT to 10.244.2.5:8080", "", False)
    assert judge(told, heard(connected=20)).wrong == "20 connected, answered by nobody"
    assert judge(told, heard(("c", "192.168.1.12"))).wrong == "10.244.2.5:8080 saw 192.168.1.12, not 203.0.113.2"
    assert judge(mute, heard(connected=4)).measured == "connected"
    assert judge(mute, heard(("c", "203.0.113.2"))).wrong == "answered by 10.244.2.5:8080, which must not get it"
    assert judge(both, heard(("c", "10.244.1.6"), connected=3)).measured == "connected"
    masqueraded = judge(both, heard(("c", "192.168.1.11"), connected=3))
    assert masqueraded.wrong == "10.244.2.5:8080 saw 192.168.1.11, not 10.244.1.6"
    either = replace(told, paths=(*mute.paths, *told.paths))  # the network may choose either node
    assert asking_of(either, options).times == 20
    assert judge(either, heard(("c", "203.0.113.2"))).measured == "DNAT to 10.244.2.5:8080"
    assert judge(either, heard(connected=20)).measured == "connected"


@pytest.mark.parametrize(("answering", "which"), [({}, "its"), ({"10.244.2.5:8080/udp": "c"}, "some of its")])
def test_udp_is_not_asked_where_endpoints_are_mute(answering: dict[str, str], which: str) -> None:
    ports = [{"name": "http", "port": 90, "protocol": "UDP"}]
    ends = endpoint_slice(*ENDS, ports=[{"name": "http", "port": 8080, "protocol": "UDP"}])
    found = questions(scene(service(ports=ports), ends, responders=answering))
    assert found.skipped == (f"default/web:http/udp: {which} endpoints do not say who they are",)


def test_what_answers_where_a_mute_service_is_to_be_left_alone_is_not_called_left_alone() -> None:
    one = question("pod/b")
    mute = replace(one, paths=(replace(one.paths[0], expected=Expected(Outcome.NOMATCH)),), mute=frozenset({"x"}))
    assert judge(mute, heard(connected=2)).measured == "connected"
    assert judge(mute, heard(refused=2)).measured == "NOMATCH"


@pytest.mark.parametrize(
    ("outcome", "right", "other"),
    [
        (Outcome.REJECT, "refused", "nothing"),
        (Outcome.DROP, "nothing", "refused"),
        (Outcome.CLOSED, "connected", "nothing"),
    ],
)
def test_refused_dropped_and_closed_are_told_apart(outcome: Outcome, right: str, other: str) -> None:
    asked_once = question("pod/b")
    path = replace(asked_once.paths[0], expected=Expected(outcome))
    asked_once = replace(asked_once, paths=(path,))
    assert judge(asked_once, heard(**{right: 2})).holds
    assert not judge(asked_once, heard(**{right: 1, other: 1})).holds
    assert not judge(asked_once, heard(("a", "10.244.1.6"))).holds


def test_a_packet_may_take_either_path_but_no_third() -> None:
    one = question("pod/b")
    drop = replace(one.paths[0], expected=Expected(Outcome.DROP))
    both = replace(one, paths=(drop, one.paths[0]))
    assert judge(both, heard(nothing=2)).holds
    assert judge(both, heard(("a", "10.244.1.6"), ("c", "10.244.1.6"))).holds
    assert not judge(both, heard(refused=2)).holds


# several modes


def test_a_difference_that_is_not_declared_fails_the_table() -> None:
    line = judge(question("pod/b"), heard(("a", "10.244.1.6"), ("c", "10.244.1.6")))
    other = replace(line, subject="nftables", mode="nftables", measured="REJECT")
    assert together([TruthTable((line,)), TruthTable((line,)).of("nftables")]).holds
    undeclared = together([TruthTable((line,)), TruthTable((other,))])
    assert (undeclared.holds, len(undeclared.differences)) == (False, 1)
    assert "NOT DECLARED" in str(undeclared.differences[0])
    declared = together([TruthTable((line,)), TruthTable((replace(other, differs="its own way"),))])
    assert declared.holds
    assert declared.differences[0].reason == "its own way"


def test_a_wrong_row_declares_nothing_unless_it_is_known() -> None:
    good = judge(question("pod/b"), heard(("a", "10.244.1.6"), ("c", "10.244.1.6")))
    wrong = replace(judge(question("pod/b"), heard(refused=2)), subject="my-proxy", differs="its own way")
    table = TruthTable((good, wrong))
    assert (table.holds, [each.reason for each in table.differences]) == (False, [""])
    assert TruthTable((replace(good, differs="its own way"), wrong)).differences[0].reason == ""
    assert 'message="not declared"' in table.junit()
    assert not table.declared([Known("other", subject="their-*"), Known("other", to="node port")]).holds
    known = table.declared([Known("planned", subject="my-*", service="default/web:*")])
    assert known.holds
    assert [each.reason for each in known.differences] == ["planned"]
    assert known.lines[0] == good
    assert "all as they must be but for 1 known one" in known.summary()
    assert TruthTable.from_json(json.loads(json.dumps(known.as_json()))) == known


def test_a_table_goes_through_json_and_into_junit() -> None:
    good = judge(question("pod/b"), heard(("a", "10.244.1.6"), ("c", "10.244.1.6")))
    table = TruthTable((good, judge(question("pod/a"), heard(refused=2))), ("x: why",))
    assert TruthTable.from_json(json.loads(json.dumps(table.as_json()))) == table
    assert isinstance(table.lines[0], Line)
    text = table.junit(2.5)
    root = Xml.fromstring(text)
    totals = {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    assert root.attrib == {"name": "truth-table", **totals, "time": "2.500"}
    assert root[0].attrib == {"name": "iptables", "tests": "2", "failures": "1", "errors": "0", "skipped": "0"}
    assert root[1].attrib == {"name": "not asked", "tests": "1", "failures": "0", "errors": "0", "skipped": "1"}
    assert "2 refused, answered by nobody" in text
    assert [skipped.get("message") for skipped in root[1].findall("testcase[@name='x']/skipped")] == ["why"]
    assert table.summary().endswith("1 not as they must be; 1 not asked")


def test_each_case_of_junit_has_a_name_of_its_own_and_a_time() -> None:
    good = judge(question("pod/b"), heard(("a", "10.244.1.6"), ("c", "10.244.1.6")))
    rows = [f"default/web:http: pod/{name} -> node port of node2" for name in "ab"]
    why = "replies would not pass node2, which no mode can help"
    flow = ("MQ-4", "kube-proxy would need other settings: a lab with proxy: {config: {}} plays it")
    skipped = (
        *(f"{row}: {why}" for row in rows),
        "default/web:s/sctp: nothing here speaks SCTP",
        ": ".join(flow),
        "MQ-4: x",
    )
    root = Xml.fromstring(TruthTable((good, replace(good, subject="ipvs")), skipped).junit(1.0))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names) == 7
    assert {case.get("time") for case in root.iter("testcase")} == {"0"}
    found = {str(case.get("name")): case[0].get("message") for case in root[-1]}
    assert found == {
        rows[0]: why, rows[1]: why, "default/web:s/sctp": "nothing here speaks SCTP", flow[0]: flow[1], "MQ-4 (2)": "x"
    }  # fmt: skip


def test_a_table_in_which_nothing_was_asked_does_not_hold() -> None:
    nothing = TruthTable((), ("A: why", "B: why"))
    assert not nothing.holds
    assert nothing.summary() == "nothing was asked; 2 not asked"


def test_a_table_into_a_file_is_not_cut() -> None:
    line = judge(question("pod/b"), heard(("a", "10.244.1.6"), ("c", "10.244.1.6")))
    long = replace(line, wrong="x" * 300, service="default/" + "s" * 60)
    rows = tuple(replace(line, subject=mode, measured=f"{mode} {n}", differs="own way", service=f"s{n}")
                 for n in range(30) for mode in ("iptables", "nftables"))  # fmt: skip
    with show.console.capture() as said:
        show_truth.report(TruthTable((long,)))
    assert "x" * 300 in said.get()
    assert "s" * 60 in said.get()
    for most, shown in ((20, 20), (100, 30)):
        with show.console.capture() as said:
            show_truth.report(TruthTable(rows), most=most)
        assert said.get().count(": own way") == shown
        assert ("and 10 more (all of them: --all)" in said.get()) == (most == 20)
    with show.console.capture() as said:
        show_truth.report(TruthTable(rows), everything=False)
    assert "Where proxies differ" not in said.get()


@pytest.mark.parametrize("options", [{"per_endpoint": 9}, {"per_endpoint": 1001}, {"timeout_s": 0}, {"timeout_s": 61}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        AskOptions(**options)


# nodePortAddresses


def node_port_view(*ends: dict[str, Any], mode: Any = "iptables", **spec: Any) -> Any:
    made = service(ports=NODE_PORT, type="NodePort", **spec)
    return view(made, endpoint_slice(*ends), mode=mode, nodePortAddresses=["10.244.0.0/16", "127.0.0.0/8"])


@pytest.mark.parametrize("mode", ["iptables", "nftables", "ipvs"])
def test_addresses_that_take_no_node_ports_are_left_alone(mode: Any) -> None:
    seen = node_port_view(*ENDS, mode=mode)
    (traffic,) = seen.ports
    client = Asker("203.0.113.2")
    assert expect(seen, traffic, mode, client, "node port", NODE.address).outcome is Outcome.NOMATCH
    assert expect(seen, traffic, mode, client, "node port", "10.244.1.1").outcome is Outcome.DNAT


def test_iptables_rejects_and_drops_at_every_address_of_the_node() -> None:
    client = Asker("203.0.113.2")
    for mode, ends, spec, outcome in (
        ("iptables", (), {}, Outcome.REJECT),
        ("iptables", ENDS[1:], {"externalTrafficPolicy": "Local"}, Outcome.DROP),
        ("nftables", (), {}, Outcome.NOMATCH),
    ):
        seen = node_port_view(*ends, mode=mode, **spec)
        said = expect(seen, seen.ports[0], mode, client, "node port")  # type: ignore[arg-type]
        assert said.outcome is outcome
        assert bool(said.differs) == (mode != "iptables")


def test_an_address_that_takes_node_ports_is_asked_beside_the_nodes_own() -> None:
    views = {"node1": node_port_view(*ENDS), "node2": view(service(), node=SECOND)}
    found = questions(replace(scene(), views=views)).asked
    rows = {(each.source.name, each.address): each for each in found if (each.to, each.at) == ("node port", "node1")}
    assert {source for source, address in rows if address == "10.244.1.1"} == {"node1", "pod/a", "pod/b"}
    assert str(rows["pod/b", NODE.address].paths[0].expected) == "NOMATCH"
    assert rows["pod/b", "10.244.1.1"].paths[0].expected.masquerade
    assert rows["node1", "10.244.1.1"].paths[0].unchanged == {"10.244.1.1"}


@pytest.mark.parametrize(
    ("mode", "networks", "outcome"),
    [
        ("iptables", ["127.0.0.0/8"], Outcome.DNAT),
        ("iptables", ["127.5.0.0/16"], Outcome.NOMATCH),
        ("iptables", ["192.168.0.0/16"], Outcome.NOMATCH),
        ("nftables", ["127.0.0.0/8"], Outcome.NOMATCH),
        ("ipvs", ["127.0.0.0/8"], Outcome.NOMATCH),
    ],
)
def test_localhost_has_node_ports_where_node_port_addresses_have_it(mode: Any, networks: Any, outcome: Outcome) -> None:
    seen = view(service(ports=NODE_PORT, type="NodePort"), endpoint_slice(*ENDS), mode=mode, nodePortAddresses=networks)
    here = Asker("127.0.0.1", own=True, here=True)
    assert expect(seen, seen.ports[0], mode, here, "localhost").outcome is outcome


# health-check node ports

HEALTH = 32100
BALANCED = service(
    type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=HEALTH, ports=[
        {"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"},
        {"name": "dgram", "port": 90, "nodePort": 30090, "protocol": "UDP"},
    ],
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_health_check_says_whether_ready_endpoints_are_on_the_node(mode: Any) -> None:
    def said(*ends: dict[str, Any], **config: Any) -> Outcome:
        seen = view(BALANCED, endpoint_slice(*ends), mode=mode, **config)
        return expect(seen, seen.ports[0], mode, Asker("203.0.113.2"), "health check node port").outcome

    assert said(*ENDS) is Outcome.HEALTHY
    assert said(ENDS[1]) is Outcome.UNHEALTHY
    terminating = {"ready": False, "serving": True, "terminating": True}
    assert said({**ENDS[0], "conditions": terminating}) is Outcome.UNHEALTHY, "though it still serves"
    assert said(*ENDS, nodePortAddresses=["10.244.0.0/16"]) is Outcome.REJECT


def test_a_health_check_is_asked_once_for_a_service_of_every_node() -> None:
    two = [{"name": name, "port": 8080, "protocol": protocol} for name, protocol in (("http", "TCP"), ("dgram", "UDP"))]
    found = questions(scene(BALANCED, endpoint_slice(ENDS[1], ports=two))).asked
    rows = {(each.source.name, each.at): each for each in found if each.to == "health check node port"}
    assert len(rows) == sum(1 for each in found if each.to == "health check node port")
    names = [each.name for each in VANTAGES if each.name not in ("pod/b",)]
    assert set(rows) == {(name, node) for name in names for node in ("node1", "node2")}
    assert {(each.address, each.port, each.protocol) for each in rows.values()} == {
        ("192.168.1.11", HEALTH, "tcp"), ("192.168.1.12", HEALTH, "tcp")
    }  # fmt: skip
    assert {key: str(each.paths[0].expected) for key, each in rows.items() if key[0] == "client1"} == {
        ("client1", "node1"): "503", ("client1", "node2"): "200"
    }  # fmt: skip
    row = rows["client1", "node1"]
    asking = asking_of(row, AskOptions())
    assert (asking.health, asking.times, asking.patience > 1) == (True, 2, True)
    assert judge(row, heard(unhealthy=2)).holds
    assert judge(row, heard(unhealthy=2)).service == "default/web:http"
    for wrong in ("healthy", "refused", "nothing", "connected"):
        assert judge(row, heard(**{wrong: 2})).wrong == f"2 {wrong}, not unhealthy (503)"
