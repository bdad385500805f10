"""Rules about many attachments: in parallel, too many, killed half-way, and what is left in the end (CNI 2, 3)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from mininetes.kernel.processes import let_thread_enter, start
from mininetes.testbed.cni_check.host import BIN_DIR, Answer, Attachment, Host, told
from mininetes.testbed.cni_check.rule import CONNECTING, NotApplicable, expect, number, rule
from mininetes.testbed.cni_check.rules_status import about

AT_ONCE = 8
KILLS = 6


@rule("3 Lifecycle & Ordering")
def parallel_adds(host: Host) -> None:
    """ADDs of different containers at once all succeed, each with addresses of its own."""
    attachments = _at_once(host)
    seen: dict[str, str] = {}
    for at in attachments:
        for address in host.result(at).addresses if host.gives_addresses else ():
            other = seen.setdefault(address.cidr, at.container.name)
            expect(
                other == at.container.name, "different addresses", f"{other} and {at.container.name}: {address.cidr}"
            )
        if host.subject.kind == "interface":
            there = host.inside(at.container).interfaces
            expect(at.ifname in there, f"{at.ifname} in each container", f"{at.container.name}: {', '.join(there)}")


def _at_once(host: Host) -> list[Attachment]:
    attachments = [host.attachment(f"c{index}") for index in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE, initializer=let_thread_enter) as callers:
        answers = list(callers.map(lambda at: host.call("ADD", at), attachments))
    return [host.added(at, answer) for at, answer in zip(attachments, answers, strict=True)]


@rule("3 Lifecycle & Ordering")
def parallel_dels(host: Host) -> None:
    """DELs of different containers at once all succeed, and nothing is left."""
    before = _after_one(host)
    attachments = _at_once(host)
    with ThreadPoolExecutor(AT_ONCE, initializer=let_thread_enter) as callers:
        answers = list(callers.map(lambda at: host.call("DEL", at), attachments))
    for answer in answers:
        expect(answer.ok, "DEL succeeds", answer)
    for at in attachments:
        host.delete_rest(at)
    _nothing_left(host, before, attachments)


def _after_one(host: Host) -> frozenset[str]:
    """The host after one attachment came and went: what is a network's, such as a bridge, may stay then."""
    host.delete(host.add("first"))
    return host.everything()


def _nothing_left(host: Host, before: frozenset[str], attachments: list[Attachment]) -> None:
    deadline = time.monotonic() + 1  # the kernel takes interfaces away behind the plugin's back
    while (after := host.everything()) != before and time.monotonic() < deadline:
        time.sleep(0.02)
    more = [f"+ {line}" for line in sorted(after - before)] + [f"- {line}" for line in sorted(before - after)]
    expect(not more, "the host as it was after the first attachment", "; ".join(more))
    for at in attachments:
        left = about(host, at)
        expect(not left, "no file about a container that is gone", ", ".join(left))


@rule("2 DEL")
def leaves_nothing(host: Host) -> None:
    """After ADD, CHECK and two DELs, nothing of the attachments is left."""
    before = _after_one(host)
    attachments = [host.add(name) for name in ("a", "b", "c")]
    for at in attachments:
        if number(host.version) >= (0, 4):
            host.check(at)
        host.delete(at)
        host.call("DEL", at)
    _nothing_left(host, before, attachments)


@rule("3 Adding an attachment", kinds=CONNECTING)
def failed_add_leaves_nothing(host: Host) -> None:
    """After an ADD that failed, and the DEL that follows it, nothing is left."""
    before = _after_one(host)
    at = host.attachment("failing")
    if host.subject.kind == "interface":
        host.ip([f"link add {at.ifname} type veth peer name other"], at.container.namespaces)
    answer = host.call("ADD", at, {} if host.subject.kind == "interface" else {"CNI_NETNS": "/run/netns/nobody"})
    if answer.ok and host.subject.kind == "chained":
        raise NotApplicable("it does not look at the namespace, so that nothing makes its ADD fail")
    expect(not answer.ok, "ADD fails", answer)
    host.delete(at)
    _nothing_left(host, before, [at])


@rule("2 DEL", kinds=("interface", "ipam"))
def exhaustion(host: Host) -> None:
    """When there is no address left ADD is an error, and DEL makes room again."""
    small = host.small_range(2)
    first = host.add("a", ipam=small)
    host.add("b", ipam=small)
    for name in ("c", "d"):  # an error each time, without an address lost
        one_more = host.attachment(name, ipam=small)
        told(host.call("ADD", one_more))
        host.delete(one_more)
    host.delete(first)
    answer = host.call("ADD", host.attachment("e", ipam=small))
    expect(answer.ok, "ADD succeeds after a DEL", answer)


@rule("3 Adding an attachment", kinds=("interface", "ipam"))
def exhausted_add_leaves_nothing(host: Host) -> None:
    """After an ADD that found no address, and the DEL that follows it, nothing is left."""
    small = host.small_range(1)
    host.add("a", ipam=small)
    before = host.everything()
    late = host.attachment("late", ipam=small)
    told(host.call("ADD", late))
    host.delete(late)
    there = host.inside(late.container).interfaces
    expect(late.ifname not in there, f"no {late.ifname} in the container", ", ".join(there))
    _nothing_left(host, before, [late])


@rule("2 DEL", level="should")
def killed_add(host: Host) -> None:
    """After an ADD that was killed half-way, DEL cleans up all of it."""
    began = time.monotonic()
    before = _after_one(host)
    usual_s = min((time.monotonic() - began) / 3, 0.1)
    dice = random.Random(f"{host.subject.name} {host.version}")
    attachments = []
    for index in range(KILLS):
        at = host.attachment(f"k{index}")
        _killed(host, at, dice.uniform(0, usual_s))
        attachments.append(at)
        host.delete(at)
        there = host.inside(at.container).interfaces
        if host.subject.kind == "interface":
            expect(at.ifname not in there, f"no {at.ifname} after DEL", ", ".join(there))
    _nothing_left(host, before, attachments)


def _killed(host: Host, at: Attachment, after_s: float) -> Answer:
    """An ADD that is killed, with all that it started, after so many seconds unless it has ended."""
    given = host.configuration(at)
    if at.previous is not None:
        given["prevResult"] = at.previous
    process = start([f"{BIN_DIR}/{host.subject.name}"], namespaces=host.namespaces, stdin=-1, stdout=-1, stderr=-1,
                    env=host.environment("ADD", at, {}), start_new_session=True)  # fmt: skip
    try:
        process.communicate(json.dumps(given).encode(), timeout=after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    stdout, _ = process.communicate(timeout=host.subject.timeout_s)
    return Answer("ADD", process.returncode, stdout.decode(errors="replace"), "")
