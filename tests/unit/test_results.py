"""Rows of results: schema 1, loss as null, and files that are no results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mininetes.errors import BadInput
from mininetes.experiments.results import ROWS, SCHEMA, Measurement, Row, append_to, read

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
    fd = os.open(folder / ROWS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
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
