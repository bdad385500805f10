"""The applier on a kernel: what a tunnel needs is made, repaired when somebody meddles, and taken back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import netbox
import pytest

from mininetes.kernel import applier
from mininetes.kernel.netstate import Chain, FdbEntry, Hop, Neighbour, NetState, Route, Vxlan
from mininetes.kernel.packet_rules import Backend, Iptables
from mininetes.kernel.processes import Namespaces
from mininetes.kernel.processes import run as run_process

HERE = "/proc/thread-self/ns/net"
FORWARD = '-m comment --comment "a fabric" -j A-FABRIC'


def vxlan(**changed: Any) -> Vxlan:
    wanted: dict[str, Any] = {
        "name": "flannel.1", "vni": 1, "local": IPv4Address("192.168.1.11"), "device": "up0", "port": 8472,
        "mac": "02:00:0a:f4:01:00", "mtu": 1450,
    }  # fmt: skip
    return Vxlan(**{**wanted, **changed})


def state(peers: int = 3, **changed: Any) -> NetState:
    """One end of a tunnel to so many peers."""
    numbers = range(2, 2 + peers)
    subnets = {n: IPv4Address(f"10.244.{n}.0") for n in numbers}
    return NetState(
        up=frozenset({"flannel.1"}),
        addresses=frozenset({("flannel.1", IPv4Interface("10.244.1.0/32"))}),
        routes=frozenset(
            Route(IPv4Network(f"{at}/24"), (Hop("flannel.1", at, onlink=True),)) for at in subnets.values()
        ),
        links=frozenset({vxlan(**changed)}),
        neighbours=frozenset(Neighbour("flannel.1", at, f"02:00:0a:f4:{n:02x}:00") for n, at in subnets.items()),
        fdb=frozenset(
            FdbEntry("flannel.1", f"02:00:0a:f4:{n:02x}:00", IPv4Address(f"192.168.1.{10 + n}")) for n in numbers
        ),
        chains=frozenset(
            {Chain("filter", "A-FABRIC", ("-s 10.244.0.0/16 -j ACCEPT", "-d 10.244.0.0/16 -j ACCEPT"),
                   (("FORWARD", FORWARD),))}
        ),
    )  # fmt: skip


def prepare() -> None:
    lines = ["link set lo up", "link add up0 type veth peer name up1", "address add 192.168.1.11/24 dev up0"]
    netbox.ip_batch("", [*lines, "link set up0 up", "link set up1 up"])


def do(*argv: str) -> str:
    return run_process(argv).stdout


def said(changes: list[Any]) -> list[str]:
    return [str(change) for change in changes]


# --- inside the sandbox -------------------------------------------------------------------------------------------


def made() -> dict[str, Any]:
    prepare()
    first = said(applier.apply(HERE, state()))
    return {
        "first": first,
        "again": said(applier.apply(HERE, state())),
        "link": do("ip", "-d", "link", "show", "flannel.1"),
        "route": do("ip", "route"),
        "neigh": do("ip", "neigh", "show", "nud", "permanent"),
        "fdb": do("bridge", "fdb", "show", "dev", "flannel.1"),
        "rules": do("iptables-save", "-t", "filter"),
    }


def meddled(steps: dict[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    prepare()
    applier.apply(HERE, state())
    found = {}
    for what, argv in steps.items():
        do(*argv)
        drift = said(applier.drift(HERE, state()))
        applied = said(applier.apply(HERE, state()))
        found[what] = {"drift": drift, "applied": applied, "left": said(applier.drift(HERE, state()))}
    return found


def smaller() -> dict[str, Any]:
    prepare()
    applier.apply(HERE, state())
    do("ip", "route", "add", "10.99.0.0/16", "via", "192.168.1.99")
    do("iptables", "-A", "FORWARD", "-s", "10.99.0.0/16", "-j", "ACCEPT")
    less = said(applier.apply(HERE, state(1), state()))
    two_left = {
        "neigh": do("ip", "neigh", "show", "nud", "permanent"),
        "fdb": do("bridge", "fdb", "show", "dev", "flannel.1"),
        "route": do("ip", "route"),
    }
    nothing = said(applier.apply(HERE, NetState(), state(1)))
    return {
        "less": less, "two_left": two_left, "nothing": nothing, "links": do("ip", "-brief", "link"),
        "route": do("ip", "route"), "rules": do("iptables-save", "-t", "filter"),
    }  # fmt: skip


def other_device(changed: dict[str, Any]) -> dict[str, Any]:
    prepare()
    applier.apply(HERE, state())
    before = do("ip", "-o", "link", "show", "flannel.1").split(":")[0]
    changes = said(applier.apply(HERE, state(**changed), state()))
    after = do("ip", "-o", "link", "show", "flannel.1").split(":")[0]
    return {"changes": changes, "left": said(applier.drift(HERE, state(**changed))), "same device": before == after}


def with_backend(backend: Backend) -> list[str]:
    prepare()
    tools = Iptables(Namespaces(net=HERE), backend)
    first = said(applier.apply(HERE, state(), iptables=tools))
    saved = do(f"iptables-{backend}-save", "-t", "filter")
    return [*said(applier.apply(HERE, state(), iptables=tools)), saved if first else "nothing was done"]


# --- outside ------------------------------------------------------------------------------------------------------

MEDDLING = {
    "a route is deleted": (["ip", "route", "del", "10.244.2.0/24"],
                           ["add route 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink"]),
    "a neighbour is forgotten": (["ip", "neigh", "del", "10.244.3.0", "dev", "flannel.1"],
                                 ["add neighbour 10.244.3.0 lladdr 02:00:0a:f4:03:00 dev flannel.1"]),
    "a neighbour is another": (["ip", "neigh", "replace", "10.244.3.0", "lladdr", "02:00:00:00:00:99", "dev",
                                "flannel.1", "nud", "permanent"],
                               ["change neighbour 10.244.3.0 lladdr 02:00:0a:f4:03:00 dev flannel.1"]),
    "a forwarding entry is stale": (["bridge", "fdb", "replace", "02:00:0a:f4:02:00", "dev", "flannel.1", "dst",
                                     "192.168.1.77"],
                                    ["change fdb 02:00:0a:f4:02:00 dev flannel.1 dst 192.168.1.12"]),
    "the mtu is another": (["ip", "link", "set", "flannel.1", "mtu", "1400"], ["change link flannel.1 type vxlan id 1 "
                           "local 192.168.1.11 dev up0 dstport 8472 nolearning address 02:00:0a:f4:01:00 mtu 1450 "
                           "txqueuelen 0"]),
    "the chain is empty": (["iptables", "-F", "A-FABRIC"], ["change chain filter A-FABRIC"]),
    "nothing leads into the chain": (["iptables", "-F", "FORWARD"], [f"add rule filter FORWARD {FORWARD}"]),
}  # fmt: skip


@pytest.mark.parametrize("user_namespace", [False, True])
def test_a_tunnel_is_made_as_its_user_knows_it_and_a_second_time_nothing_is_done(user_namespace: bool) -> None:
    found = netbox.run(made, user_namespace=user_namespace)
    assert found["again"] == []
    assert len(found["first"]) == 1 + 1 + 1 + 3 + 3 + 3 + 2
    assert "vxlan id 1 local 192.168.1.11 dev up0 srcport 0 0 dstport 8472 " in found["link"]
    assert " nolearning " in found["link"]
    assert "mtu 1450" in found["link"]
    assert "qlen" not in found["link"]
    assert "10.244.4.0/24 via 10.244.4.0 dev flannel.1 onlink" in found["route"]
    assert "10.244.4.0 dev flannel.1 lladdr 02:00:0a:f4:04:00 PERMANENT" in found["neigh"]
    assert "02:00:0a:f4:04:00 dst 192.168.1.14 self permanent" in found["fdb"]
    assert f"-A FORWARD {FORWARD}" in found["rules"]
    assert "-A A-FABRIC -d 10.244.0.0/16 -j ACCEPT" in found["rules"]


def test_what_somebody_meddles_with_is_named_and_repaired() -> None:
    found = netbox.run(meddled, {what: argv for what, (argv, _) in MEDDLING.items()})
    assert found == {what: {"drift": words, "applied": words, "left": []} for what, (_, words) in MEDDLING.items()}


def test_a_deleted_device_comes_back_with_all_that_was_on_it() -> None:
    found = netbox.run(meddled, {"gone": ["ip", "link", "del", "flannel.1"]})["gone"]
    assert found["left"] == []
    assert len(found["applied"]) == 1 + 1 + 1 + 3 + 3 + 3


def test_what_is_no_longer_declared_goes_and_what_a_person_added_stays() -> None:
    found = netbox.run(smaller)
    assert sorted(each.split()[0] + " " + each.split()[1] for each in found["less"]) == [
        "remove fdb", "remove fdb", "remove neighbour", "remove neighbour", "remove route", "remove route",
    ]  # fmt: skip
    assert "10.244.3.0" not in "".join(found["two_left"].values())
    assert all("02:00:0a:f4:02:00" in found["two_left"][kind] for kind in ("neigh", "fdb"))
    assert "flannel.1" not in found["links"]
    assert "10.244" not in found["route"] + found["rules"].replace("10.99.0.0/16", "")
    assert "10.99.0.0/16 via 192.168.1.99" in found["route"]
    assert "-A FORWARD -s 10.99.0.0/16 -j ACCEPT" in found["rules"]
    assert "A-FABRIC" not in found["rules"]


@pytest.mark.parametrize(
    ("changed", "same"),
    [({"mtu": 1400}, True), ({"mac": "02:00:00:00:00:01"}, True), ({"vni": 7}, False), ({"port": 4789}, False),
     ({"learning": True}, False)],
    ids=str,
)  # fmt: skip
def test_a_device_is_made_anew_only_for_what_cannot_be_changed(changed: dict[str, Any], same: bool) -> None:
    found = netbox.run(other_device, changed)
    assert found["left"] == []
    assert found["same device"] is same
    assert found["changes"][-1].startswith("change link flannel.1")


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_chains_are_written_with_either_iptables(backend: str) -> None:
    *changes, saved = netbox.run(with_backend, backend)
    assert changes == []
    assert f"-A FORWARD {FORWARD}" in saved
