"""Experiments' cells of mode ipvs, which are left out where the kernel has no ip_vs."""

from __future__ import annotations

import json
from pathlib import Path

from running_lab import mininetes

from mininetes.experiments import results

SLOWLY_S = 600.0
"""Without KVM all of this is emulated."""


def run(folder: Path, name: str, *settings: str) -> dict[str, object]:
    words = [word for setting in settings for word in ("--set", setting)]
    argv = ["run", name, *words, "--repetitions", "1", "--out", str(folder), "-o", "json"]
    done = mininetes(*argv, timeout_s=SLOWLY_S)
    assert done.status == 0, done
    said: dict[str, object] = json.loads(done.stdout)
    assert said["left_out"] == []
    assert said["failed"] == []
    return said


def test_ipvs_takes_endpoints_in_turn(tmp_path: Path) -> None:
    said = run(tmp_path / "r", "fairness", "mode=ipvs", "endpoints=2", "connections=60")
    assert [each["holds"] for each in said["verdicts"]] == ["yes"], said  # type: ignore[attr-defined]


def test_ipvs_carries_loads(tmp_path: Path) -> None:
    run(tmp_path / "r", "proxy_modes", "mode=ipvs", "rounds=1", "stream_s=1", "messages_s=0.05")
    rows = [row.measurement for row in results.read(tmp_path / "r") if row.measurement.metric == "tcp_gbps"]
    assert {(one.labels["path"], one.labels["through"]) for one in rows} == {
        (path, through) for path in ("same node", "cross node") for through in ("direct", "service")
    }
    assert all(one.value for one in rows)
