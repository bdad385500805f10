"""What a container reads and writes: its output goes to its log and to who is attached, and their input to it."""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from mininetes.agents.shim.log_files import LogFile
from mininetes.agents.shim.spawning import terminal_size

Ready = Callable[[], None]
"""What the shim's selector has for each descriptor: called when that is ready."""

_AT_ONCE = 1 << 16
_MOST_KEPT = 1 << 18
"""Whoever has so much to read yet holds the container up, as container runtimes have it."""
_MOST_EARLY = 1 << 20
_LAST_READS = 4
"""They take all that a pipe or terminal has: more comes from what the container left running."""


class _Sink:
    """Writes to a descriptor of its own, which may be slow: keeps what that does not take yet.

    ``drained`` is called when nothing is kept any more, also because nobody reads.
    """

    def __init__(self, selector: selectors.BaseSelector, fd: int, drained: Ready) -> None:
        self._selector = selector
        self._fd = fd
        self._drained = drained
        self._finishing = False
        self.kept = bytearray()
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        """Write, or keep for later. Does nothing once nobody reads."""
        if self._fd < 0 or self._finishing:
            return
        waits = bool(self.kept)
        self.kept += data
        if not waits:
            self._flush()

    def _flush(self) -> None:
        try:
            while self.kept:
                del self.kept[: os.write(self._fd, self.kept[:_AT_ONCE])]
        except BlockingIOError:
            if self._fd not in self._selector.get_map():
                self._selector.register(self._fd, selectors.EVENT_WRITE, self._flush)
            return
        except OSError:  # nobody reads any more
            self.close()
            return
        if self._fd in self._selector.get_map():
            self._selector.unregister(self._fd)
        if self._finishing:
            self.close()
        else:
            self._drained()

    def finish(self) -> None:
        """Close when what is kept has been written. May be called twice."""
        self._finishing = True
        if not self.kept:
            self.close()

    def close(self) -> None:
        """Close now. May be called twice."""
        self.kept.clear()
        if self._fd >= 0:
            if self._fd in self._selector.get_map():
                self._selector.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._drained()


class _Attached:
    """One who is attached: ``source`` is what it says (-1: nothing), ``sinks`` by stream what it hears."""

    def __init__(self, selector: selectors.BaseSelector, source: int, sinks: Mapping[str, _Sink]) -> None:
        self._selector = selector
        self.source = source
        self.sinks = sinks

    def listen(self, ready: Ready) -> None:
        """Have ``ready`` called when it says something."""
        if self.source >= 0 and self.source not in self._selector.get_map():
            self._selector.register(self.source, selectors.EVENT_READ, ready)

    def pause(self) -> None:
        """Listen no more, for now."""
        if self.source in self._selector.get_map():
            self._selector.unregister(self.source)

    def close_source(self) -> None:
        """It says no more. May be called twice."""
        if self.source >= 0:
            self.pause()
            os.close(self.source)
            self.source = -1


