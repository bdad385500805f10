"""What a result ran on: its schema, older and newer ones, and what keeps a result from being gone on with."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mininetes.errors import BadInput, MininetesError
from mininetes.experiments import clusters, context, results
from mininetes.experiments.result_folder import open_folder
from mininetes.spec import describe

SCHEMA_1: dict[str, Any] = {
    "schema": 1,
    "mininetes": {"version": "0.1.0", "commit": "abc", "dirty": False},
    "kernel": {"release": "6.1.0", "version": "#1", "machine": "x86_64"},
    "cpu": {"model": "fast", "count": 2, "mitigations": {}},
    "memory_bytes": 1,
    "experiment": {
        "name": "quickstart",
        "reproduces": "nothing",
        "parameters": {"nodes": [2, 3], "fabric": ["static"]},
    },
    "parts": {"experiment/quickstart.py": "00"},
    "seed": 1,
    "complete": True,
    "started": "2026-11-21T11:30:00.000+00:00",
    "duration_s": 2.1,
    "load": {"before": [0.5, 0.2, 0.1], "after": [0.7, 0.2, 0.1]},
}
NOW: dict[str, Any] = {
    "kernel": {"release": "6.1.0"},
    "cpu": {"model": "fast", "count": 2},
    "experiment": {"name": "mine", "parameters": {"n": [1, 2]}, "repetitions": 3},
    "parts": {"experiment/mine.py": "11", "fabric/static.py": "22"},
    "seed": 1,
    "clusters": [
        {"cells": [{"n": 1}], "spec": clusters.written(describe({"nodes": {"workers": 1}}))},
        {"cells": [{"n": 2}], "spec": clusters.written(describe({"nodes": {"workers": 2}}))},
    ],
}
BEFORE = {
    **copy.deepcopy(NOW),
    "schema": 3,
    "runs": {"planned": 6, "done": 1, "failed": 0, "saturated": 0},
    "starts": [],
    "complete": False,
}


def test_the_machine_is_told() -> None:
    said = context.machine()
    assert said["schema"] == 3
    assert said["kernel"]["release"] == os.uname().release
    assert said["cpu"]["count"] >= 1
    assert said["memory_bytes"] > 1 << 20
    assert set(said["mininetes"]) == {"version", "commit", "dirty"}
    assert said["packages"]["pyroute2"]
    assert said["tools"]["nft"]
    assert "net.core.netdev_max_backlog" in said["sysctls"]
    assert json.loads(json.dumps(said)) == said
    quick = context.quick()
    assert {key: said["kernel"][key] for key in quick["kernel"]} == quick["kernel"]
    assert {key: said["cpu"][key] for key in quick["cpu"]} == quick["cpu"]


def test_a_context_of_schema_1_is_read_as_the_newest(tmp_path: Path) -> None:
    (tmp_path / context.CONTEXT).write_text(json.dumps(SCHEMA_1))
    said = context.read(tmp_path)
    assert said["schema"] == context.SCHEMA == 3
    assert said["clusters"] == []
    assert said["experiment"]["repetitions"] == 1
    assert said["experiment"]["title"] == "quickstart"
    assert (said["runs"]["planned"], said["runs"]["done"], said["complete"]) == (2, 2, True)
    (start,) = said["starts"]
    assert (start["duration_s"], start["commit"], start["load"]["highest"]) == (2.1, "abc", 0.7)


def test_a_context_of_schema_2_is_read_as_the_newest_that_tells_of_no_clusters(tmp_path: Path) -> None:
    old = {key: value for key, value in BEFORE.items() if key != "clusters"}
    (tmp_path / context.CONTEXT).write_text(json.dumps({**old, "schema": 2}))
    assert context.read(tmp_path) == {**old, "schema": 3, "clusters": []}


def test_a_context_of_schema_3_is_read_as_it_was_written(tmp_path: Path) -> None:
    context.write(tmp_path, BEFORE)
    assert context.read(tmp_path) == BEFORE


@pytest.mark.parametrize("found", [None, {}, 3, ["x"], [{}], [{"cells": [{}]}], [{"cells": ["n"], "spec": {}}]])
def test_clusters_that_are_none_are_refused_naming_the_file(tmp_path: Path, found: object) -> None:
    (tmp_path / context.CONTEXT).write_text(json.dumps({**BEFORE, "clusters": found}))
    with pytest.raises(BadInput, match=r"context\.json.*as schema 3"):
        context.read(tmp_path)


@pytest.mark.parametrize("schema", [4, 0, "2", None])
def test_another_schema_is_refused_with_what_is_understood(tmp_path: Path, schema: object) -> None:
    (tmp_path / context.CONTEXT).write_text(json.dumps({**BEFORE, "schema": schema}))
    with pytest.raises(BadInput, match=r"schema: .*1 to 3") as caught:
        context.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"schema": 1}'])
def test_what_is_no_context_is_refused_naming_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / context.CONTEXT).write_text(text)
    with pytest.raises(BadInput, match=r"context\.json"):
        context.read(tmp_path)


def test_a_folder_without_a_context_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a folder with context\.json"):
        context.read(tmp_path)


def test_a_context_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    context.write(tmp_path, BEFORE)
    (tmp_path / (context.CONTEXT + ".new")).mkdir()  # in the way
    with pytest.raises((MininetesError, OSError)):
        context.write(tmp_path, {})
    assert context.read(tmp_path) == BEFORE


# --- going on -----------------------------------------------------------------------------------------------------


def changed(path: str, value: object) -> dict[str, Any]:
    made = copy.deepcopy(NOW)
    *way, last = path.split("/", 1) if path.startswith("parts") else path.split(".")
    place = made
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return made


DIFFERENT = [
    ("seed", 2, "the seed (1, now 2)"),
    ("experiment.parameters", {"n": [1]}, 'the parameters ({"n": [1, 2]}, now {"n": [1]})'),
    ("experiment.repetitions", 4, "the repetitions (3, now 4)"),
    ("kernel.release", "6.2.0", 'the kernel ("6.1.0", now "6.2.0")'),
    ("cpu.model", "slow", 'the CPU ("fast", now "slow")'),
    ("cpu.count", 4, "the number of CPUs (2, now 4)"),
    ("parts/experiment/mine.py", "12", "experiment/mine.py (sha256 11, now 12)"),
    ("parts/fabric/static.py", None, "fabric/static.py (sha256 22, now none)"),
    ("clusters", [NOW["clusters"][0], {**NOW["clusters"][0], "cells": [{"n": 2}]}],
     "the cluster of n=2 (nodes.workers 2, now 1)"),
]  # fmt: skip


def result(folder: Path) -> Path:
    context.write(folder, BEFORE)
    fd = results.open_rows(folder)
    run = results.Run("mine", {"n": 1}, 0, 0.5, None, 0, holds=True, fidelity={})
    results.append_to(fd, [run.end()])
    os.close(fd)
    return folder


@pytest.mark.parametrize(("path", "value", "words"), DIFFERENT, ids=[each[0] for each in DIFFERENT])
def test_a_result_that_differs_is_not_gone_on_with_and_what_differs_is_named(
    tmp_path: Path, path: str, value: object, words: str
) -> None:
    before = (result(tmp_path) / results.ROWS).read_text()
    with pytest.raises(BadInput) as caught:
        open_folder(tmp_path, "mine", changed(path, value), resume=True, retry_failed=False)
    assert "--resume" in str(caught.value)
    assert f"changed: {words}; choose another --out" in str(caught.value)
    assert (tmp_path / results.ROWS).read_text() == before


def test_a_result_that_is_the_same_is_gone_on_with(tmp_path: Path) -> None:
    folder = open_folder(result(tmp_path), "mine", NOW, resume=True, retry_failed=False)
    assert [run.key for run in folder.done] == [('{"n": 1}', 0)]
    assert folder.before == BEFORE
    folder.close()


def refused(out: Path | None, *, resume: bool = True, name: str = "mine") -> str:
    with pytest.raises(BadInput) as caught:
        open_folder(out, name, NOW, resume=resume, retry_failed=False)
    return str(caught.value)


def test_folders_that_are_none_to_go_on_in(tmp_path: Path) -> None:
    assert "--out DIR" in refused(None)
    (tmp_path / "precious").write_text("data")
    assert "a folder with a result" in refused(tmp_path)
    assert "an empty folder" in refused(tmp_path, resume=False)
    assert "a folder that can be written" in refused(tmp_path / "precious")
    (tmp_path / "precious").unlink()
    assert "a result of other, not of mine" in refused(result(tmp_path), name="other")
    context.write(tmp_path, {**SCHEMA_1, **{key: NOW[key] for key in ("experiment", "parts")}})
    assert "from before they did" in refused(tmp_path)


def test_an_empty_folder_is_started(tmp_path: Path) -> None:
    (tmp_path / "context.json.new").write_text("{")  # of a start that was killed at once
    folder = open_folder(tmp_path, "mine", NOW, resume=True, retry_failed=False)
    assert (folder.before, folder.done) == (None, [])
    folder.close()


def test_a_folder_that_another_run_writes_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mininetes.experiments.result_folder._LOCK_TIMEOUT_S", 0.1)
    first = open_folder(tmp_path, "mine", NOW, resume=False, retry_failed=False)
    assert "no other run is writing to" in refused(tmp_path)
    first.close()
    open_folder(tmp_path, "mine", NOW, resume=False, retry_failed=False).close()
