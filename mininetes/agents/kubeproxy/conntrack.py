"""What to have conntrack(8) forget.

UDP has no end that the kernel could see, so a client that sends on from the same port keeps its old
translation: to an endpoint that is gone, or to nowhere from before the first endpoint came.

An attempt that nobody answered (a SYN for two minutes, a datagram for 30 s) keeps its translation too, whatever
rules there are by then: the next from the same port has the same fate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.agents.kubeproxy.view import PortTraffic
from mininetes.kernel.processes import ProcessFailed

_NONE_DELETED = "0 flow entries have been deleted"
_LOOK_FIRST = 2
"""With more filters than these it pays to list the flows: each filter is a process, and most find nothing."""
_ENDS = re.compile(r"\b(src|dst|sport|dport)=(\S+)")


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


def there(flows: Iterable[tuple[str, ...]], listing: str) -> list[tuple[str, ...]]:
    """Those filters that a flow of ``conntrack -L`` passes. Pure."""
    seen: set[tuple[str, str, str]] = set()
    for line in listing.splitlines():
        ends = [value for _, value in _ENDS.findall(line)]
        if len(ends) == 8:  # source, destination and ports of the original direction, and of the reply
            seen |= {(to, ends[3], nat) for to in (ends[1], "") for nat in (ends[4], "")}
    return [flow for flow in flows if _wanted(flow) in seen]


def _wanted(flow: tuple[str, ...]) -> tuple[str, str, str]:
    given = dict(zip(flow[::2], flow[1::2], strict=True))
    return given.get("--orig-dst", ""), given["--orig-port-dst"], given.get("--dst-nat", "")


def unanswered(listing: str) -> list[tuple[str, ...]]:
    """The filters that pick the flows of ``conntrack -L`` which never had an answer. Pure."""
    found: list[tuple[str, ...]] = []
    for line in listing.splitlines():
        if "[UNREPLIED]" in line:
            source, to, sport, dport = (value for _, value in _ENDS.findall(line)[:4])
            found.append(("-s", source, "-d", to, "--orig-port-src", sport, "--orig-port-dst", dport))
    return found


def forget_unanswered(tools: NodeTools) -> None:
    """Have the node's kernel forget the attempts that had no answer; connections stay. Blocking.

    Raises ProcessFailed when conntrack(8) cannot do it.
    """
    tools.run("conntrack", "-D", "-p", "tcp", "--state", "SYN_SENT", check=False)
    for flow in unanswered(tools.run("conntrack", "-L", "-p", "udp").stdout):
        tools.run("conntrack", "-D", "-p", "udp", *flow, check=False)  # it may have ended meanwhile


def forget(tools: NodeTools, flows: Sequence[tuple[str, ...]]) -> int:
    """Have the node's kernel forget these flows; returns for how many filters any were there. Blocking.

    Raises ProcessFailed when conntrack(8) cannot do it.
    """
    hit = 0
    if len(flows) > _LOOK_FIRST:
        flows = there(flows, tools.run("conntrack", "-L", "-p", "udp").stdout)
    for flow in flows:
        done = tools.run("conntrack", "-D", "-p", "udp", *flow, check=False)
        if done.status == 0:
            hit += 1
        elif _NONE_DELETED not in done.stderr:
            raise ProcessFailed(done)
    return hit
