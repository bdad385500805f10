"""Rules about DEL: all goes, only what is the attachment's goes, and nothing missing is an error (CNI section 2)."""

from __future__ import annotations

from mininetes.testbed.cni_check.host import Attachment, Host
from mininetes.testbed.cni_check.rule import CONNECTING, NotApplicable, expect, rule


@rule("2 DEL", kinds=("interface",))
def del_removes_interface(host: Host) -> None:
    """DEL takes the container's interface away, and what belongs to it on the host."""
    before = host.state().interfaces
    at = host.add()
    made = host.state().interfaces.keys() - before.keys()
    host.delete(at)
    inside = host.inside(at.container).interfaces
    expect(at.ifname not in inside, f"no {at.ifname} in the container", ", ".join(inside))
    left = {name: each for name, each in host.state().interfaces.items() if name in made and each.kind != "bridge"}
    expect(not left, "no interface on the host but bridges", ", ".join(map(str, left.values())))


@rule("2 DEL", kinds=CONNECTING)
def del_restores_container(host: Host) -> None:
    """After DEL the container is as it was before ADD."""
    at = host.attachment()
    before = host.inside(at.container).lines()
    host.added(at, host.call("ADD", at))
    answer = host.call("DEL", at)
    expect(answer.ok, "DEL succeeds", answer)
    after = host.inside(at.container).lines()
    expect(after == before, "the interfaces and routes of before", ", ".join(sorted(after ^ before)))


@rule("2 DEL")
def del_twice(host: Host) -> None:
    """A second DEL of the same attachment succeeds."""
    at = host.add()
    host.delete(at)
    answer = host.call("DEL", at)
    expect(answer.ok, "the second DEL succeeds", answer)


def _room(host: Host, at: Attachment, small: dict[str, object]) -> None:
    """See that the only address there is has been released."""
    other = host.attachment("other", ipam=small)
    answer = host.call("ADD", other)
    expect(answer.ok, f"the address of {at.container.name} is free again", answer)


def _released(host: Host, env: dict[str, str | None]) -> None:
    """DEL of a container that is gone, with this environment, releases what there is."""
    try:
        small = host.small_range(1)
        at = host.add("a", ipam=small)
    except NotApplicable:
        small, at = {}, host.add("a")
    host.remove_container(at.container)
    host.delete(at, env)
    if small:
        _room(host, at, small)


@rule("2 DEL")
def del_without_netns(host: Host) -> None:
    """DEL without CNI_NETNS succeeds, and releases what can be released."""
    _released(host, {"CNI_NETNS": None})


@rule("2 DEL")
def del_empty_netns(host: Host) -> None:
    """DEL with an empty CNI_NETNS succeeds, and releases what can be released."""
    _released(host, {"CNI_NETNS": ""})


@rule("2 DEL", level="should")
def del_netns_gone(host: Host) -> None:
    """DEL of a namespace that is gone succeeds, and releases what can be released."""
    _released(host, {})


@rule("2 DEL")
def del_never_added(host: Host) -> None:
    """DEL of what was never added succeeds."""
    answer = host.call("DEL", host.attachment())
    expect(answer.ok, "DEL succeeds", answer)


@rule("2 DEL", since="0.4.0", level="should")
def del_without_prev_result(host: Host) -> None:
    """DEL without prevResult succeeds, and releases what can be released."""
    at = host.add()
    host.delete(at, prevResult=None)
    if host.subject.kind == "interface":
        inside = host.inside(at.container).interfaces
        expect(at.ifname not in inside, f"no {at.ifname} in the container", ", ".join(inside))


@rule("2 DEL")
def del_keeps_others(host: Host) -> None:
    """DEL of one container leaves the others as they are."""
    kept, gone = host.add("kept"), host.add("gone")
    before = host.inside(kept.container).lines()
    host.delete(gone)
    after = host.inside(kept.container).lines()
    expect(after == before, "the other container as it was", ", ".join(sorted(after ^ before)))
    if host.gives_addresses:
        taken = {each.cidr for each in host.result(kept).addresses}
        given = {each.cidr for each in host.result(host.add("new")).addresses}
        expect(not taken & given, "the other container's address stays reserved", sorted(given))
