"""Container logs in the format of the CRI: ``TIME STREAM F|P LINE``, one file for each start of a container."""

from __future__ import annotations

import contextlib
import os
import time

LARGEST_BYTES = 10 << 20
"""[containerLogMaxSize] A log that grew beyond it is moved to NAME.1, in place of the one before."""

_LONGEST_LINE = 16384


def stamp(now_ns: int) -> str:
    """A time in UTC as RFC 3339 has it, with nanoseconds."""
    seconds, nanos = divmod(now_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanos:09d}Z"


class LogFile:
    """Appends lines to a container's log. A context manager; what is not a whole line yet is kept until it is."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size
        self._rest = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes) -> None:
        """Take what a container wrote to ``stream``. Raises OSError when the file system is full."""
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        now = stamp(time.time_ns())
        out = []
        for line in lines:
            out += self._parts(now, stream, line, "F")
        if len(rest) > _LONGEST_LINE:
            whole = len(rest) - len(rest) % _LONGEST_LINE
            for start in range(0, whole, _LONGEST_LINE):
                out.append(f"{now} {stream} P ".encode() + rest[start : start + _LONGEST_LINE] + b"\n")
            rest = rest[whole:]
        self._rest[stream] = rest
        if out:
            self._append(b"".join(out))

    def line(self, text: str) -> None:
        """Append one line of standard output."""
        self.write("stdout", text.encode() + b"\n")

    def end(self, stream: str) -> None:
        """Nothing more comes from ``stream``: write what it left unfinished."""
        rest, self._rest[stream] = self._rest[stream], b""
        if rest:
            self._append(f"{stamp(time.time_ns())} {stream} P ".encode() + rest + b"\n")

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @staticmethod
    def _parts(now: str, stream: str, line: bytes, last: str) -> list[bytes]:
        head = f"{now} {stream} "
        parts = [line[start : start + _LONGEST_LINE] for start in range(0, len(line), _LONGEST_LINE)] or [b""]
        tags = ["P"] * (len(parts) - 1) + [last]
        return [f"{head}{tag} ".encode() + part + b"\n" for tag, part in zip(tags, parts, strict=True)]

    def _append(self, data: bytes) -> None:
        if self._size + len(data) > LARGEST_BYTES and self._size:
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path, self.path + ".1")
            old, self._fd = self._fd, os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            os.close(old)
            self._size = 0
        os.write(self._fd, data)
        self._size += len(data)

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
