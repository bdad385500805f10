"""Termination messages: where they are written, and what is read of them and of logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mininetes.agents.kubelet import termination

FALL_BACK = {"terminationMessagePolicy": "FallbackToLogsOnError"}
FOLDER = "/var/lib/kubelet/pods/u"
DEFAULT = f"{FOLDER}/termination~dev~termination-log"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "node"
    monkeypatch.setattr(termination, "node_path", lambda _, path: f"{root}{path}")
    return root


def message(spec: dict[str, Any], status: int = 1, log: Path = Path("/no/such/log")) -> str:
    return termination.message("node1", "u", spec, status, str(log))


def test_containers_with_one_path_have_one_file(root: Path) -> None:
    specs: list[dict[str, Any]] = [{}, {"terminationMessagePath": "/a/b"}, {}]
    found = termination.prepare("node1", "u", specs, [])
    assert found == [
        (f"{FOLDER}/termination~a~b", "/a/b", False),
        (DEFAULT, "/dev/termination-log", False),
    ]
    assert all(Path(f"{root}{source}").stat().st_mode & 0o777 == 0o666 for source, _, _ in found)


def test_none_is_made_in_a_volume_that_is_the_hosts() -> None:
    own = (f"{FOLDER}/volumes/x/v", "/data", False)
    specs: list[dict[str, Any]] = [{}, {"terminationMessagePath": "/data/log"}]
    assert [target for _, target, _ in termination.prepare("node1", "u", specs, [own, ("/dev", "/dev", False)])] == [
        "/data/log"
    ]
    assert message({}) == ""


def test_a_message_is_read_once_and_no_longer_than_a_kubelet_reads_it(root: Path) -> None:
    ((source, _, _),) = termination.prepare("node1", "u", [{}], [])
    file = Path(f"{root}{source}")
    file.write_text("y" * 5000)
    assert message({}, 0) == "y" * 4096
    assert message({}, 0) == ""


def test_the_end_of_the_log_stands_in_after_a_failure_alone(tmp_path: Path, root: Path) -> None:
    log = tmp_path / "0.log"
    lines = [f"2026-01-01T00:00:00.0Z stdout F line {number}" for number in range(100)]
    log.write_text("\n".join([*lines, "2026-01-01T00:00:00.0Z stderr P rest"]) + "\n")
    assert message({}, 1, log) == ""
    assert message(FALL_BACK, 0, log) == ""
    said = message(FALL_BACK, 1, log)
    assert said.splitlines() == [*(f"line {number}" for number in range(21, 100)), "rest"]
    assert said.endswith("rest")
    log.write_text("".join(f"2026-01-01T00:00:00.0Z stdout F {str(number) * 100}\n" for number in range(1000)))
    assert len(message(FALL_BACK, 1, log)) == 2048
    termination.prepare("node1", "u", [{}], [])
    Path(f"{root}{DEFAULT}").write_text("own")
    assert message(FALL_BACK, 1, log) == "own"
