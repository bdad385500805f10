"""UDP connections that would go on to endpoints which are gone: what to have conntrack(8) forget.

UDP has no end that the kernel could see, so a client that sends on from the same port keeps its old
translation: to an endpoint that is gone, or to nowhere from before the first endpoint came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.agents.kubeproxy.view import PortTraffic
from mininetes.kernel.processes import ProcessFailed

_NONE_DELETED = "0 flow entries have been deleted"


def stale_flows(old: Iterable[PortTraffic], new: Iterable[PortTraffic]) -> list[tuple[str, ...]]:
    """The filters of ``conntrack -D`` after ports of services changed. Pure; sorted, each once."""
    now = {_key(traffic): traffic for traffic in new if traffic.port.protocol == "udp"}
    found: set[tuple[str, ...]] = set()
    seen = set()
    for before in old:
        if before.port.protocol != "udp":
            continue
        seen.add(_key(before))
        after = now.get(_key(before))
        if after is None or _addresses(after) != _addresses(before) or (not before.reachable and after.reachable):
            found |= set(_all_of(before))
        left = {str(each) for each in after.reachable} if after else set()
        for gone in sorted({each.address for each in before.reachable if str(each) not in left}):
            found |= {(*flow, "--dst-nat", gone) for flow in _all_of(before)}
    for key, traffic in now.items():
        if key not in seen and traffic.reachable:
            found |= set(_all_of(traffic))
    return sorted(found)


def _key(traffic: PortTraffic) -> tuple[str, str]:
    return traffic.port.name, traffic.port.protocol


def _addresses(traffic: PortTraffic) -> tuple[object, ...]:
    port = traffic.port
    return port.cluster_ip, port.external_ips, port.load_balancer_ips, port.port, port.node_port


def _all_of(traffic: PortTraffic) -> list[tuple[str, ...]]:
    """Flows to any address of a service port."""
    port = traffic.port
    flows: list[tuple[str, ...]] = [
        ("--orig-dst", ip, "--orig-port-dst", str(port.port))
        for ip in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips)
    ]
    if port.node_port:
        flows.append(("--orig-port-dst", str(port.node_port)))
    return flows


def forget(tools: NodeTools, flows: Sequence[tuple[str, ...]]) -> int:
    """Have the node's kernel forget these flows; returns for how many filters any were there. Blocking.

    Raises ProcessFailed when conntrack(8) cannot do it.
    """
    hit = 0
    for flow in flows:
        done = tools.run("conntrack", "-D", "-p", "udp", *flow, check=False)
        if done.status == 0:
            hit += 1
        elif _NONE_DELETED not in done.stderr:
            raise ProcessFailed(done)
    return hit
