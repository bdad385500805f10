"""Rows of results: schema 1, runs with their ends, what was torn, and files that are no results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mininetes.errors import BadInput
from mininetes.experiments.results import (
    ROWS,
    SCHEMA,
    Measurement,
    Row,
    Run,
    append_to,
    keep_whole_runs,
    open_rows,
    read,
    runs,
    trusted,
)

ROW = Row("quickstart", {"nodes": 3}, 0, Measurement("rtt_us", 11.9, "us", {"path": "same node"}))
LOST = Row("quickstart", {"nodes": 3}, 1, Measurement("rtt_us", None, "us", {"path": "cross node"}))
LINE = {
    "schema": 1,
    "experiment": "quickstart",
    "cell": {"nodes": 3},
    "repetition": 0,
    "metric": "rtt_us",
    "value": 11.9,
    "unit": "us",
    "labels": {"path": "same node"},
}


def written(folder: Path, rows: list[Row]) -> list[str]:
    fd = open_rows(folder)
    append_to(fd, rows)
    os.close(fd)
    return (folder / ROWS).read_text().splitlines()


def test_a_row_has_the_fields_of_schema_1() -> None:
    assert SCHEMA == 1
    assert ROW.to_json() == LINE


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    written(tmp_path, [ROW, LOST])
    assert list(read(tmp_path)) == [ROW, LOST]


def test_each_row_is_a_line_of_json(tmp_path: Path) -> None:
    lines = written(tmp_path, [ROW, LOST])
    assert [json.loads(line)["value"] for line in lines] == [11.9, None]


def test_loss_is_null_and_neither_zero_nor_a_missing_row(tmp_path: Path) -> None:
    assert '"value": null' in written(tmp_path, [LOST])[0]
    (row,) = read(tmp_path)
    assert row.measurement.value is None


def test_more_rows_are_added_at_the_end(tmp_path: Path) -> None:
    written(tmp_path, [ROW])
    assert len(written(tmp_path, [LOST])) == 2


def test_no_rows_are_an_empty_file(tmp_path: Path) -> None:
    assert written(tmp_path, []) == []
    assert list(read(tmp_path)) == []


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_is_refused_with_both_numbers(tmp_path: Path, schema: object) -> None:
    (tmp_path / ROWS).write_text(json.dumps({**LINE, "schema": schema}) + "\n")
    with pytest.raises(BadInput, match=r"schema.*1"):
        list(read(tmp_path))


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in LINE.items() if name != key}


@pytest.mark.parametrize(
    "line",
    ["not JSON", "", "[]", "5", *(json.dumps(without(key)) for key in LINE if key != "schema")],
    ids=lambda line: line[:30],
)
def test_a_line_that_is_no_row_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    (tmp_path / ROWS).write_text(json.dumps(LINE) + "\n" + line + "\n")
    with pytest.raises(BadInput, match=rf"{ROWS}:2"):
        list(read(tmp_path))


def test_a_folder_without_rows_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"{tmp_path}.*{ROWS}"):
        list(read(tmp_path))


def test_a_newer_schema_is_refused_as_newer(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_text(json.dumps({**LINE, "schema": 2}) + "\n")
    with pytest.raises(BadInput, match=rf"{ROWS}:1.*schema: 2.*up to 1.*newer Mininetes"):
        list(read(tmp_path))


# --- runs and their ends ------------------------------------------------------------------------------------------


def run_of(repetition: int, rows: int = 2, *, verdict: str = "good", error: str | None = None, n: int = 3) -> list[Row]:
    """The rows of a run with its end."""
    cell = {"nodes": n}
    values = [] if error else [Row("q", cell, repetition, Measurement("m", 1.0, "1", {"i": i})) for i in range(rows)]
    end = Run("q", cell, repetition, 0.5, error, len(values), holds=True, fidelity={"verdict": verdict})
    return [*values, end.end()]


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [*run_of(0), *run_of(1, error="it broke")]
    written(tmp_path, rows)
    assert list(read(tmp_path)) == rows
    good, bad = runs(read(tmp_path))
    assert (good.error, good.rows, good.is_saturated, good.seconds) == (None, 2, False, 0.5)
    assert (bad.error, bad.rows) == ("it broke", 0)
    assert good.key != bad.key


TORN = {
    "half a line": lambda lines: [*lines, lines[0][:30]],
    "rows without their end": lambda lines: [*lines, *run_lines(2)[:2]],
    "rows without their end, and half a line": lambda lines: [*lines, run_lines(2)[0], run_lines(2)[1][:-2]],
    "rows without their end before others": lambda lines: [*run_lines(2)[:1], *lines],
    "an end that lacks rows": lambda lines: [*lines, *run_lines(2)[1:]],
    "a run twice": lambda lines: [*lines, *run_lines(0)],
}


def run_lines(repetition: int) -> list[str]:
    return [json.dumps(row.to_json()) + "\n" for row in run_of(repetition)]


@pytest.mark.parametrize("how", TORN)
def test_what_was_torn_is_left_out_and_removed_when_a_run_is_gone_on_with(tmp_path: Path, how: str) -> None:
    whole = [*run_lines(0), *run_lines(1)]
    (tmp_path / ROWS).write_text("".join(TORN[how](whole)))
    expected = [*run_of(0), *run_of(1)]
    assert list(read(tmp_path)) == expected
    assert [run.repetition for run in keep_whole_runs(tmp_path)] == [0, 1]
    assert (tmp_path / ROWS).read_text() == "".join(whole)
    assert [path.name for path in tmp_path.iterdir()] == [ROWS]


def test_a_file_that_is_whole_is_not_written_anew(tmp_path: Path) -> None:
    written(tmp_path, [*run_of(0), *run_of(1)])
    before = (tmp_path / ROWS).stat().st_ino
    assert len(keep_whole_runs(tmp_path)) == 2
    assert (tmp_path / ROWS).stat().st_ino == before


def test_failed_runs_are_dropped_where_they_are_to_be_run_again(tmp_path: Path) -> None:
    written(tmp_path, [*run_of(0), *run_of(1, error="it broke"), *run_of(2)])
    assert len(keep_whole_runs(tmp_path)) == 3
    assert [run.repetition for run in keep_whole_runs(tmp_path, failed=False)] == [0, 2]
    assert list(read(tmp_path)) == [*run_of(0), *run_of(2)]


def test_the_first_run_torn_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_text("".join(run_lines(0)[:2]))
    assert keep_whole_runs(tmp_path) == []
    assert (tmp_path / ROWS).read_text() == ""


def test_a_result_from_before_runs_had_ends_is_read_as_it_is(tmp_path: Path) -> None:
    written(tmp_path, [ROW, LOST])
    assert list(read(tmp_path)) == [ROW, LOST]
    assert trusted(read(tmp_path)) == [ROW, LOST]


def test_trusted_rows_are_of_runs_that_went_well_on_a_machine_that_kept_up() -> None:
    rows = [
        *run_of(0),
        *run_of(1, verdict="saturated"),
        *run_of(2, error="it broke"),
        *run_of(3, verdict="unknown"),
    ]
    assert trusted(rows) == [*run_of(0), *run_of(3, verdict="unknown")]
    assert trusted(rows, saturated=True) == [row for row in rows if row.repetition != 2]


# --- writing ------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_cut_off_before_more_is_written(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_text("".join(run_lines(0)) + "x" * 100_000)
    written(tmp_path, run_of(1))
    assert (tmp_path / ROWS).read_text() == "".join([*run_lines(0), *run_lines(1)])


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_results import run_of
from mininetes.errors import MininetesError
from mininetes.experiments.results import append_to, open_rows
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
fd = open_rows(Path(sys.argv[1]))
append_to(fd, run_of(0, 10))
try:
    append_to(fd, run_of(1, 100))
except MininetesError as failed:
    print(failed)
append_to(fd, run_of(2, 2))
"""


def test_what_does_not_fit_is_taken_back_whole(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", FULL, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "rows could not be written: File too large; what was written before is whole\n"
    assert list(read(tmp_path)) == [*run_of(0, 10), *run_of(2, 2)]
