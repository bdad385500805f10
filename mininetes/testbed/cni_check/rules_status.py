"""Rules about GC and STATUS, which CNI 1.1.0 brought (CNI section 2)."""

from __future__ import annotations

from typing import Any

from mininetes.testbed.cni_check.host import Answer, Attachment, Host, told
from mininetes.testbed.cni_check.rule import expect, rule
from mininetes.testbed.cni_check.rules_delegate import Recorder

_SINCE = "1.1.0"
_VALID = "cni.dev/valid-attachments"


def _collect(host: Host, *valid: Attachment, **changes: Any) -> Answer:
    """GC with these attachments as the valid ones. Raises Failed when it fails."""
    listed = [{"containerID": at.container.id, "ifname": at.ifname} for at in valid]
    answer = host.call("GC", None, {}, **{_VALID: listed}, **changes)
    expect(answer.ok, "GC succeeds, with CNI_COMMAND and CNI_PATH alone", answer)
    expect(not answer.stdout.strip(), "nothing on standard output", answer.stdout)
    return answer


@rule("2 GC", since=_SINCE)
def gc_succeeds(host: Host) -> None:
    """GC succeeds with CNI_COMMAND and CNI_PATH alone, also when nothing was ever added."""
    _collect(host)


@rule("2 GC", since=_SINCE, level="should", kinds=("interface", "ipam"))
def gc_removes(host: Host) -> None:
    """GC releases what belongs to no valid attachment."""
    small = host.small_range(2)
    kept, stale = host.add("kept", ipam=small), host.add("stale", ipam=small)
    host.remove_container(stale.container)
    _collect(host, kept, ipam=small)
    answer = host.call("ADD", host.attachment("new", ipam=small))
    expect(answer.ok, "the stale attachment's address is free again", answer)


@rule("2 GC", since=_SINCE, level="should")
def gc_removes_files(host: Host) -> None:
    """GC leaves no file about an attachment that is not valid."""
    kept, stale = host.add("kept"), host.add("stale")
    host.remove_container(stale.container)
    _collect(host, kept)
    left = about(host, stale)
    expect(not left, "no file about the stale container", ", ".join(left))


def about(host: Host, at: Attachment) -> list[str]:
    """The files whose name or content has a container's ID."""
    found = []
    for path, place in host.files().items():
        try:
            with open(place, "rb") as file:
                content = file.read(1 << 20)
        except OSError:  # a socket, or gone meanwhile
            content = b""
        if at.container.id in path or at.container.id.encode() in content:
            found.append(path)
    return sorted(found)


@rule("2 GC", since=_SINCE)
def gc_keeps(host: Host) -> None:
    """GC leaves valid attachments as they are."""
    kept, stale = host.add("kept"), host.add("stale")
    before = host.inside(kept.container).lines()
    host.remove_container(stale.container)
    _collect(host, kept)
    after = host.inside(kept.container).lines()
    expect(after == before, "the valid container as it was", ", ".join(sorted(after ^ before)))
    answer = host.check(kept)
    expect(answer.ok, "CHECK of the valid attachment succeeds", answer)
    if host.gives_addresses:
        taken = {each.cidr for each in host.result(kept).addresses}
        given = {each.cidr for each in host.result(host.add("new")).addresses}
        expect(not taken & given, "the valid attachment's address stays reserved", sorted(given))


@rule("2 GC", since=_SINCE, kinds=("ipam",))
def gc_keeps_other_interface(host: Host) -> None:
    """GC tells attachments of one container apart by their interface names."""
    small = host.small_range(2)
    kept = host.add("a", "eth0", ipam=small)
    host.add("a", "eth1", ipam=small)
    _collect(host, kept, ipam=small)
    answer = host.call("ADD", host.attachment("new", ipam=small))
    expect(answer.ok, "the address of eth1 is free again", answer)
    answer = host.call("ADD", host.attachment("newer", ipam=small))
    expect(not answer.ok, "the address of eth0 stays reserved", answer)


@rule("2 GC", since=_SINCE, kinds=("interface",))
def gc_delegated(host: Host) -> None:
    """GC is passed on to the address plugin, with the valid attachments."""
    recorder = Recorder(host)
    kept = host.add(ipam=recorder.ipam)
    _collect(host, kept, ipam=recorder.ipam)
    calls = recorder.calls("GC")
    expect(calls, "GC calls the address plugin", "it was not called")
    right = kept.container.id in calls[-1].stdin and _VALID in calls[-1].stdin
    expect(right, "the address plugin gets the valid attachments", calls[-1].stdin)


@rule("2 GC", since=_SINCE, kinds=("interface",), level="should")
def gc_reports_error(host: Host) -> None:
    """When the address plugin's GC fails, so does the plugin's."""
    recorder = Recorder(host)
    recorder.fail("GC")
    told(host.call("GC", None, {}, **{_VALID: []}, ipam=recorder.ipam))


@rule("2 STATUS", since=_SINCE)
def status_ready(host: Host) -> None:
    """STATUS of a plugin that is ready succeeds with CNI_COMMAND alone, and prints nothing."""
    answer = host.call("STATUS", None)
    expect(answer.ok, "STATUS succeeds", answer)
    expect(not answer.stdout.strip(), "nothing on standard output", answer.stdout)


@rule("2 STATUS", since=_SINCE, kinds=("interface",))
def status_delegated(host: Host) -> None:
    """When the address plugin's STATUS fails, so does the plugin's."""
    recorder = Recorder(host)
    answer = host.call("STATUS", None, ipam=recorder.ipam)
    expect(answer.ok, "STATUS succeeds before", answer)
    recorder.fail("STATUS")
    told(host.call("STATUS", None, ipam=recorder.ipam))


@rule("2 STATUS", since=_SINCE, kinds=("interface",))
def status_not_needed(host: Host) -> None:
    """ADD works though STATUS failed before it."""
    recorder = Recorder(host)
    recorder.fail("STATUS")
    host.call("STATUS", None, ipam=recorder.ipam)
    host.add(ipam=recorder.ipam)
