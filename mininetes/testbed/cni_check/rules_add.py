"""Rules about ADD: what it makes, and what its result says of it, against the kernel's state (CNI sections 2 and 5)."""

from __future__ import annotations

import ipaddress
import json
import os
import select
import subprocess
import time

from mininetes.kernel.processes import start
from mininetes.testbed.cni_check.host import BIN_DIR, Answer, Attachment, Host, told
from mininetes.testbed.cni_check.results import AddResult
from mininetes.testbed.cni_check.rule import EVERY, Failed, NotApplicable, expect, number, rule

_MAKES = ("interface",)
_CONFIGURED_DNS = {"nameservers": ["198.51.100.53"], "domain": "check.test", "search": ["a.check.test", "b.check.test"]}
_LONG_BYTES = 200_000


@rule("2 ADD")
def add_succeeds(host: Host) -> None:
    """ADD ends with status 0 and a JSON object on standard output."""
    host.add()


@rule("5 ADD Success")
def result_version(host: Host) -> None:
    """The result has the cniVersion of the configuration."""
    at = host.add()
    said = (at.result or {}).get("cniVersion")
    expect(said == host.version, f"cniVersion {host.version}", f"cniVersion {said}")


@rule("5 ADD Success")
def result_shape(host: Host) -> None:
    """The result's members have the shape of their version; an IPAM plugin's has no interfaces."""
    host.shaped(host.add())


@rule("5 Delegated plugins (IPAM)", kinds=("ipam",))
def result_addresses(host: Host) -> None:
    """An IPAM plugin's result has at least one address."""
    at = host.add()
    expect(host.result(at).addresses, "an address in the result", json.dumps(at.result))


@rule("4 Plugin Delegation", kinds=("ipam",))
def ipam_touches_nothing(host: Host) -> None:
    """An IPAM plugin leaves the container and the host's interfaces as they are."""
    container = host.container()
    before = host.inside(container).lines() | host.state().lines()
    host.add()
    after = host.inside(container).lines() | host.state().lines()
    expect(after == before, "the interfaces and routes of before", ", ".join(sorted(after ^ before)))


@rule("2 ADD", kinds=_MAKES)
def add_makes_interface(host: Host) -> None:
    """ADD makes the interface CNI_IFNAME in the container."""
    for name, ifname in (("a", "eth0"), ("b", "net-7.x")):
        at = host.add(name, ifname)
        there = host.inside(at.container).interfaces
        expect(ifname in there, f"an interface {ifname} in the container", ", ".join(there))


def _listed(host: Host, at: Attachment) -> AddResult:
    """The result of an attachment, where it lists interfaces."""
    result = host.result(at)
    if result.interfaces is None:
        if number(host.version) < (0, 3):
            raise NotApplicable("results list interfaces since CNI 0.3.0")
        raise Failed("interfaces in the result", json.dumps(at.result))
    return result


@rule("5 ADD Success", kinds=_MAKES, since="0.3.0")
def result_names_interface(host: Host) -> None:
    """The result lists the container's interface, with CNI_NETNS as its sandbox."""
    at = host.add()
    wanted = [at.ifname, at.container.netns]
    found = [[each["name"], each.get("sandbox", "")] for each in _listed(host, at).interfaces or []]
    expect(wanted in found, f"interface {wanted[0]} with sandbox {wanted[1]}", found)


@rule("5 ADD Success", kinds=_MAKES, since="0.3.0")
def result_interfaces_exist(host: Host) -> None:
    """Each interface of the result is where the result says: in the container or on the host."""
    at = host.add()
    places = {at.container.netns: host.inside(at.container).interfaces, "": host.state().interfaces}
    for each in _listed(host, at).interfaces or []:
        sandbox = each.get("sandbox") or ""
        expect(sandbox in places, f"sandbox {at.container.netns}, or none", json.dumps(each))
        where = f"in {sandbox}" if sandbox else "on the host"
        expect(each["name"] in places[sandbox], f"an interface {each['name']} {where}", ", ".join(places[sandbox]))


