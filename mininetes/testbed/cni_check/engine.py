"""In the lab: every rule for every subject and version, each on a fresh host, as many at a time as there are cores."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from mininetes.errors import MininetesError
from mininetes.kernel.processes import let_thread_enter
from mininetes.lab.engine_side import InitSocket
from mininetes.lab.filesystem import remove_node
from mininetes.testbed.cni_check import rules_call
from mininetes.testbed.cni_check.all_rules import RULES
from mininetes.testbed.cni_check.host import Host
from mininetes.testbed.cni_check.rule import Failed, Rule, Verdict, applying, try_rule
from mininetes.testbed.cni_check.subject import Subject
from mininetes.testbed.reporting import Reporter, start_logging

_LOOK_S = 0.2
_AHEAD = 4
_FIRST = "version-answers"
_KNOWN = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_ASKED_WITH = "1.0.0"


class Ended(Exception):
    """The launcher asks for the end."""


class Hosts:
    """Makes the hosts and takes them away. Used by the main thread alone, as PID 1 answers one at a time."""

    def __init__(self, init: InitSocket, plugins: Mapping[str, Mapping[str, str]]) -> None:
        self._init = init
        self._plugins = plugins
        self._made = 0

    def end_asked(self) -> bool:
        """Whether the launcher wants the lab to end."""
        if not self._init.end_asked and select.select([self._init.fileno()], [], [], 0)[0]:
            self._init.hear()
        return self._init.end_asked

    def make(self) -> tuple[str, int]:
        """A new host's name and its holder's pid."""
        self._made += 1
        name = f"host{self._made}"
        return name, self._init.hold_nodes([name])[0]

    def plugins(self, subject: Subject) -> Mapping[str, str]:
        """What is in a host's bin dir for this subject."""
        return self._plugins[subject.executable]

    @staticmethod
    def remove(name: str, pid: int) -> None:
        """End a host. What still runs in it ends with the lab."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            remove_node(name)


def _try(subject: Subject, each: Rule, version: str, node: str, pid: int, plugins: Mapping[str, str]) -> Verdict:
    """One rule on one host, in a worker thread. What goes wrong on our side is a failure that says so."""
    try:
        return try_rule(subject.name, each, version, Host(subject, version, node, pid, plugins))
    except Exception as failed:
        seen = f"{type(failed).__name__}: {failed}" if isinstance(failed, MininetesError) else traceback.format_exc()
        return Verdict(subject.name, each.id, "failed", version, "the check itself goes through", seen)


def announced(subject: Subject, hosts: Hosts) -> list[str]:
    """The versions that the plugin announces and we know, oldest first. Raises Failed when VERSION does not work."""
    node, pid = hosts.make()
    try:
        host = Host(subject, _ASKED_WITH, node, pid, hosts.plugins(subject))
        answer = host.raw("VERSION", None, json.dumps({"cniVersion": host.version}))
        found = rules_call.supported_versions(answer)
        if not set(found) & set(_KNOWN):
            raise Failed(f"a version that is known: {', '.join(_KNOWN)}", answer)
        return [each for each in _KNOWN if each in found]
    finally:
        hosts.remove(node, pid)


def _without_version(subject: Subject, only: Sequence[str], failed: Failed) -> Iterator[Verdict]:
    """The verdicts on a plugin that does not say which versions it speaks."""
    for each in RULES.values():
        if each.id == _FIRST:
            yield Verdict(subject.name, each.id, "failed", expected=failed.expected, seen=failed.seen)
        elif not only or each.id in only:
            yield Verdict(subject.name, each.id, "not applicable", reason="VERSION has to work first")


def _plan(
    subject: Subject, versions: Sequence[str], only: Sequence[str]
) -> tuple[list[Verdict], list[tuple[Rule, str]]]:
    """Verdicts that are clear without a trial, and what is to be tried."""
    clear, todo = [], []
    for version in versions:
        for each, reason in applying(subject.kind, version, only):
            if reason is not None:
                clear.append(Verdict(subject.name, each.id, "not applicable", version, reason=reason))
            else:
                todo.append((each, version))
    return clear, todo


def _verdicts(hosts: Hosts, subject: Subject, todo: Sequence[tuple[Rule, str]], workers: int) -> Iterator[Verdict]:
    """Try them all; verdicts come as they are found. Raises Ended."""
    running: dict[Future[Verdict], tuple[str, int]] = {}
    waiting = list(reversed(todo))
    with ThreadPoolExecutor(workers, initializer=let_thread_enter) as pool:
        while waiting or running:
            while waiting and len(running) < workers + _AHEAD:
                each, version = waiting.pop()
                node, pid = hosts.make()
                future = pool.submit(_try, subject, each, version, node, pid, hosts.plugins(subject))
                running[future] = (node, pid)
            done, _ = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            if hosts.end_asked():
                pool.shutdown(wait=False, cancel_futures=True)
                raise Ended
            for future in done:
                hosts.remove(*running.pop(future))
                yield future.result()


def check(config: Mapping[str, Any], hosts: Hosts, reporter: Reporter) -> None:
    """Test all subjects and report each verdict."""
    only = config["rules"]
    for index, known in enumerate(config["subjects"]):
        subject = Subject.from_json(known)
        try:
            found = announced(subject, hosts)
        except Failed as failed:
            for verdict in _without_version(subject, only, failed):
                reporter.say(verdict=verdict.to_json(), subject=index)
            continue
        versions = [each for each in found if not config["versions"] or each in config["versions"]]
        reporter.say(subject=index, versions=versions, announced=found)
        clear, todo = _plan(subject, versions, only)
        for verdict in clear:
            reporter.say(verdict=verdict.to_json(), subject=index)
        for verdict in _verdicts(hosts, subject, todo, config["workers"]):
            reporter.say(verdict=verdict.to_json(), subject=index)


def main(config: Mapping[str, Any], channel: socket.socket) -> int:
    """Entry of the lab's engine."""
    start_logging(config["fds"].get("log"))
    reporter = Reporter(config["fds"].get("report"))
    try:
        check(config, Hosts(InitSocket(channel), config["plugins"]), reporter)
        reporter.say(done=True)
    except Ended:
        os._exit(0)  # workers may be waiting for a plugin: the kernel ends them with the lab
    except Exception as failed:
        known = isinstance(failed, MininetesError) and not config.get("debug")
        reporter.say(error=str(failed) if known else traceback.format_exc(), status=1)
        return 1
    return 0
