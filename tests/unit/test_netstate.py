"""Desired against found state: what is missing is added, what is ours and no longer wanted goes, the rest stays."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from mininetes.errors import MininetesError
from mininetes.kernel.netstate import Change, Found, Hop, NetState, Route, difference


def route(destination: str, *gateways: str, device: str = "eth0") -> Route:
    hops = [Hop(device, IPv4Address(gateway)) for gateway in gateways] or [Hop(device)]
    return Route(IPv4Network(destination), tuple(hops))


def address(text: str, device: str = "eth0") -> tuple[str, IPv4Interface]:
    return (device, IPv4Interface(text))


TO_2, TO_3 = route("10.244.2.0/24", "192.168.1.12"), route("10.244.3.0/24", "192.168.1.13")
DEFAULT = route("0.0.0.0/0", "192.168.1.1")
WANTED = NetState(
    up=frozenset({"lo", "eth0"}),
    addresses=frozenset({address("192.168.1.11/24")}),
    routes=frozenset({TO_2, DEFAULT}),
    sysctls={"ipv4/ip_forward": "1"},
)


def as_wanted(state: NetState) -> Found:
    return Found({name: n for n, name in enumerate(sorted(state.up), 1)}, state.up, state.addresses, state.routes,
                 dict(state.sysctls))  # fmt: skip


NOTHING_THERE = Found({"lo": 1, "eth0": 2}, frozenset(), frozenset(), frozenset(), {"ipv4/ip_forward": "0"})


def said(changes: list[Change]) -> list[str]:
    return [str(change) for change in changes]


def test_everything_that_is_missing_is_named_in_words_of_ip() -> None:
    assert said(difference(WANTED, NOTHING_THERE)) == [
        "add address 192.168.1.11/24 dev eth0",
        "up link eth0",
        "up link lo",
        "add route 10.244.2.0/24 via 192.168.1.12 dev eth0",
        "add route default via 192.168.1.1 dev eth0",
        "set sysctl ipv4/ip_forward=1",
    ]


def test_what_is_as_wanted_needs_nothing() -> None:
    assert difference(WANTED, as_wanted(WANTED)) == []


def test_what_a_person_added_is_left_alone() -> None:
    found = as_wanted(
        WANTED.merged(
            NetState(
                up=frozenset({"mine"}),
                addresses=frozenset({address("10.9.9.1/24", "mine")}),
                routes=frozenset({TO_3, route("10.9.0.0/16", device="mine")}),
                sysctls={"ipv4/tcp_ecn": "1"},
            )
        )
    )
    assert difference(WANTED, found) == []


def test_a_route_that_leads_elsewhere_is_changed_not_added() -> None:
    bent = route("10.244.2.0/24", "192.168.1.99")
    found = as_wanted(NetState(WANTED.up, WANTED.addresses, frozenset({bent, DEFAULT}), WANTED.sysctls))
    assert said(difference(WANTED, found)) == ["change route 10.244.2.0/24 via 192.168.1.12 dev eth0"]


def test_a_wrong_sysctl_is_set() -> None:
    found = as_wanted(NetState(WANTED.up, WANTED.addresses, WANTED.routes, {"ipv4/ip_forward": "0"}))
    assert said(difference(WANTED, found)) == ["set sysctl ipv4/ip_forward=1"]


def test_a_sysctl_that_the_kernel_does_not_have_is_not_as_wanted() -> None:
    found = as_wanted(NetState(WANTED.up, WANTED.addresses, WANTED.routes, {"ipv4/ip_forward": ""}))
    assert said(difference(WANTED, found)) == ["set sysctl ipv4/ip_forward=1"]


def test_only_what_was_declared_before_is_removed() -> None:
    before = WANTED.merged(NetState(addresses=frozenset({address("10.9.9.1/24")}), routes=frozenset({TO_3})))
    by_hand = route("10.7.0.0/16", "192.168.1.7")
    found = as_wanted(before.merged(NetState(routes=frozenset({by_hand}))))
    assert said(difference(WANTED, found, before)) == [
        "remove address 10.9.9.1/24 dev eth0",
        "remove route 10.244.3.0/24 via 192.168.1.13 dev eth0",
    ]


def test_what_was_declared_before_and_has_gone_already_needs_no_removal() -> None:
    before = WANTED.merged(NetState(routes=frozenset({TO_3})))
    assert difference(WANTED, as_wanted(WANTED), before) == []


def test_a_declared_route_that_a_person_bent_is_not_taken_away_from_them() -> None:
    bent = route("10.244.3.0/24", "192.168.1.99")
    before = WANTED.merged(NetState(routes=frozenset({TO_3})))
    assert difference(WANTED, as_wanted(WANTED.merged(NetState(routes=frozenset({bent})))), before) == []


def test_a_route_that_only_changes_its_hops_is_not_removed_as_well() -> None:
    new = route("10.244.2.0/24", "192.168.1.99")
    desired = NetState(routes=frozenset({new}))
    found = as_wanted(NetState(routes=frozenset({TO_2})))
    assert said(difference(desired, found, NetState(routes=frozenset({TO_2})))) == [f"change route {new}"]


def test_a_route_over_several_hops_is_one_route() -> None:
    both = route("10.244.2.0/24", "100.64.0.2", "100.64.0.6")
    assert str(both) == "10.244.2.0/24 via 100.64.0.2 dev eth0 nexthop via 100.64.0.6 dev eth0"
    found = as_wanted(NetState(routes=frozenset({route("10.244.2.0/24", "100.64.0.2")})))
    assert said(difference(NetState(routes=frozenset({both})), found)) == [f"change route {both}"]


def random_state(choose: random.Random) -> NetState:
    """A state with at most one route to each of a few destinations."""
    routes = [
        route(f"10.244.{n}.0/24", f"192.168.1.{choose.randint(11, 14)}") for n in range(6) if choose.random() < 0.5
    ]
    devices = frozenset(choose.sample(["lo", "eth0", "eth1", "cni0"], 2))
    addresses = {address(f"192.168.{choose.randint(1, 4)}.1/24", device) for device in devices}
    return NetState(devices, frozenset(addresses), frozenset(routes), {"ipv4/ip_forward": choose.choice("01")})


@pytest.mark.parametrize("seed", range(50))
def test_applying_twice_does_nothing_the_second_time(seed: int) -> None:
    """Whatever a person has besides: with the desired state in the kernel, nothing is left to do."""
    choose = random.Random(seed)
    desired, before, by_hand = (random_state(choose) for _ in range(3))
    mine = {each.destination for each in desired.routes}
    extra = NetState(by_hand.up, by_hand.addresses, frozenset(r for r in by_hand.routes if r.destination not in mine))
    kernel = desired.merged(extra)
    leftover = frozenset(kernel.addresses - (before.addresses - desired.addresses))
    gone = before.routes - desired.routes
    routes = frozenset(r for r in kernel.routes if r not in gone or r.destination in mine)
    assert difference(desired, as_wanted(NetState(kernel.up, leftover, routes, kernel.sysctls)), before) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_difference_does_not_depend_on_the_order_of_sets(seed: int) -> None:
    choose = random.Random(seed)
    desired, found = random_state(choose), as_wanted(random_state(choose))
    changes = difference(desired, found)
    assert changes == sorted(changes)
    assert changes == difference(NetState(desired.up, desired.addresses, frozenset(sorted(desired.routes)),
                                          dict(desired.sysctls)), found)  # fmt: skip


def test_two_states_become_one() -> None:
    both = WANTED.merged(NetState(up=frozenset({"cni0"}), routes=frozenset({TO_3}), sysctls={"ipv4/tcp_ecn": "1"}))
    assert both.up == {"lo", "eth0", "cni0"}
    assert both.routes == {TO_2, TO_3, DEFAULT}
    assert both.sysctls == {"ipv4/ip_forward": "1", "ipv4/tcp_ecn": "1"}


def test_two_wishes_for_one_sysctl_are_an_error() -> None:
    assert WANTED.merged(WANTED) == WANTED
    with pytest.raises(MininetesError, match=r"ipv4/ip_forward.*1.*0"):
        WANTED.merged(NetState(sysctls={"ipv4/ip_forward": "0"}))
