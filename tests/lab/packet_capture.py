"""What crosses an interface while a block runs: frames as bytes, caught where a node has the interface."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from running_lab import RunningLab, environment

_CATCH = """
import select, socket, sys
caught = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
caught.bind((sys.argv[1], 0))
print("ready", flush=True)
while True:
    ready, _, _ = select.select([caught, sys.stdin], [], [])
    if caught in ready:
        print(caught.recv(65536).hex(), flush=True)
    elif sys.stdin in ready:
        break
"""


@contextlib.contextmanager
def captured(lab: RunningLab, place: str, interface: str = "eth0") -> Iterator[list[bytes]]:
    """All frames on an interface of a place, in a list that is filled when the block has ended."""
    frames: list[bytes] = []
    argv = lab.argv(place, sys.executable, "-u", "-c", _CATCH, interface)
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield frames
        said, _ = process.communicate(timeout=10)  # the end of its input ends it, once all that came before is read
        frames += [bytes.fromhex(line) for line in said.split()]
    finally:
        process.kill()
        process.wait()
