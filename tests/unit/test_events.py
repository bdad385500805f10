"""Names of events: those of one second stay in their order where they are listed by name."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, cast

import pytest

from mininetes.agents.events import EventRecorder
from mininetes.agents.klog import AgentLog
from mininetes.apiserver.client import Client

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": "u"}}


class Written:
    """Takes what is created."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def create(self, _: str, event: dict[str, Any]) -> None:
        self.names.append(event["metadata"]["name"])


async def _names(log: AgentLog, number: int) -> list[str]:
    written = Written()
    recorder = EventRecorder(cast(Client, written), "kubelet", "node1", log)
    for each in range(number):
        recorder.record(POD, "Normal", "Reason", f"message {each}")
    task = asyncio.ensure_future(recorder.run())
    while len(written.names) < number:
        await asyncio.sleep(0)
    task.cancel()
    return written.names


def test_names_have_the_time_in_hex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AgentLog(str(tmp_path / "log"))
    before = time.time_ns()
    names = asyncio.run(_names(log, 50))
    assert sorted(names) == names
    assert before <= int(names[0].removeprefix("web."), 16) <= time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: 0x1234)
    assert asyncio.run(_names(log, 3)) == ["web.1234", "web.1235", "web.1236"]
