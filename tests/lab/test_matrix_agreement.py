"""Random cells of the matrix, looked at again with programs that know nothing of it: ping, nc, and captures.

A pair is reached when, and only when, the source's own namespace gets the target's answer. Captures run in
every namespace at the same time; each is a few lines around an AF_PACKET socket.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from running_lab import RunningLab, environment, running

from mininetes.probes.matrix import Cell

SEED = 20
CELLS = 20

CAPTURE = """
import json, select, socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
sock.bind(("eth0", 3))
print("ready", flush=True)
seen = set()
ended = False
while True:
    ready, _, _ = select.select([sock] if ended else [sock, sys.stdin], [], [], 0 if ended else None)
    if sock in ready:
        data = sock.recv(2048)
        if data[0] >> 4 == 4 and data[9] == 1:
            packet = data[(data[0] & 15) * 4 :]
            seen.add((socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]), packet[0]))
    elif ended:
        break
    else:
        ended = not sys.stdin.readline()
print(json.dumps(sorted(seen)))
"""
ECHO_REQUEST, ECHO_REPLY = 8, 0

Captured = dict[str, set[tuple[str, str, int]]]


@contextmanager
def capturing(lab: RunningLab, places: list[str]) -> Iterator[Captured]:
    """Capture ICMP on eth0 of these places during the block: (from, to, type) of what passed, filled in at its end."""
    captured: Captured = {}
    with ExitStack() as undo:
        readers = {}
        for place in places:
            argv = lab.argv(place, "python3", "-c", CAPTURE)
            reader = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
            undo.callback(reader.wait)
            undo.callback(reader.kill)
            readers[place] = reader
        for place, reader in readers.items():
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n", place
        yield captured
        for place, reader in readers.items():
            output, _ = reader.communicate(timeout=20)
            captured[place] = {(source, target, kind) for source, target, kind in json.loads(output)}


@dataclass(frozen=True)
class SeenAgain:
    """What ping and nc say of one pair; ``talks`` is None where nothing listens."""

    cell: Cell
    pings: bool
    talks: bool | None


def look_again(lab: RunningLab, cell: Cell) -> SeenAgain:
    address = lab.address(cell.target)
    pings = lab.try_exec(cell.source, "ping", "-c", "1", "-W", "1", address).status == 0
    talks = None
    if cell.target_kind == "pod":
        port = str(lab.pods[cell.target.removeprefix("pod/")]["port"])
        answer = lab.try_exec(cell.source, "nc", "-N", "-w", "1", address, port, stdin="hello\n").stdout
        talks = f'"pod": "{cell.target.removeprefix("pod/")}"' in answer
    return SeenAgain(cell, pings, talks)


def random_cells(lab: RunningLab, cells: list[Cell]) -> list[Cell]:
    """Twenty of the cells; half of those that are expected to be reached where there are both kinds."""
    choose = random.Random(SEED)
    reached = [cell for cell in cells if cell.expected]
    unreached = [cell for cell in cells if not cell.expected]
    few = min(CELLS // 2, len(unreached))
    return choose.sample(reached, CELLS - few) + choose.sample(unreached, few)


def compare(lab: RunningLab) -> None:
    probed = lab.probe()
    assert probed.status == 0
    cells = random_cells(lab, list(probed.matrix.cells))
    assert len({(cell.source, cell.target) for cell in cells}) == CELLS
    places = sorted({cell.source for cell in cells} | {cell.target for cell in cells})
    with capturing(lab, places) as captured, ThreadPoolExecutor(4) as workers:
        seen = list(workers.map(lambda cell: look_again(lab, cell), cells))
    # pods of one node and a node and its own pods meet on the bridge, where the node has the bridge's address
    for each in seen:
        cell = each.cell
        assert each.pings == cell.reached == cell.expected, f"ping: {cell}"
        assert each.talks in (None, cell.reached), f"nc: {cell}"
        source, target = lab.address(cell.source), lab.address(cell.target)
        if cell.source_node == cell.target_node and "node" in (cell.source_kind, cell.target_kind):
            continue  # does not pass the node's eth0
        assert ((target, source, ECHO_REPLY) in captured[cell.source]) == cell.reached, f"capture: {cell}"
        if cell.reached:
            assert (source, target, ECHO_REQUEST) in captured[cell.target], f"not with its own address: {cell}"
        elif cell.target_kind == "pod":
            assert (source, target, ECHO_REQUEST) not in captured[cell.target], f"it arrived: {cell}"


@pytest.mark.parametrize("fabric", ["static", "none"])
def test_random_cells_agree_with_ping_nc_and_captures(fabric: str) -> None:
    with running("--fabric", fabric) as lab:
        compare(lab)


def test_they_agree_in_racks_too() -> None:
    with running("--underlay", "racks", "--nodes", "4", "--pods", "2") as lab:
        compare(lab)
