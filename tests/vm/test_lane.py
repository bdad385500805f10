"""What the lane makes of a virtual machine that does not do as it should; a script stands in for the machine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts import vm_machine
from scripts.vm_machine import Ended, Machine, MachineFailed
from tests.vm import lane, reports

THIS = "tests/vm/inside/test_this.py::test_this"


def machine_of(folder: Path, monkeypatch: pytest.MonkeyPatch, vng: str) -> Machine:
    """A machine whose `vng` is this shell script; its last argument is the command that the real one runs."""
    script = folder / "vng"
    script.write_text(f"#!/bin/sh\nfor inside; do :; done\n{vng}\n")
    script.chmod(0o755)
    monkeypatch.setattr(vm_machine, "SEARCHED", (str(folder), *vm_machine.SEARCHED))
    return Machine(folder / "vmlinuz", folder / "busybox", kvm=False)


def test_what_the_script_printed_and_its_status_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine_of(tmp_path, monkeypatch, f"echo said >{tmp_path}/output; echo 7 >{tmp_path}/status; echo booted")
    assert made.run("exit 7", tmp_path, timeout_s=20) == Ended(7, "said\n", "booted\n")
    assert "exit 7" in (tmp_path / "job.sh").read_text()


def test_a_machine_that_does_not_end_is_ended_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine_of(tmp_path, monkeypatch, f"echo hanging; sleep 300 & echo $! >{tmp_path}/pid; wait")
    with pytest.raises(MachineFailed, match=r"did not end within 2 s:\nhanging"):
        made.run("true", tmp_path, timeout_s=2)


def test_nothing_of_the_machine_outlives_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = f"marked-{os.getpid()}"
    made = machine_of(tmp_path, monkeypatch, f"exec 9>{tmp_path}/{mark}; sleep 300 & wait")
    with pytest.raises(MachineFailed):
        made.run("true", tmp_path, timeout_s=1)
    deadline = time.monotonic() + 10
    while holders(tmp_path / mark):
        assert time.monotonic() < deadline, "a process of the machine is left"


def holders(file: Path) -> list[str]:
    """The processes that have it open."""
    found = []
    for descriptor in Path("/proc").glob("[0-9]*/fd/9"):
        try:
            if descriptor.readlink() == file:
                found.append(descriptor.parts[2])
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
    return found


def test_a_machine_that_stops_early_shows_its_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine_of(tmp_path, monkeypatch, "echo Kernel panic; exit 1")
    with pytest.raises(MachineFailed, match="ended early:\nKernel panic"):
        made.run("true", tmp_path, timeout_s=20)


def test_a_machine_that_set_up_did_not_prepare_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_machine, "HOME", tmp_path)
    with pytest.raises(MachineFailed, match="make setup-tests gets it"):
        Machine.found()


@pytest.fixture
def item(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the lane asks of a test that runs inside."""
    monkeypatch.setattr(lane, "snapshot", lambda target, _: target)
    monkeypatch.setattr(lane, "lacking", lambda: "ip_vs")
    return SimpleNamespace(nodeid=THIS, location=(THIS, 1, "test_this"), keywords={}, config=request.config)


class StandIn:
    """A machine that writes these lines of reports."""

    def __init__(self, *lines: str) -> None:
        self._lines = lines

    def run(self, _script: str, results: Path, **_: object) -> Ended:
        (results / "reports.jsonl").write_text("\n".join(self._lines))
        return Ended(3, "what pytest printed", "")


def line(item: Any, when: str, outcome: str = "passed", why: str | None = None) -> str:
    """One report of it, as reports.py writes it."""
    report = pytest.TestReport(item.nodeid, item.location, {}, outcome, why, when)
    return json.dumps(item.config.hook.pytest_report_to_serializable(config=item.config, report=report))


def came_of(item: Any, monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[tuple[str | None, str, str]]:
    monkeypatch.setattr(Machine, "found", lambda: StandIn(*lines))
    return [(each.when, each.outcome, each.longreprtext) for each in lane.Lane(item.config, [item]).reports(item)]


def test_a_tests_reports_are_those_of_the_machine(item: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line(item, "setup"), line(item, "call", "failed", "assert 1 == 2"), line(item, "teardown")]
    assert came_of(item, monkeypatch, *lines) == [
        ("setup", "passed", ""),
        ("call", "failed", "assert 1 == 2"),
        ("teardown", "passed", ""),
    ]


def test_a_test_without_a_report_has_failed(item: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ((when, outcome, why),) = came_of(item, monkeypatch)
    assert (when, outcome) == ("call", "failed")
    assert "no report of it came back; pytest ended with status 3:\nwhat pytest printed" in why


def test_a_test_that_the_machine_did_not_finish_has_failed(item: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = came_of(item, monkeypatch, line(item, "setup"), '{"half a li')
    assert [(when, outcome) for when, outcome, _ in found] == [("setup", "passed"), ("call", "failed")]


def test_a_machine_that_failed_fails_its_tests(item: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Machine:
        raise MachineFailed("it did not start")

    monkeypatch.setattr(Machine, "found", fail)
    (report,) = lane.Lane(item.config, [item]).reports(item)
    assert (report.outcome, report.longreprtext) == ("failed", "in the virtual machine: it did not start")


def test_only_tests_inside_are_given_to_the_machine(item: Any) -> None:
    assert lane.INSIDE == "tests/vm/inside/"
    made = lane.Lane(item.config, [item])
    assert made._script(Path("/r")).endswith(f"-v {THIS}")
    assert f"{reports.VARIABLE}=/r" in made._script(Path("/r"))
