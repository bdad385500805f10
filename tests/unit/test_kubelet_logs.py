"""Writing and reading logs of containers and agents."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mininetes.agents.kubelet.exec_stream import ExecOptions, outcome
from mininetes.agents.kubelet.log_stream import LogOptions, read
from mininetes.agents.shim import log_files
from mininetes.agents.shim.log_files import LogFile, stamp
from mininetes.errors import BadInput

KLOG = 'I1126 11:05:00.000001       1 a.py:1] "one"\nE1126 11:05:01.000001       1 a.py:1] "two"\n'


def shown(path: Path, *, is_cri: bool = True, **query: str) -> str:
    async def whole() -> bytes:
        options = LogOptions.of(query, now=2e9)
        return b"".join([part async for part in read(str(path), options, is_cri=is_cri, goes_on=lambda: False)])

    return asyncio.run(whole()).decode()


def test_lines_streams_and_parts(tmp_path: Path) -> None:
    path = tmp_path / "pod" / "0.log"
    with LogFile(str(path)) as log:
        log.write("stdout", b"one\ntw")
        log.write("stderr", b"bad\n")
        log.write("stdout", b"o\nrest")
        log.end("stdout")
    fields = [line.split(" ", 3)[1:] for line in path.read_text().splitlines()]
    assert fields == [["stdout", "F", "one"], ["stderr", "F", "bad"], ["stdout", "F", "two"], ["stdout", "P", "rest"]]
    assert shown(path) == "one\nbad\ntwo\nrest"


def test_long_lines_are_cut_and_put_together_again(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    line = "x" * 50_000
    with LogFile(str(path)) as log:
        for start in range(0, len(line), 9_000):
            log.write("stdout", line[start : start + 9_000].encode())
        log.write("stdout", b"\nnext\n")
    assert max(map(len, path.read_text().splitlines())) < 17_000
    assert shown(path) == f"{line}\nnext\n"


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "LARGEST_BYTES", 1000)
    path = tmp_path / "0.log"
    with LogFile(str(path)) as log:
        for number in range(100):
            log.line(f"line {number}")
    assert path.stat().st_size <= 1000
    assert Path(f"{path}.1").stat().st_size <= 1000
    assert shown(path).endswith("line 99\n")


def test_tails(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    with LogFile(str(path)) as log:
        for number in range(5000):
            log.line(f"line {number}")
    assert shown(path, tailLines="2") == "line 4998\nline 4999\n"
    assert shown(path, tailLines="0") == ""
    assert shown(path, tailLines="99999").startswith("line 0\n")
    assert len(shown(path, tailLines="3000").splitlines()) == 3000
    assert shown(path, limitBytes="9") == "line 0\nli"


def test_an_agents_log_is_shown_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_text(KLOG)
    assert shown(path, is_cri=False) == KLOG
    assert shown(path, is_cri=False, tailLines="1").endswith('"two"\n')
    (first, _) = shown(path, is_cri=False, timestamps="true").splitlines()
    assert first.split(" ", 1)[1] == KLOG.splitlines()[0]
    assert "T" in first.split(" ", maxsplit=1)[0]


def test_since(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(f"{stamp(1_000_000_000 * 10**9)} stdout F old\n{stamp(1_900_000_000 * 10**9)} stdout F new\n")
    assert shown(path, sinceTime="2020-01-01T00:00:00Z") == "new\n"
    assert shown(path, sinceSeconds="200000000") == "new\n"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"tailLines": "-1"}, "tailLines: '-1' is not valid: a number, at least 0"),
        ({"limitBytes": "0"}, "limitBytes: '0' is not valid: a number, at least 1"),
        ({"sinceTime": "yesterday"}, "sinceTime: 'yesterday' is not valid: a time as in"),
    ],
)
def test_bad_options_are_named(query: dict[str, str], text: str) -> None:
    with pytest.raises(BadInput) as wrong:
        LogOptions.of(query, 0.0)
    assert text in str(wrong.value)


def test_exec_options_have_two_sets_of_names() -> None:
    for query in ({"stdin": "true", "stdout": "true", "stderr": "true"}, {"input": "1", "output": "1", "error": "1"}):
        assert ExecOptions.of(["ls"], query) == ExecOptions(["ls"], stdin=True, stdout=True, stderr=True, tty=False)
    assert not ExecOptions.of(["ls"], {"stderr": "true", "tty": "true"}).stderr, "a terminal has one output"


def test_outcomes() -> None:
    assert outcome(0) == {"metadata": {}, "status": "Success"}
    failed = outcome(3)
    assert failed["reason"] == "NonZeroExitCode"
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