class ContainerStreams:
    """The streams of one container, served by the shim's selector.

    ``stdin``, ``stdin_once`` and ``terminal`` are the pod's stdin, stdinOnce and tty. Where there is a stdin, the
    first to attach hears what was written before, as far as that is not too much: a shell's prompt, for example.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        log: LogFile,
        *,
        stdin: bool = False,
        stdin_once: bool = False,
        terminal: bool = False,
    ) -> None:
        self._selector = selector
        self._log = log
        self._once = stdin_once and not terminal
        self._terminal = -1
        self._input: _Sink | None = None
        self._outputs: dict[int, str] = {}
        self._attached: dict[str, _Attached] = {}
        self._early: list[tuple[str, bytes]] | None = [] if stdin else None
        self._early_bytes = 0
        self._is_held = False
        self.theirs: dict[int, int] = {}
        """What the container's process has as 0, 1 and 2; closed by `begin` or `close`."""
        if terminal:
            self._terminal, slave = os.openpty()
            self.theirs = {0: slave, 1: slave, 2: slave}
            self._outputs[self._terminal] = "stdout"
            if stdin:
                self._input = _Sink(selector, os.dup(self._terminal), self._resume)
            return
        for number, stream in ((1, "stdout"), (2, "stderr")):
            reading, self.theirs[number] = os.pipe()
            self._outputs[reading] = stream
        if stdin:
            self.theirs[0], writing = os.pipe()
            self._input = _Sink(selector, writing, self._resume)

    def begin(self) -> None:
        """The process has its descriptors: serve ours."""
        self._close_theirs()
        for fd in self._outputs:
            os.set_blocking(fd, False)
        self._listen()

    def _listen(self) -> None:
        self._is_held = False
        for fd in self._outputs:
            if fd not in self._selector.get_map():
                self._selector.register(fd, selectors.EVENT_READ, partial(self._read, fd))

    def _hold(self) -> None:
        """Leave the container's output where it is: it waits when its pipe is full."""
        self._is_held = True
        for fd in self._outputs:
            if fd in self._selector.get_map():
                self._selector.unregister(fd)

    def _drained(self) -> None:
        if self._is_held and not self._is_behind():
            self._listen()

    def _is_behind(self) -> bool:
        """Whether somebody who is attached has too much to read yet."""
        return any(len(sink.kept) > _MOST_KEPT for each in self._attached.values() for sink in each.sinks.values())

    def _close_theirs(self) -> None:
        for fd in set(self.theirs.values()):
            os.close(fd)
        self.theirs = {}

    def close(self) -> None:
        """There is no process: close everything. Not to be called after `begin`."""
        self._close_theirs()
        for fd in self._outputs:
            os.close(fd)
        if self._input is not None:
            self._input.close()
        self._log.close()

    def _read(self, fd: int) -> bool:
        """Take what the container wrote; False when there is no more, for now or at all."""
        try:
            data = os.read(fd, _AT_ONCE)
        except BlockingIOError:
            return False
        except OSError:  # of a terminal that nobody has open any more
            data = b""
        stream = self._outputs[fd]
        with contextlib.suppress(OSError):  # a full file system loses lines, not the container
            if data:
                self._log.write(stream, data)
            else:
                self._log.end(stream)
        if data:
            self._tell(stream, data)
            return True
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        del self._outputs[fd]
        if fd == self._terminal:
            self._terminal = -1
        os.close(fd)
        if not self._outputs:
            self._log.close()
        return False

    def _tell(self, stream: str, data: bytes) -> None:
        for each in self._attached.values():
            if stream in each.sinks:
                each.sinks[stream].write(data)
        if not self._is_held and self._is_behind():
            self._hold()
        if self._early is not None and self._early_bytes < _MOST_EARLY:
            self._early.append((stream, data))
            self._early_bytes += len(data)

    def attach(self, session: str, fds: Sequence[int], *, stdin: bool) -> None:
        """Serve one more: its stdin (which counts when ``stdin``), stdout and stderr, of which copies are made."""
        source, *outputs = (os.dup(fd) for fd in fds)
        named = zip(("stdout", "stderr"), outputs, strict=True)
        sinks = {stream: _Sink(self._selector, fd, self._drained) for stream, fd in named}
        self._attached[session] = new = _Attached(self._selector, source, sinks)
        early, self._early = self._early, None
        for stream, data in early or []:
            sinks[stream].write(data)
        if stdin and self._input is not None:
            os.set_blocking(source, False)
            new.listen(partial(self._heard, new))
        else:
            new.close_source()

    def _heard(self, one: _Attached) -> None:
        """Pass on what somebody says; who says more than the container reads has to wait."""
        try:
            data = os.read(one.source, _AT_ONCE)
        except BlockingIOError:
            return
        if self._input is None or not data:
            one.close_source()
            if not data and self._once and self._input is not None:
                self._input.finish()
                self._input = None
            return
        self._input.write(data)
        if self._input.kept:
            for each in self._attached.values():
                each.pause()

    def _resume(self) -> None:
        for each in self._attached.values():
            each.listen(partial(self._heard, each))

    def detach(self, session: str) -> None:
        """Serve one no more. Does nothing when it is not attached."""
        gone = self._attached.pop(session, None)
        if gone is not None:
            gone.close_source()
            for sink in gone.sinks.values():
                sink.close()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the container's terminal, if it has one, how large its window is, where that is a size."""
        if self._terminal >= 0 and 0 <= rows < 1 << 16 and 0 <= columns < 1 << 16:
            terminal_size(self._terminal, rows, columns)

    def ended(self) -> None:
        """The container's process has ended: who is attached hears the rest, and then the end.

        What it started may still write; that goes to the log.
        """
        for fd in list(self._outputs):
            for _ in range(_LAST_READS):
                if not self._read(fd):
                    break
        if self._input is not None:
            self._input.close()
            self._input = None
        self._early = None
        attached, self._attached = list(self._attached.values()), {}
        for each in attached:
            each.close_source()
            for sink in each.sinks.values():
                sink.finish()
        self._listen()
