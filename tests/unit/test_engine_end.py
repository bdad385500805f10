"""How an engine ends that was asked to, and what is said of it; the lab that is kept though it did not come up."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mininetes.errors import MininetesError
from mininetes.lab.state import LabState
from mininetes.lab.supervising import Supervised
from mininetes.testbed import engine

SPEC = {"nodes": [{"name": "node1"}], "controlPlane": {"store": "none"}}


class _Testbed:
    """One that takes for ever to come up, once it has nodes."""

    def __init__(self, *_: object) -> None: ...

    async def bring_up(self, _: object, nodes_held: Any) -> None:
        nodes_held()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is there."""


class _Failing(_Testbed):
    """One that gets no nodes. ``collected`` is whether there was garbage collection at its end."""

    collected = False

    async def bring_up(self, _: object, nodes_held: Any) -> None:
        raise MininetesError("no room")

    async def close(self) -> None:
        _Failing.collected = gc.isenabled()


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """An engine's socket to PID 1, which asks for the end."""
    monkeypatch.setattr(engine, "start_logging", lambda _: None)
    monkeypatch.setattr(engine, "lift_file_limit", lambda: None)
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, ours:
        ours.send(b'{"op": "end"}')
        yield theirs
    gc.unfreeze()
    gc.enable()


async def _never(*_: object) -> int:
    raise AssertionError("it is not up")


def test_one_that_is_ended_in_its_bring_up_says_so(
    channel: socket.socket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "Testbed", _Testbed)
    with (tmp_path / "report").open("wb") as report:
        fds = {"report": os.dup(report.fileno())}
        assert engine.run_engine({"spec": SPEC, "neighbour_limit": 1, "fds": fds}, channel, _never) == 0
        os.close(fds["report"])
    assert json.loads((tmp_path / "report").read_text()) == {"ended": True}


def test_one_that_is_kept_before_it_had_nodes_hears_that_it_shall_end(
    channel: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Testbed", _Failing)
    config = {"spec": SPEC, "neighbour_limit": 1, "fds": {}, "keep": True}

    async def kept() -> None:
        async with engine.running(config, channel, engine.Reporter(None)):
            await _never()

    async def ended() -> bool:
        task = asyncio.ensure_future(kept())
        await asyncio.wait({task}, timeout=5.0)
        return task.cancelled()

    assert asyncio.run(ended())
    assert _Failing.collected


@pytest.mark.parametrize(
    ("told", "log", "words"),
    [
        ("", "", ""),
        ("", "1795748342.635 INFO mininetes: step pods\n", ""),
        ("", "Traceback ...\nOSError: no memory\n", ": OSError: no memory"),
        ('{"ended": true}\n', "1.0 INFO mininetes: torn down\n", ": it was ended, as by `mininetes down`"),
    ],
)
def test_what_is_said_of_an_engine_that_is_gone(told: str, log: str, words: str, tmp_path: Path) -> None:
    held: Any = SimpleNamespace(state=LabState("lab1", tmp_path))
    held.state.log.write_text(log)
    supervised = Supervised("lab1", "entry", {})
    supervised.held = held
    supervised._report, writing = os.pipe()
    os.write(writing, told.encode())
    os.close(writing)
    assert list(supervised.events()) == []
    os.close(supervised._report)
    assert supervised.last_words() == words
