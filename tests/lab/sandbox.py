"""A throw-away sandbox whose holder does nothing, entered with nsenter: for tests of programs from outside.

    +------------ sandbox: network, mount, PID (and user) namespace ------------+
    |  /run/netns, /var/lib: tmpfs of its own      /sys: of its own network      |
    |                                                                            |
    |  ip netns "web"   ip netns "db"   ...        (netns() makes them)          |
    +----------------------------------------------------------------------------+

The kernel takes all of it away when the holder ends, and that ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# /var/lib is not always there to mount something below it, so the whole of it becomes a tmpfs
MOUNTS = """
mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lock
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /var/lib
ip link set lo up
echo ready
exec cat
"""


class Sandbox:
    """A context manager; ``user_namespace`` is what an ordinary user needs, and root can have."""

    def __init__(self, user_namespace: bool = False) -> None:
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self.user_namespace = user_namespace or os.geteuid() != 0
        if self.user_namespace:
            unshare += ["--user", "--map-root-user"]
        self.holder = subprocess.Popen(
            [*unshare, "sh", "-ec", MOUNTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": PATH},
        )

    def __enter__(self) -> Sandbox:
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "ready\n", "the sandbox did not come up"
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()
        user = ["--user", "--preserve-credentials"] if self.user_namespace else []
        self.enter = ["nsenter", "--target", children[0], "--net", "--mount", "--pid", *user]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.holder.stdin is not None
        assert self.holder.stdout is not None
        self.holder.stdin.close()
        self.holder.wait(timeout=10)
        self.holder.stdout.close()

    def start(self, argv: list[str], env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a program inside; its environment is PATH and ``env``, nothing else."""
        return subprocess.Popen([*self.enter, "env", "-i", *as_words(env), *argv], text=True, **options)

    def run(
        self, *argv: str, env: dict[str, str] | None = None, stdin: str = "", ok: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside and wait for its end; with ``ok`` a non-zero status fails the test."""
        done = subprocess.run(
            [*self.enter, "env", "-i", *as_words(env), *argv],
            input=stdin, text=True, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert not ok or done.returncode == 0, f"{argv}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def sh(self, script: str) -> str:
        """What a shell script prints."""
        return self.run("sh", "-ec", script).stdout

    def json(self, *argv: str) -> Any:
        """What a program prints, as JSON; nothing at all counts as an empty list."""
        return json.loads(self.run(*argv).stdout or "[]")

    def netns(self, *names: str) -> None:
        for name in names:
            self.run("ip", "netns", "add", name)

    def links(self) -> set[str]:
        """Names of the links in the sandbox's own network namespace, but for lo."""
        return {link["ifname"] for link in self.json("ip", "-j", "link")} - {"lo"}


def as_words(env: dict[str, str] | None) -> list[str]:
    return [f"{name}={value}" for name, value in {"PATH": PATH, **(env or {})}.items()]
