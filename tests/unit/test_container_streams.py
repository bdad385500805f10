"""A container's streams, on real pipes and terminals; the test is the container, and those who attach."""

from __future__ import annotations

import os
import selectors
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest

from mininetes.agents.shim.container_streams import ContainerStreams
from mininetes.agents.shim.log_files import LogFile


class Container:
    """What has the inner ends. `turn` serves the outer ones."""

    def __init__(self, folder: Path, *, stdin: bool = True, stdin_once: bool = False, terminal: bool = False) -> None:
        self.log = folder / "0.log"
        self.selector = selectors.DefaultSelector()
        self.streams = ContainerStreams(
            self.selector, LogFile(str(self.log)), stdin=stdin, stdin_once=stdin_once, terminal=terminal
        )
        self.fds = {number: os.dup(fd) for number, fd in self.streams.theirs.items()}
        self.streams.begin()

    def turn(self, wait_s: float = 0) -> None:
        """Serve until nothing more is to be done, for so long."""
        while ready := self.selector.select(wait_s):
            for key, _ in ready:
                if self.selector.get_map().get(key.fileobj) is key:
                    key.data()

    def says(self, text: bytes, fd: int = 1) -> None:
        os.write(self.fds[fd], text)
        self.turn()

    def reads(self) -> bytes:
        os.set_blocking(self.fds[0], False)
        try:
            return os.read(self.fds[0], 1 << 20)
        except BlockingIOError:
            return b"<nothing>"

    def ends(self) -> None:
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}
        self.streams.ended()
        self.turn()

    def logged(self) -> list[str]:
        return [line.split(" ", 1)[1] for line in self.log.read_text().splitlines()]


class Client:
    """Somebody who is attached: the outer ends of three pipes."""

    def __init__(self, container: Container, session: str = "1", *, stdin: bool = True) -> None:
        self.container = container
        reading, self.stdin = os.pipe()
        self.stdout, out = os.pipe()
        self.stderr, err = os.pipe()
        container.streams.attach(session, (reading, out, err), stdin=stdin)
        for fd in (reading, out, err):
            os.close(fd)
        os.set_blocking(self.stdout, False)
        os.set_blocking(self.stderr, False)

    def says(self, text: bytes) -> None:
        os.write(self.stdin, text)
        self.container.turn()

    def ends_input(self) -> None:
        os.close(self.stdin)
        self.container.turn()

    def hears(self, fd: int | None = None) -> bytes:
        try:
            return os.read(self.stdout if fd is None else fd, 1 << 22)
        except BlockingIOError:
            return b"<nothing>"


@contextmanager
def made(folder: Path, **kind: bool) -> Iterator[Container]:
    container = Container(folder, **kind)
    try:
        yield container
    finally:
        container.ends()
        assert not container.selector.get_map(), "something is still served"
        container.selector.close()


def test_output_goes_to_the_log_and_to_all_who_are_attached(tmp_path: Path) -> None:
    with made(tmp_path, stdin=False) as container:
        container.says(b"before\n")
        clients = [Client(container, "1"), Client(container, "2", stdin=False)]
        container.says(b"out\n")
        container.says(b"err\n", 2)
        for client in clients:
            assert (client.hears(), client.hears(client.stderr)) == (b"out\n", b"err\n")
        container.streams.detach("1")
        container.says(b"more\n")
        assert [client.hears() for client in clients] == [b"", b"more\n"]
        container.ends()
        assert clients[1].hears() == b""
        assert container.logged() == ["stdout F before", "stdout F out", "stderr F err", "stdout F more"]


def test_the_first_to_attach_hears_what_was_said_before(tmp_path: Path) -> None:
    with made(tmp_path) as container:
        container.says(b"$ ")
        container.says(b"oh ", 2)
        first, second = Client(container, "1"), Client(container, "2")
        assert (first.hears(), first.hears(first.stderr)) == (b"$ ", b"oh ")
        assert second.hears() == b"<nothing>"


def test_what_is_kept_for_the_first_has_a_bound(tmp_path: Path) -> None:
    with made(tmp_path) as container:
        for _ in range(200):
            container.says(b"x" * 16_000)
        client, heard = Client(container), b""
        while (part := client.hears()) != b"<nothing>":
            heard += part
            container.turn()
        assert 1_000_000 <= len(heard) <= 1_200_000


@pytest.mark.parametrize("once", [True, False])
def test_the_end_of_the_first_ones_input_is_the_containers_with_stdin_once(tmp_path: Path, once: bool) -> None:
    with made(tmp_path, stdin_once=once) as container:
        client = Client(container)
        client.says(b"hello\n")
        assert container.reads() == b"hello\n"
        client.ends_input()
        assert container.reads() == (b"" if once else b"<nothing>")
        if not once:
            Client(container, "2").says(b"again\n")
            assert container.reads() == b"again\n"


def test_who_attaches_without_stdin_does_not_end_it(tmp_path: Path) -> None:
    with made(tmp_path, stdin_once=True) as container:
        Client(container, stdin=False).ends_input()
        assert container.reads() == b"<nothing>"


def test_a_container_without_stdin_reads_nothing_and_nobody_waits(tmp_path: Path) -> None:
    with made(tmp_path, stdin=False) as container:
        assert sorted(container.fds) == [1, 2]
        client = Client(container)
        with pytest.raises(BrokenPipeError):
            client.says(b"anybody?\n")


