"""Rules about CHECK: it passes after ADD, and fails after each damage (CNI section 2)."""

from __future__ import annotations

from collections.abc import Sequence

from mininetes.testbed.cni_check.host import Attachment, Host, told
from mininetes.testbed.cni_check.rule import CONNECTING, Failed, NotApplicable, expect, rule

_MAKES = ("interface",)


@rule("2 CHECK", since="0.4.0")
def check_passes(host: Host) -> None:
    """CHECK succeeds after ADD, and prints nothing."""
    answer = host.check(host.add())
    expect(answer.ok, "CHECK succeeds", answer)
    expect(not answer.stdout.strip(), "nothing on standard output", answer.stdout)


def _sound(host: Host) -> Attachment:
    """An attachment that CHECK finds in order."""
    at = host.add()
    answer = host.check(at)
    if not answer.ok:
        raise Failed("CHECK succeeds before the damage", answer)
    return at


def _seen(host: Host, at: Attachment, damage: str) -> None:
    """See that CHECK fails now."""
    answer = host.check(at)
    expect(not answer.ok, f"CHECK fails when {damage}", answer)
    told(answer)


def _inside(host: Host, at: Attachment, *lines: str) -> None:
    host.ip(lines, at.container.namespaces)


@rule("2 CHECK", kinds=CONNECTING, since="0.4.0", level="should")
def check_without_prev_result(host: Host) -> None:
    """CHECK without prevResult is an error."""
    told(host.call("CHECK", host.add(), prevResult=None))


@rule("2 CHECK", kinds=_MAKES, since="0.4.0", level="should")
def check_interface_gone(host: Host) -> None:
    """CHECK fails when the container's interface is gone."""
    at = _sound(host)
    _inside(host, at, f"link delete {at.ifname}")
    _seen(host, at, f"{at.ifname} is gone")


@rule("2 CHECK", kinds=_MAKES, since="0.4.0", level="should")
def check_interface_down(host: Host) -> None:
    """CHECK fails when the container's interface is down."""
    at = _sound(host)
    _inside(host, at, f"link set {at.ifname} down")
    _seen(host, at, f"{at.ifname} is down")


@rule("2 CHECK", kinds=_MAKES, since="0.4.0", level="should")
def check_address_gone(host: Host) -> None:
    """CHECK fails when an address of the result is gone."""
    at = _sound(host)
    result = host.result(at)
    if not result.addresses:
        raise NotApplicable("its result has no addresses")
    before = host.inside(at.container).routes
    _inside(host, at, f"address delete {result.addresses[0].cidr} dev {at.ifname}")
    # so that the address alone is missing, another one takes the routes over
    other = _neighbour(result.addresses[0].cidr)
    _inside(host, at, f"address add {other} dev {at.ifname}")
    missing = before - host.inside(at.container).routes
    host.ip(_route_lines(sorted(map(str, missing))), at.container.namespaces, check=False)
    _seen(host, at, f"{result.addresses[0].cidr} is gone")


def _neighbour(cidr: str) -> str:
    """Another address of the same network."""
    address, length = cidr.split("/")
    start, last = address.rsplit(".", 1)
    return f"{start}.{int(last) ^ 128}/{length}"


def _route_lines(routes: Sequence[str]) -> list[str]:
    return [f"route add {route}" for route in routes]


@rule("2 CHECK", kinds=_MAKES, since="0.4.0", level="should")
def check_route_gone(host: Host) -> None:
    """CHECK fails when a route of the result is gone."""
    at = _sound(host)
    result = host.result(at)
    if not result.routes:
        raise NotApplicable("its result has no routes")
    destination = result.routes[0][0]
    _inside(host, at, f"route delete {destination}")
    _seen(host, at, f"the route {destination} is gone")


@rule("2 CHECK", kinds=_MAKES, since="0.4.0", level="should")
def check_host_interface_gone(host: Host) -> None:
    """CHECK fails when an interface of the result is gone from the host."""
    at = _sound(host)
    named = [each["name"] for each in host.result(at).interfaces or [] if not each.get("sandbox")]
    there = host.state().interfaces
    found = [name for name in named if name in there]
    if not found:
        raise NotApplicable("its result lists no interface of the host")
    host.ip([f"link delete {found[0]}"], host.namespaces)
    _seen(host, at, f"{found[0]} is gone")


@rule("2 CHECK", kinds=_MAKES, since="0.4.0", level="should")
def check_off_the_bridge(host: Host) -> None:
    """CHECK fails when the host's end has been taken off its bridge."""
    at = _sound(host)
    named = {each["name"] for each in host.result(at).interfaces or [] if not each.get("sandbox")}
    ports = [each.name for each in host.state().interfaces.values() if each.name in named and each.master]
    if not ports:
        raise NotApplicable("it puts nothing onto a bridge")
    host.ip([f"link set {ports[0]} nomaster"], host.namespaces)
    _seen(host, at, f"{ports[0]} is on no bridge")


@rule("2 CHECK", kinds=_MAKES, since="0.4.0", level="should")
def check_other_mac(host: Host) -> None:
    """CHECK fails when the interface has another MAC address than in the result."""
    at = _sound(host)
    before = host.inside(at.container)
    if before.interfaces[at.ifname].kind in ("ipvlan", ""):
        raise NotApplicable("its interface has no MAC address of its own")
    _inside(host, at, f"link set {at.ifname} address 02:00:00:00:00:99")
    missing = before.routes - host.inside(at.container).routes
    host.ip(_route_lines(sorted(map(str, missing))), at.container.namespaces, check=False)
    _seen(host, at, "its MAC address is another one")


@rule("2 CHECK", kinds=("ipam",), since="0.4.0", level="should")
def check_reservation_gone(host: Host) -> None:
    """CHECK of an IPAM plugin fails when the address is no longer reserved."""
    if not host.gives_addresses:
        raise NotApplicable("it reserves no addresses")
    at = _sound(host)
    host.delete(at)
    _seen(host, at, "the address is released")
