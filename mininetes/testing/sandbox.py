"""A lab without a cluster: namespaces of its own to do anything in, which are gone when the block is left.

+------ lab: network, mount, PID, UTS and IPC namespace (and a user namespace without root) ------+
|  lo    what the test makes: links, bridges, rules, named namespaces below a /run of its own      |
+--------------------------------------------------------------------------------------------------+
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from mininetes.kernel.features import complete_path
from mininetes.lab.engine_side import InitSocket
from mininetes.lab.entering import enter_lab
from mininetes.lab.launcher import Lab
from mininetes.testing.commands import Done, run, succeeded

_ENTRY = "mininetes.testing.sandbox:stay"


class Sandbox:
    """A lab that is up. ``pid`` is that of its first process, for nsenter."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid

    def try_exec(
        self,
        *argv: str,
        netns: str = "",
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Done:
        """Run a command in the lab, or in a named network namespace of it, whatever its status."""
        inner = ["nsenter", f"--net=/run/netns/{netns}", *argv] if netns else list(argv)
        where = f"{self.name}/{netns}" if netns else self.name
        return run([*enter_lab(self.pid), *inner], where, argv, stdin=stdin, environment=env, timeout_s=timeout_s)

    def exec(
        self,
        *argv: str,
        netns: str = "",
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        """Run a command in the lab and return what it printed. Raises CommandFailed (an AssertionError)."""
        __tracebackhide__ = True
        return succeeded(self.try_exec(*argv, netns=netns, stdin=stdin, env=env, timeout_s=timeout_s))

    def json(self, *argv: str, netns: str = "") -> Any:
        """What a command prints, as JSON (``ip -j``, ``nft -j``); nothing at all counts as an empty list."""
        __tracebackhide__ = True
        return json.loads(self.exec(*argv, netns=netns) or "[]")

    def netns(self, *names: str) -> None:
        """Make named network namespaces, with lo up."""
        for name in names:
            self.exec("ip", "netns", "add", name)
            self.exec("ip", "link", "set", "lo", "up", netns=name)


@contextlib.contextmanager
def sandbox(name: str) -> Iterator[Sandbox]:
    """A lab for the block. It ends with this process, too, however that ends. Raises MissingFeature."""
    complete_path()
    lab = Lab.start(name, _ENTRY, {}, stdout=subprocess.DEVNULL)
    try:
        made = Sandbox(name, lab.pid)
        made.exec("ip", "link", "set", "lo", "up")
        yield made
    finally:
        lab.end()


def stay(_: dict[str, Any], channel: socket.socket) -> int:
    """The engine of such a lab: does nothing until the lab is to end."""
    init = InitSocket(channel)
    while not init.end_asked:
        select.select([init.fileno()], [], [])
        init.hear()
    return 0
