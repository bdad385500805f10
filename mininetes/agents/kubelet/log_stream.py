"""Reading containers' logs (CRI) and agents' (klog) as `kubectl logs` asks for them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from mininetes.agents.objects import parse_time
from mininetes.errors import BadInput

_BLOCK = 1 << 16
_PATIENCE_S = 0.1
"""How often a file that is followed is looked at: in a tmpfs, where that costs a microsecond."""

_KLOG = re.compile(rb"[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) ")


@dataclass(frozen=True)
class LogOptions:
    """What part of a log is asked for, and how it is to be shown."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float = 0.0
    """In seconds since 1970."""
    limit_bytes: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], now: float) -> LogOptions:
        """From the query of a request. Raises BadInput that names the parameter."""
        since = 0.0
        if query.get("sinceSeconds"):
            since = now - _number(query, "sinceSeconds", 1)
        elif query.get("sinceTime"):
            since = parse_time(query["sinceTime"])
            if not since:
                raise BadInput("sinceTime", query["sinceTime"], "a time as in 2026-01-31T12:00:00Z")
        return cls(
            follow=_flag(query, "follow"),
            previous=_flag(query, "previous"),
            timestamps=_flag(query, "timestamps"),
            tail_lines=_number(query, "tailLines", 0) if query.get("tailLines") else None,
            since=since,
            limit_bytes=_number(query, "limitBytes", 1) if query.get("limitBytes") else None,
        )


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def _number(query: Mapping[str, str], name: str, least: int) -> int:
    text = query[name]
    if not text.isdigit() or int(text) < least:
        raise BadInput(name, text, f"a number, at least {least}")
    return int(text)


def _cri(line: bytes, options: LogOptions) -> bytes:
    """What is shown of one line of a container's log; empty when it is too old."""
    stamp, _, rest = line.partition(b" ")
    _, _, rest = rest.partition(b" ")
    tag, _, content = rest.partition(b" ")
    if options.since and parse_time(stamp.decode(errors="replace")[:19] + "Z") < int(options.since):
        return b""
    shown = content + (b"" if tag == b"P" else b"\n")
    return stamp + b" " + shown if options.timestamps else shown


def _klog(line: bytes, options: LogOptions) -> bytes:
    """What is shown of one line of an agent's log."""
    if not (options.since or options.timestamps):
        return line + b"\n"
    found = _KLOG.match(line)
    if found is None:
        return line + b"\n"
    month, day, hour, minute, second, micro = map(int, found.groups())
    at = datetime(time.localtime().tm_year, month, day, hour, minute, second, micro).astimezone(timezone.utc)
    if at.timestamp() < options.since:
        return b""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode() + line + b"\n" if options.timestamps else line + b"\n"


def _tail_offset(fd: int, lines: int | None) -> int:
    """Where the last ``lines`` lines of a file begin."""
    if lines is None:
        return 0
    end = os.fstat(fd).st_size
    position, wanted = end, lines + 1
    if lines == 0:
        return end
    while position > 0:
        start = max(0, position - _BLOCK)
        block = os.pread(fd, position - start, start)
        if position == end and not block.endswith(b"\n"):
            wanted -= 1
        cut = len(block)
        while (cut := block.rfind(b"\n", 0, cut)) >= 0:
            wanted -= 1
            if wanted == 0:
                return start + cut + 1
        position = start
    return 0


async def read(path: str, options: LogOptions, *, is_cri: bool, goes_on: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield a log as it is to be shown; when it is followed, until ``goes_on`` says no. Raises FileNotFoundError."""
    left = options.limit_bytes
    loop = asyncio.get_running_loop()
    show = _cri if is_cri else _klog
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        offset = await loop.run_in_executor(None, _tail_offset, fd, options.tail_lines)
        rest = b""
        while True:
            more = goes_on()
            data = os.pread(fd, _BLOCK, offset)
            offset += len(data)
            *lines, rest = (rest + data).split(b"\n")
            shown = b"".join(show(line, options) for line in lines)
            if left is not None:
                shown = shown[:left]
                left -= len(shown)
            if shown:
                yield shown
            if left == 0:
                return
            if data:
                await asyncio.sleep(0)
                continue
            if not options.follow or not more:
                return
            await asyncio.sleep(_PATIENCE_S)
            fd, offset = _after_rotation(fd, offset, path)
    finally:
        os.close(fd)


def _after_rotation(fd: int, offset: int, path: str) -> tuple[int, int]:
    """The file at ``path`` when it is another one by now, from its beginning; else the same as before."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return fd, offset
    ours = os.fstat(fd)
    if (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev) or offset < ours.st_size:
        return fd, offset
    try:
        fresh = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return fd, offset
    os.close(fd)
    return fresh, 0
