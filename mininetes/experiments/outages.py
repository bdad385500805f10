"""Asking without a pause while something is lost or comes back: how long the answers are wrong, and for whom.

Each question is a datagram from a socket of its own, so that each is balanced, translated and routed anew; the pods'
responders say who they are. What is sent when, and who answered, is kept for each line (a source and a target), and
what it means is worked out afterwards from that alone.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mininetes.kernel.netns import socket_in
from mininetes.probes.outcomes import Answer
from mininetes.probes.vantage import Vantage

_ROOM = 2048
_QUESTION = b"who is there?\n"


@dataclass(frozen=True)
class Line:
    """One question: what ``source`` asks ``address``; ``target`` is its name for people."""

    source: Vantage
    target: str
    address: str
    port: int


@dataclass(frozen=True)
class Asked:
    """One datagram: when it was sent (s of the monotonic clock), and which pod answered ("": nobody in time)."""

    sent_s: float
    answered_by: str


@dataclass
class _Open:
    line: int
    place: int
    sock: socket.socket
    due: float


class Vigil:
    """Asks along all lines, each once every ``interval_s``, in a thread of its own. A context manager.

    A question without an answer within ``timeout_s`` is wrong. `asked` may be read at any time: of its last
    questions some are still open, and not in it.
    """

    def __init__(self, lines: Sequence[Line], *, interval_s: float, timeout_s: float = 0.25) -> None:
        self.lines, self.interval_s = tuple(lines), interval_s
        self._timeout_s = timeout_s
        self._sent: list[list[float]] = [[] for _ in lines]
        self._answers: list[dict[int, str]] = [{} for _ in lines]
        self._known = [0 for _ in lines]
        self._open: dict[int, _Open] = {}
        self._due: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="vigil", daemon=True)
        self.failure: BaseException | None = None
        """Why it ended before its time, if it did."""

    def asked(self, line: int) -> list[Asked]:
        """What is known of a line so far, by time; up to the first question that is still open."""
        with self._lock:
            answers, sent = self._answers[line], self._sent[line]
            while self._known[line] in answers:
                self._known[line] += 1
            return [Asked(sent[place], answers[place]) for place in range(self._known[line])]

    def __enter__(self) -> Vigil:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ask no more, wait for what is open, and end. May be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with select.epoll() as answers:
                self._ask_and_hear(answers)
        except BaseException as failed:  # its owner is told
            self.failure = failed
        finally:
            for each in self._open.values():
                each.sock.close()

    def _ask_and_hear(self, answers: select.epoll) -> None:
        step = self.interval_s / max(len(self.lines), 1)
        began = time.monotonic()
        for number in itertools.count():
            due = began + number * step
            while (left := due - time.monotonic()) > 0 and not self._stop.is_set():
                self._hear(answers, left)
            if self._stop.is_set():
                break
            if left > -1.0 or not self._open:  # when the machine stood still, do not ask all that was missed at once
                self._ask(answers, number % len(self.lines))
            else:
                began += -left
        while self._open:
            self._hear(answers, self._timeout_s)

    def _ask(self, answers: select.epoll, number: int) -> None:
        line = self.lines[number]
        sock = socket_in(line.source.netns, socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        now = time.monotonic()
        with self._lock:
            place = len(self._sent[number])
            self._sent[number].append(now)
        try:
            sock.connect((line.address, line.port))
            sock.send(_QUESTION)
        except OSError:  # no route, say
            sock.close()
            self._settle(number, place, "")
            return
        self._open[sock.fileno()] = _Open(number, place, sock, now + self._timeout_s)
        heapq.heappush(self._due, (now + self._timeout_s, sock.fileno()))
        answers.register(sock, select.EPOLLIN)

    def _hear(self, answers: select.epoll, within_s: float) -> None:
        until = min([within_s, *(due - time.monotonic() for due, _ in self._due[:1])])
        for fd, _ in answers.poll(max(until, 0.0005)):
            self._take(fd, *self._read(fd))
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            due, fd = heapq.heappop(self._due)
            if fd in self._open and self._open[fd].due <= due:
                self._take(fd, True, "")

    def _read(self, fd: int) -> tuple[bool, str]:
        """Whether that question is done with, and who answered."""
        try:
            said = self._open[fd].sock.recv(_ROOM)
        except BlockingIOError:
            return False, ""
        except OSError:  # an ICMP error: refused, unreachable
            return True, ""
        answer = Answer.parse(said)
        return True, answer.pod if answer else ""

    def _take(self, fd: int, done: bool, pod: str) -> None:
        if done:
            each = self._open.pop(fd)
            each.sock.close()
            self._settle(each.line, each.place, pod)

    def _settle(self, line: int, place: int, pod: str) -> None:
        with self._lock:
            self._answers[line][place] = pod


def wrong_for(asked: Iterable[Asked], since: float, *, for_s: float = 0.0) -> float | None:
    """Seconds from ``since`` until a line was right for good; 0 when it never was wrong, None when it still is.

    Right for good is the first question with an answer after the last one without, when no less than ``for_s``
    of questions with answers follow: a line that is wrong every other time has some, too.
    """
    after = [each for each in asked if each.sent_s >= since]
    wrong = [place for place, each in enumerate(after) if not each.answered_by]
    first_right = wrong[-1] + 1 if wrong else 0
    if first_right >= len(after) or after[-1].sent_s - after[first_right].sent_s < for_s:
        return None
    return after[first_right].sent_s - since if wrong else 0.0


def used_after(asked: Iterable[Asked], since: float, pod: str) -> float | None:
    """Seconds from ``since`` until a line was first answered by that pod; None when it never was."""
    return next((each.sent_s - since for each in asked if each.sent_s >= since and each.answered_by == pod), None)


def count_wrong(asked: Iterable[Asked], since: float) -> int:
    """How many questions from then on had no answer."""
    return sum(not each.answered_by for each in asked if each.sent_s >= since)


def is_right(vigil: Vigil, line: int, *, since: float, for_s: float) -> bool:
    """Whether all questions of the last ``for_s`` seconds, which began after ``since``, were answered."""
    asked = vigil.asked(line)
    end = asked[-1].sent_s if asked else since
    with contextlib.suppress(IndexError):
        return end - for_s >= since and all(each.answered_by for each in asked if each.sent_s >= end - for_s)
    return False
