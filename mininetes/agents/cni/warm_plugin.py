"""Plugins that stay: one process of a plugin that does many ADDs, for attaching pods in bulk.

An extension to CNI, which knows only one process a call. A plugin offers it by naming `OFFER` in the comments at its
top; started with that variable set and without CNI_COMMAND it answers one ADD after the other:

    request   its length in bytes, eight digits, and these lines: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS; then
              the configuration, which is the rest
    answer    the result and a NUL. An ADD that fails ends the process as it would end any other: an error result, a
              status other than 0, and no NUL
    end       of standard input, or idleness: status 0, and no output

Every other plugin, command and caller goes by the specification.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from mininetes.kernel.processes import Completed, Namespaces, ProcessFailed, reap, start

OFFER = "MININETES_SERVE"
_HEAD_BYTES = 4096
_BLOCK_BYTES = 1 << 16


Files = tuple[tuple[str, int, int], ...]
"""Names, inodes and times of change, by which a change of any of the files is seen."""


def what_it_is_made_of(path: str) -> Files:
    """The plugin's file and those beside it, which it may source. Empty when it cannot be read."""
    try:
        with os.scandir(os.path.dirname(os.path.realpath(path))) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_ino, stat.st_mtime_ns) for name, stat in found))


def offers(path: str) -> bool:
    """Whether the plugin at ``path`` is a script that says it can stay. False when it cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return head.startswith(b"#!") and any(
        line.startswith(b"#") and f"{OFFER}=1".encode() in line for line in head.splitlines()
    )


class WarmPlugin:
    """A plugin's process in a node, started when it is first needed and again after it ended.

    ``environment`` is what all calls have in common. Any thread may call; one call at a time is answered here.
    """

    def __init__(self, executable: str, environment: Mapping[str, str], namespaces: Namespaces) -> None:
        self._argv = [executable]
        self._environment = {**environment, OFFER: "1"}
        self._namespaces = namespaces
        self._busy = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = -1

    def add(self, words: Sequence[str], configuration: str, timeout_s: float) -> Completed | None:
        """Do one ADD; ``words`` are container, namespace, interface and arguments.

        Returns None when it was not begun: the process is at work for someone else, or ended for idleness just now, or
        a word does not fit in a line. Raises ProcessFailed when it is not done in time, after the process was killed.
        """
        if any("\n" in word for word in words) or not self._busy.acquire(blocking=False):
            return None
        try:
            request = "".join(f"{word}\n" for word in words) + configuration
            return self._ask(request.encode(), timeout_s)
        finally:
            self._busy.release()

    def close(self) -> None:
        """End the process, if there is one, when it has done what it does. May be called twice."""
        with self._busy:
            if self._process is not None:
                self._finish(self._process, b"")

    def _ask(self, request: bytes, timeout_s: float) -> Completed | None:
        process = self._process
        if process is not None and process.poll() is not None:
            self._finish(process, b"")
            process = None
        if process is None:
            process = self._start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; what it said is still to be read
            process.stdin.write(b"%08d%b" % (len(request), request))
        answer = self._read(process, timeout_s)
        if answer.endswith(b"\0"):
            return Completed(tuple(self._argv), self._namespaces, 0, answer[:-1].decode(errors="replace"), "")
        done = self._finish(process, answer)
        return done if done.status != 0 or answer else None

    def _start(self) -> subprocess.Popen[bytes]:
        self._stderr = os.memfd_create("stderr")
        self._process = start(
            self._argv,
            namespaces=self._namespaces,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
        )
        reap(self._process)
        return self._process

    def _read(self, process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
        """What it says, until a NUL or its end. One that says nothing for too long is killed."""
        assert process.stdout is not None
        deadline = time.monotonic() + timeout_s
        answer = b""
        with select.epoll() as waiting:
            waiting.register(process.stdout.fileno(), select.EPOLLIN)
            while not answer.endswith(b"\0"):
                if not waiting.poll(max(deadline - time.monotonic(), 0)):
                    process.kill()
                    raise ProcessFailed(self._finish(process, answer), timeout_s)
                block = process.stdout.read(_BLOCK_BYTES)
                if not block:
                    break
                answer += block
        return answer

    def _finish(self, process: subprocess.Popen[bytes], said: bytes) -> Completed:
        """See a process to its end, which is near or comes with the end of its input."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        status = process.wait()
        process.stdout.close()
        stderr = os.pread(self._stderr, _BLOCK_BYTES, 0)
        os.close(self._stderr)
        self._process = None
        texts = [text.decode(errors="replace") for text in (said, stderr)]
        return Completed(tuple(self._argv), self._namespaces, status, *texts)
