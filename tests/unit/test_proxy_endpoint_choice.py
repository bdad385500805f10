"""Which endpoints a service port uses on node1 (zone a): one table, whatever the mode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from proxy_objects import endpoint, service_port

from mininetes.agents.kubeproxy.endpoint_choice import choose
from mininetes.agents.kubeproxy.services import Endpoint
from mininetes.agents.kubeproxy.view import Fate, PortTraffic

HERE, HERE_2, FAR = endpoint(1), endpoint(2), endpoint(1, "node2")
HERE_LEAVING, FAR_LEAVING = endpoint(3, state="terminating"), endpoint(3, "node2", "terminating")
HERE_DOWN, FAR_GOING = endpoint(4, state="down"), endpoint(4, "node2", "going")
A, B, A_2, UNHINTED = (endpoint(n, f"node{n}", zones=z) for n, z in ((1, "a"), (2, "b"), (3, "a b"), (4, "")))
LOCAL_INSIDE, LOCAL_OUTSIDE = {"internal_local": True}, {"external_local": True, "node_port": 30080}
HINTED = {"hints": True}


@dataclass(frozen=True)
class Case:
    what: str
    port: dict[str, Any]
    endpoints: tuple[Endpoint, ...]
    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    internal: Fate = Fate.SERVE
    external: Fate = Fate.SERVE
    zone: str = "a"
    reachable: tuple[Endpoint, ...] | None = field(default=None)


CASES = [
    Case("no endpoint", {}, (), internal=Fate.REJECT, external=Fate.REJECT),
    Case("ready ones", {}, (HERE, FAR), cluster=(HERE, FAR)),
    Case("not those that are not ready", {}, (HERE, HERE_DOWN, FAR, FAR_GOING), cluster=(HERE, FAR)),
    Case("none ready, none serving", {}, (HERE_DOWN, FAR_GOING), internal=Fate.REJECT, external=Fate.REJECT),
    Case("none ready: those that serve while they end", {}, (HERE_LEAVING, HERE_DOWN, FAR_LEAVING),
         cluster=(HERE_LEAVING, FAR_LEAVING)),
    Case("a ready one goes before those that end", {}, (HERE_LEAVING, FAR), cluster=(FAR,)),
    Case("internal Local: only here", LOCAL_INSIDE, (HERE, HERE_2, FAR), local=(HERE, HERE_2)),
    Case("internal Local: none here", LOCAL_INSIDE, (FAR,), internal=Fate.DROP),
    Case("internal Local: none anywhere", LOCAL_INSIDE, (), internal=Fate.REJECT, external=Fate.REJECT),
    Case("internal Local: none ready here, one serving", LOCAL_INSIDE, (HERE_LEAVING, FAR), local=(HERE_LEAVING,)),
    Case("internal Local: serving elsewhere only", LOCAL_INSIDE, (FAR_LEAVING,), internal=Fate.DROP),
    Case("external Local: here for outside, all for inside", LOCAL_OUTSIDE, (HERE, FAR), cluster=(HERE, FAR),
         local=(HERE,)),
    Case("external Local: none here", LOCAL_OUTSIDE, (FAR,), cluster=(FAR,), external=Fate.DROP),
    Case("external Local: one ends here, one is ready elsewhere", LOCAL_OUTSIDE, (HERE_LEAVING, FAR), cluster=(FAR,),
         local=(HERE_LEAVING,), reachable=(HERE_LEAVING, FAR)),
    Case("external Local does not count without an outside", {"external_local": True}, (FAR,), cluster=(FAR,),
         external=Fate.DROP),
    Case("both Local, with an outside", {**LOCAL_INSIDE, **LOCAL_OUTSIDE}, (HERE, FAR), cluster=(HERE, FAR),
         local=(HERE,)),
    Case("hints: my zone's", HINTED, (A, B, A_2), cluster=(A, A_2)),
    Case("hints that nobody asked for", {}, (A, B, A_2), cluster=(A, B, A_2)),
    Case("hints, but my zone is not known", HINTED, (A, B, A_2), cluster=(A, B, A_2), zone=""),
    Case("hints, but one endpoint has none", HINTED, (A, B, UNHINTED), cluster=(A, B, UNHINTED)),
    Case("hints, but none for my zone", HINTED, (A, B, A_2), cluster=(A, B, A_2), zone="c"),
    Case("hints of endpoints that are not ready do not count", HINTED, (A, B, endpoint(5, state="down")), cluster=(A,)),
    Case("hints and external Local: local ones whatever their zone", {**HINTED, **LOCAL_OUTSIDE}, (A, B, A_2),
         cluster=(B, A_2), local=(A,), zone="b", reachable=(A, B, A_2)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_endpoints_are_chosen_as_kube_proxy_does(case: Case) -> None:
    port = service_port(**case.port)
    choice = choose(port, case.endpoints, "node1", case.zone)
    assert (choice.cluster, choice.local) == (case.cluster, case.local)
    expected = case.reachable or tuple(sorted({*case.cluster, *case.local}, key=str))
    assert tuple(sorted(choice.reachable, key=str)) == expected
    traffic = PortTraffic(port, case.endpoints, choice.cluster, choice.local, choice.reachable, choice.anywhere)
    assert (traffic.internal, traffic.external) == (case.internal, case.external)


def test_a_choice_that_no_node_makes_otherwise_can_be_shared() -> None:
    everywhere = (HERE, FAR)
    assert not choose(service_port(), everywhere, "node1", "a").by_node
    for port in (LOCAL_INSIDE, LOCAL_OUTSIDE, HINTED):
        assert choose(service_port(**port), everywhere, "node1", "a").by_node


def test_an_endpoint_without_a_node_is_local_to_nobody() -> None:
    nowhere = endpoint(1, "")
    assert choose(service_port(**LOCAL_INSIDE), (nowhere,), "", "").local == ()
