"""The table of packet flows, played on live packets in each mode that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import netbox
import pytest

FLOWS = Path(__file__).parents[1] / "golden" / "packet-flows" / "flows.jsonl"
MODES = ("iptables", "nftables", "userspace")
CLUSTER_IP, EXTERNAL_IP = "10.96.0.50", "203.0.113.200"
LOAD_BALANCER_IPS = ("198.51.100.10", "198.51.100.11")
RANGES = {"nodes": "192.168.1.0/24", "outside": "203.0.113.0/25"}
KEYS = ("externalTrafficPolicy", "internalTrafficPolicy", "sessionAffinity", "healthCheckNodePort")


def flows(mode: str) -> list[dict[str, Any]]:
    return [flow for flow in map(json.loads, FLOWS.read_text().splitlines()) if mode in flow["modes"]]


def expectation(flow: dict[str, Any], mode: str) -> dict[str, Any]:
    return flow.get("in_mode", {}).get(mode, flow["expect"])


def objects(flow: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, tuple[str, str]]]:
    """The flow's service, its slice, and where its endpoints are: namespace and address by name."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    wanted = flow["service"]
    spec: dict[str, Any] = {"type": wanted["type"], **{key: wanted[key] for key in KEYS if key in wanted}}
    if wanted.get("externalIPs"):
        spec["externalIPs"] = [EXTERNAL_IP]
    if wanted.get("loadBalancerIPs"):
        chosen = LOAD_BALANCER_IPS[: wanted["loadBalancerIPs"]]
        spec["status"] = {"loadBalancer": {"ingress": [{"ip": ip} for ip in chosen]}}
    if wanted.get("loadBalancerSourceRanges"):
        spec["loadBalancerSourceRanges"] = [RANGES[each] for each in wanted["loadBalancerSourceRanges"]]
    if "sessionAffinityTimeoutSeconds" in wanted:
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": wanted["sessionAffinityTimeoutSeconds"]}}
    service = net.service("flow", CLUSTER_IP, wanted["ports"], annotations=wanted.get("annotations", {}), **spec)
    places: dict[str, tuple[str, str]] = {}
    made = []
    here, far = iter(enumerate(net.HERE, 1)), iter(net.FAR)
    for each in flow["endpoints"]:
        if each["node"] == "here":
            number, address = next(here)
            places[each["name"]] = (f"here{number}", address)
        else:
            places[each["name"]] = ("far", next(far))
        hints = {"hints": {"forZones": [{"name": each["zoneHint"]}]}} if each.get("zoneHint") else {}
        conditions = {key: each[key] for key in ("ready", "serving", "terminating")}
        made.append(net.endpoint(places[each["name"]][1], **conditions, **hints))
    ports = [
        {"name": port.get("name", ""), "port": port["targetPort"], "protocol": port["protocol"]}
        for port in wanted["ports"]
    ]
    return service, net.endpoint_slice("flow", ports, made), places


def play(flow: dict[str, Any], expect: dict[str, Any], places: dict[str, tuple[str, str]]) -> str:
    """Send the flow's packets; what is not as expected, or ""."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    sender, to = flow["from"], flow["to"]
    netns = {"pod": "pod", "node": "node", "localhost": "node", "outside": "outside", "blocked": "outside"}.get(sender)
    netns = netns or places[sender.removeprefix("endpoint ")][0]
    own = {"pod": net.POD, "outside": net.OUTSIDE, "blocked": net.BLOCKED}.get(sender, "")
    source = net.BLOCKED if sender == "blocked" else net.OUTSIDE if sender == "outside" else ""
    address = {"clusterIP": CLUSTER_IP, "nodePort": net.NODE, "externalIP": EXTERNAL_IP,
               "loadBalancerIP": LOAD_BALANCER_IPS[0], "localhost": "127.0.0.1"}[to["address"]]  # fmt: skip
    outcome, wanted = expect["outcome"], set(expect.get("endpoints", ()))
    tries = 20 * len(wanted) if outcome == "DNAT" else 2
    heard = [net.ask(netns, address, to["port"], protocol=to["protocol"].lower(), source=source) for _ in range(tries)]
    outcomes = {each.outcome for each in heard}
    if outcome == "DNAT":
        answering = {each.endpoint for each in heard}
        if outcomes != {"answered"} or (len(answering) != 1 if expect.get("sticky") else answering != wanted):
            return f"{outcomes} from {answering}, not {wanted}"
        seen = {each.seen for each in heard}
        if expect.get("masquerade") and not seen <= {net.NODE, net.SECOND, "10.244.1.1"}:
            return f"seen as {seen}, not as the node"
        if expect.get("masquerade") is False and seen != {own}:
            return f"seen as {seen}, not as {own}"
        return ""
    if outcome == "NOMATCH":
        # whoever has the address gets the packet: the server that waits at the other node, or nobody on this one
        strays = {each.endpoint for each in heard} | outcomes
        return "" if strays <= {"untouched", "answered"} or (address == "127.0.0.1" and outcomes == {"refused"}) else (
            f"{heard}, not untouched"
        )  # fmt: skip
    return "" if outcomes == {{"REJECT": "refused", "DROP": "nothing"}[outcome]} else f"{outcomes}, not {outcome}"


def played(mode: Any, backend: str | None) -> dict[str, str]:
    """In the sandbox: every flow of a mode, with what was wrong."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    net.build()
    net.ip_batch("far", [f"address add {CLUSTER_IP}/32 dev lo"])
    servers, found = net.Servers(), {}
    for flow in flows(mode):
        servers.close_all()
        service, endpoints, places = objects(flow)
        for name, (netns, address) in places.items():
            for port in {port["targetPort"] for port in flow["service"]["ports"]}:
                servers.serve(name, netns, address, port)
        expect = expectation(flow, mode)
        if expect["outcome"] == "NOMATCH" and flow["to"]["address"] == "clusterIP":
            servers.serve("untouched", "far", CLUSTER_IP, flow["to"]["port"])
        settings = dict(flow.get("proxy", {}))
        config = {"nftables" if mode == "nftables" else "iptables": settings} if settings else {}
        config.get("nftables", {}).pop("localhostNodePorts", None)
        with net.Proxy(mode, config, backend, zone=flow.get("nodeZone", "")) as proxy:
            proxy.set(service, endpoints)
            proxy.sync()
            found[flow["id"]] = play(flow, expect, places)
    return found


@pytest.mark.parametrize(
    ("mode", "backend", "user_namespace"),
    [
        ("iptables", "nft", False),
        ("iptables", "legacy", False),
        ("nftables", None, False),
        ("userspace", None, False),
        ("iptables", "nft", True),
        ("nftables", None, True),
    ],
)
def test_every_flow_ends_as_the_table_says(mode: str, backend: str | None, user_namespace: bool) -> None:
    found = netbox.run(played, mode, backend, user_namespace=user_namespace)
    assert len(found) == len(flows(mode))
    assert {flow: wrong for flow, wrong in found.items() if wrong} == {}


def test_the_table_has_34_flows_and_names_only_known_modes() -> None:
    table = list(map(json.loads, FLOWS.read_text().splitlines()))
    assert len({flow["id"] for flow in table}) == 34
    assert {mode for flow in table for mode in flow["modes"]} == {*MODES, "ipvs"}