@rule("5 ADD Success", kinds=_MAKES, since="0.3.0")
def result_macs(host: Host) -> None:
    """The interfaces' MAC addresses in the result are the kernel's."""
    at = host.add()
    inside, outside = host.inside(at.container).interfaces, host.state().interfaces
    for each in _listed(host, at).interfaces or []:
        real = (inside if each.get("sandbox") else outside).get(each["name"])
        if real is not None:  # the container's needs one; bridges take theirs from their ports
            given = str(each.get("mac", "")).lower()
            missing = not given and not each.get("sandbox")
            expect(given == real.mac or missing, f"{each['name']} with MAC {real.mac}", json.dumps(each))


@rule("5 ADD Success", kinds=_MAKES, since="1.1.0")
def result_mtus(host: Host) -> None:
    """The interfaces' MTUs in the result are the kernel's."""
    at = host.add()
    inside, outside = host.inside(at.container).interfaces, host.state().interfaces
    given = [each for each in _listed(host, at).interfaces or [] if "mtu" in each]
    if not given:
        raise NotApplicable("its result gives no MTU, which may be left out")
    for each in given:
        real = (inside if each.get("sandbox") else outside).get(each["name"])
        expect(real is not None and each["mtu"] == real.mtu, f"{each['name']} with MTU {real and real.mtu}", each)


@rule("5 ADD Success", kinds=_MAKES)
def result_ips(host: Host) -> None:
    """The result's addresses are those that the container's interface has, with a right index."""
    at = host.add()
    result = host.result(at)
    there = host.inside(at.container).interfaces
    real = there[at.ifname].addresses if at.ifname in there else frozenset()
    given = {str(ipaddress.ip_interface(each.cidr)) for each in result.addresses}
    expect(given == real, f"the addresses of {at.ifname}: {', '.join(sorted(real)) or 'none'}", sorted(given))
    for each in result.addresses:
        if result.interfaces is not None:
            index = each.interface
            named = result.interfaces[index] if index is not None else {}
            right = named.get("name") == at.ifname and named.get("sandbox")
            expect(right, f"{each.cidr} with the index of {at.ifname} in interfaces", json.dumps(at.result))


@rule("5 ADD Success", kinds=_MAKES)
def result_routes(host: Host) -> None:
    """The container has the routes of the result."""
    at = host.add()
    result = host.result(at)
    if not result.routes:
        raise NotApplicable("its result has no routes")
    real = host.inside(at.container).routes
    for destination, gateway in result.routes:
        found = [each for each in real if each.destination == destination]
        right = [each for each in found if not gateway or each.gateway == gateway]
        via = f" via {gateway}" if gateway else ""
        expect(right, f"a route {destination}{via} in the container", ", ".join(sorted(map(str, real))))


@rule("5 ADD Success", kinds=_MAKES, level="should")
def result_dns(host: Host) -> None:
    """The configuration's dns is the result's."""
    at = host.add(dns=_CONFIGURED_DNS)
    given = {key: value for key, value in host.result(at).dns.items() if value}
    expect(given == _CONFIGURED_DNS, f"dns {json.dumps(_CONFIGURED_DNS)}", json.dumps(given))


@rule("2 ADD", kinds=("chained",), since="0.3.0")
def prev_result_kept(host: Host) -> None:
    """The result has what prevResult had: interfaces, addresses, routes and dns."""
    at = host.attachment()
    if at.previous is None:
        raise NotApplicable("no plugin goes before it")
    at.previous["dns"] = _CONFIGURED_DNS
    host.added(at, host.call("ADD", at))
    for key in ("interfaces", "ips", "routes", "dns"):
        before, after = at.previous.get(key) or [], (at.result or {}).get(key) or []
        expect(_kept(before, after), f"{key} of prevResult: {json.dumps(before)}", json.dumps(after))