def test_input_waits_for_a_slow_reader_and_none_is_lost(tmp_path: Path) -> None:
    with made(tmp_path, stdin_once=True) as container:
        client = Client(container)
        os.set_blocking(client.stdin, False)
        text = bytes(range(256)) * 4096
        sent, read = 0, b""
        while len(read) < len(text):
            while sent < len(text):
                try:
                    sent += os.write(client.stdin, text[sent : sent + 65536])
                except BlockingIOError:
                    break
            container.turn()
            assert len(read) + 400_000 >= sent, "all of it is kept in memory"
            got = container.reads()
            read += got if got != b"<nothing>" else b""
            container.turn()
        assert read == text
        client.ends_input()
        assert container.reads() == b""


def test_a_slow_client_holds_the_container_up_and_misses_nothing(tmp_path: Path) -> None:
    with made(tmp_path, stdin=False) as container:
        slow, quick = Client(container, "1"), Client(container, "2")
        os.set_blocking(container.fds[1], False)
        text, said, heard = bytes(range(256)) * 12_000, 0, {slow: b"", quick: b""}
        while said < len(text):
            try:
                said += os.write(container.fds[1], text[said : said + 65536])
                container.turn()
            except BlockingIOError:  # held up: the quick one has read all there is, the slow one is asked for some
                assert said - len(heard[slow]) < 1_000_000, "all of it is kept in memory"
                hear(slow, heard)
                container.turn()
            hear(quick, heard)
        container.ends()
        for client in heard:
            while hear(client, heard):
                container.turn()
        assert list(heard.values()) == [text, text]


def hear(client: Client, heard: dict[Client, bytes]) -> bool:
    part = client.hears()
    heard[client] += part if part != b"<nothing>" else b""
    return part != b""


@pytest.mark.parametrize("leaves", ["closes", "is detached"])
def test_a_slow_client_that_leaves_lets_the_container_go_on(tmp_path: Path, leaves: str) -> None:
    with made(tmp_path, stdin=False) as container:
        slow = Client(container)
        os.set_blocking(container.fds[1], False)
        line = b"z" * 9_999 + b"\n"
        with pytest.raises(BlockingIOError):  # noqa: PT012 - which of the writes it is does not matter
            for _ in range(200):
                os.write(container.fds[1], line)
                container.turn()
        if leaves == "closes":
            os.close(slow.stdout)
        else:
            container.streams.detach("1")
        container.turn()
        for _ in range(200):
            container.says(line)
        assert container.log.stat().st_size > 2_000_000


def test_a_size_that_is_none_does_nothing(tmp_path: Path) -> None:
    with made(tmp_path, terminal=True) as container:
        container.streams.resize(33, 91)
        for rows, columns in ((70_000, 100), (-1, 5), (5, 1 << 40)):
            container.streams.resize(rows, columns)
        size = ioctl(container.fds[1], termios.TIOCGWINSZ, b"\0" * 8)
        assert struct.unpack("HHHH", size)[:2] == (33, 91)


def test_what_a_slow_client_has_not_read_yet_comes_before_the_end(tmp_path: Path) -> None:
    with made(tmp_path, stdin=False) as container:
        client = Client(container)
        for number in range(8):
            container.says(b"%05d\n" % number * 5000)
        container.ends()
        heard = b""
        while part := client.hears():
            heard += part if part != b"<nothing>" else b""
            container.turn()
        assert len(heard) == 8 * 6 * 5000
        assert heard.endswith(b"00007\n")


def test_what_was_written_last_is_heard_although_the_process_has_ended(tmp_path: Path) -> None:
    with made(tmp_path, stdin=False) as container:
        client = Client(container)
        os.write(container.fds[1], b"last words")
        container.ends()
        assert client.hears() == b"last words"
        assert client.hears() == b""
        assert container.logged() == ["stdout P last words"]


def test_what_a_container_left_running_does_not_hold_its_end_up(tmp_path: Path) -> None:
    with made(tmp_path, stdin=False) as container:
        left = os.dup(container.fds[1])
        client = Client(container)
        container.ends()
        assert client.hears() == b""
        os.write(left, b"later\n")
        container.turn()
        os.close(left)
        container.turn()
        assert container.logged() == ["stdout F later"]


def test_a_terminal(tmp_path: Path) -> None:
    with made(tmp_path, terminal=True) as container:
        assert os.isatty(container.fds[0])
        assert os.ttyname(container.fds[0]) == os.ttyname(container.fds[2])
        os.write(container.fds[2], b"$ ")
        client = Client(container)
        wait_to_hear(client, b"$ ")
        client.says(b"ls\n")
        wait_to_hear(client, b"ls\r\n")  # a terminal echoes
        assert container.reads() == b"ls\n"
        container.streams.resize(33, 91)
        size = ioctl(container.fds[1], termios.TIOCGWINSZ, b"\0" * 8)
        assert struct.unpack("HHHH", size)[:2] == (33, 91)
        client.ends_input()
        assert container.reads() == b"<nothing>"
        container.ends()
        assert client.hears() == b""
        container.streams.resize(1, 1)  # nothing is there any more, and nothing happens


def wait_to_hear(client: Client, text: bytes) -> None:
    """A terminal passes on in its own time."""
    heard = b""
    end = time.monotonic() + 5
    while len(heard) < len(text) and time.monotonic() < end:
        client.container.turn(0.05)
        part = client.hears()
        heard += part if part != b"<nothing>" else b""
    assert heard == text


def test_a_container_that_did_not_start_leaves_nothing(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    selector = selectors.DefaultSelector()
    for kind in ({"stdin": True}, {"stdin": True, "terminal": True}, {}):
        ContainerStreams(selector, LogFile(str(tmp_path / "0.log")), **kind).close()
    selector.close()
    assert set(Path("/proc/self/fd").iterdir()) == before
