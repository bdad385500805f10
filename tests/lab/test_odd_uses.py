"""Parts by relative path, routes that swallow packets, and experiments with odd parameters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from running_lab import REPOSITORY, fresh_name, mininetes, running


def test_a_blackhole_loses_its_pairs_and_no_others() -> None:
    with running("--pods", "1") as lab:
        address = lab.address("pod/node2-1")
        lab.exec("node1", "ip", "route", "add", "blackhole", f"{address}/32")
        probed = lab.probe()
        assert probed.status == 1
        assert {cell.target for cell in probed.matrix.mismatches if cell.source == "node1"} == {"pod/node2-1"}
        saw = next(cell.saw for cell in probed.matrix.mismatches if cell.source == "node1")
        assert "blackhole" in saw


@pytest.mark.parametrize("named", ["./mine.conflist", "mine.conflist"])
def test_a_part_by_relative_path_is_found_from_the_working_directory(tmp_path: Path, named: str) -> None:
    shutil.copy(REPOSITORY / "cni_scripts" / "bash-bridge.conflist", tmp_path / "mine.conflist")
    name = fresh_name("rel")
    done = mininetes("up", "--lab", name, "--pods", "1", "--cni", named, cwd=tmp_path)
    try:
        assert (done.status, done.stderr) == (0, "")
    finally:
        mininetes("down", name)


def test_a_cluster_files_relative_paths_start_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "clusters"
    folder.mkdir()
    shutil.copy(REPOSITORY / "topologies" / "fabrics" / "none.py", folder / "own.py")
    (folder / "c.yaml").write_text(
        "apiVersion: mininetes/v1\nkind: Cluster\nspec: {fabric: ./own.py, pods: {perNode: 1}}\n"
    )
    name = fresh_name("rel")
    done = mininetes("up", "clusters/c.yaml", "--lab", name, cwd=tmp_path)
    try:
        assert (done.status, done.stderr) == (0, "")
    finally:
        mininetes("down", name)


def test_an_experiment_without_pairs_for_latency_still_has_its_matrix(tmp_path: Path) -> None:
    out = tmp_path / "o"
    settings = ["--set", "nodes=1,2", "--set", "fabric=none,static", "--set", "pods_per_node=1"]
    done = mininetes("run", "quickstart", *settings, "--out", str(out))
    assert done.status == 0, done.stderr
    assert {path.name for path in out.iterdir()} >= {"rows.jsonl", "context.json", "matrix.png", "latency.png"}


@pytest.mark.parametrize("setting", ["nodes=0", "probes=0", "interval_s=-1.0", "interval_s=-1"])
def test_an_experiments_parameters_are_checked_before_anything_is_built(tmp_path: Path, setting: str) -> None:
    done = mininetes("run", "quickstart", "--set", setting, "--out", str(tmp_path / "o"))
    assert (done.status, done.stdout) == (2, "")
    assert not (tmp_path / "o").exists()