def _kept(before: object, after: object) -> bool:
    """Whether all members and entries of a JSON value are still there."""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(_kept(value, after.get(key)) for key, value in before.items())
    if isinstance(before, list):
        return isinstance(after, list) and all(any(_kept(one, other) for other in after) for one in before)
    return before == after


@rule("2 ADD", kinds=_MAKES)
def name_taken(host: Host) -> None:
    """ADD of an interface name that the container has already is an error."""
    at = host.attachment()
    host.ip([f"link add {at.ifname} type veth peer name other"], at.container.namespaces)
    told(host.call("ADD", at))
    there = host.inside(at.container).interfaces
    kept = at.ifname in there and "other" in there and not there[at.ifname].addresses
    expect(kept, "the interface that was there is left alone", ", ".join(map(str, there.values())))


@rule("2 ADD", kinds=_MAKES)
def add_twice(host: Host) -> None:
    """A second ADD of the same container and interface is an error, and the first stays."""
    at = host.add()
    before = host.inside(at.container).lines()
    told(host.call("ADD", at))
    after = host.inside(at.container).lines()
    expect(before <= after, "the first attachment as it was", ", ".join(sorted(before ^ after)))


@rule("3 Lifecycle & Ordering", kinds=("interface", "ipam"))
def two_interfaces(host: Host) -> None:
    """A container can be attached twice, by different interface names; a DEL takes one of them."""
    first, second = host.add("a", "eth0"), host.add("a", "eth1")
    addresses = [{each.cidr for each in host.result(at).addresses} for at in (first, second)]
    if host.gives_addresses:
        expect(not addresses[0] & addresses[1], "different addresses", addresses)
    before = host.inside(first.container)
    host.delete(second)
    if host.subject.kind == "interface":
        after = host.inside(first.container).interfaces
        right = "eth1" not in after and str(after.get("eth0")) == str(before.interfaces.get("eth0"))
        expect(right, "eth1 gone and eth0 as it was", ", ".join(map(str, after.values())))
    if host.gives_addresses:
        given = {each.cidr for each in host.result(host.add("b", "eth0")).addresses}
        expect(not given & addresses[0], "the other interface's address stays reserved", sorted(given))


@rule("1 Plugin configuration objects", kinds=EVERY, level="should")
def args_ignored(host: Host) -> None:
    """A member args that means nothing to the plugin is ignored."""
    host.add(args={"labels": {"app": "check", "weights": [1, 2.5, None]}, "cni": {"nothing": True}})


@rule("2 Overview", kinds=EVERY)
def stdin_long(host: Host) -> None:
    """A long configuration is read to its end."""
    host.add(args={"labels": {f"label-{i}": "x" * 1000 for i in range(_LONG_BYTES // 1000)}})


@rule("2 Overview", kinds=EVERY)
def stdin_in_pieces(host: Host) -> None:
    """A configuration that comes in pieces is read to its end."""
    at = host.attachment()
    given = host.configuration(at)
    if at.previous is not None:
        given["prevResult"] = at.previous
    text = json.dumps(given)
    host.added(at, _fed(host, at, [text[: len(text) // 3], text[len(text) // 3 : -1], text[-1:]]))


def _fed(host: Host, at: Attachment, pieces: list[str]) -> Answer:
    """An ADD whose configuration is written piece by piece, each when the one before has been read."""
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as stream:
        process = start([f"{BIN_DIR}/{host.subject.name}"], namespaces=host.namespaces, stdin=reading, stdout=-1,
                        stderr=-1, env=host.environment("ADD", at, {}))  # fmt: skip
        for piece in pieces:
            deadline = time.monotonic() + host.subject.timeout_s / 10
            while process.poll() is None and select.select([reading], [], [], 0)[0] and time.monotonic() < deadline:
                time.sleep(0.002)
            stream.write(piece.encode())
        os.close(reading)
    try:
        stdout, stderr = process.communicate(timeout=host.subject.timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Answer("ADD", None, "", "")
    return Answer("ADD", process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))
