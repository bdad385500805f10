"""A report's topology: of the clusters that were run, whatever became of the experiment's file since."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mininetes import parts
from mininetes.experiments import clusters, context, report
from mininetes.experiments.report_reading import read
from mininetes.spec import describe
from tests.unit import made_experiment

EXPERIMENTS_FILE = "the topology is drawn by made.py"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Path]:
    with made_experiment.result(tmp_path) as folder:
        yield folder


def describe_clusters(made: Path, **spec: Any) -> dict[str, Any]:
    """Have the result's context hold one description for all cells."""
    facts = json.loads((made / "context.json").read_text())
    described = clusters.written(describe({"nodes": {"workers": 4}, **spec}))
    facts = {**context.read(made), **facts, "schema": 3, "clusters": [{"cells": [{}], "spec": described}]}
    (made / "context.json").write_text(json.dumps(facts))
    return facts


def drawn_nodes(made: Path) -> list[int]:
    """How many nodes each drawing has."""
    told, _ = read(made)
    return [int(number) for _, svg in told.topologies for number in re.findall(r"<title>(\d+) nodes", svg)]


def test_the_topology_is_of_the_cluster_that_was_run_though_the_experiment_says_another_today(made: Path) -> None:
    assert drawn_nodes(made) == [3, 3]  # by the experiment's file, one for each mode
    describe_clusters(made)
    assert drawn_nodes(made) == [5]
    text = report.write([made], None).page.read_text()
    assert "5 nodes on underlay" in text
    assert "all cells" in text
    assert EXPERIMENTS_FILE not in text


def test_the_topology_is_drawn_when_the_experiment_is_gone_or_broken(made: Path) -> None:
    describe_clusters(made)
    file = made.parent / "parts" / "experiments" / "made.py"
    file.write_text(file.read_text().replace("def cluster(params):", "def cluster(params):\n    1 / 0"))
    assert drawn_nodes(made) == [5]
    file.unlink()
    parts.use([])
    text = report.write([made], None).page.read_text()
    assert "No experiment made is here" in text
    assert "5 nodes on underlay" in text


def test_a_result_that_describes_no_clusters_has_those_of_todays_file_and_says_so(made: Path) -> None:
    text = report.write([made], None).page.read_text()
    assert f"does not describe the clusters: {EXPERIMENTS_FILE} of today." in text
    facts = json.loads((made / "context.json").read_text())
    today = parts.find("experiment", "made").sha256
    (made / "context.json").write_text(json.dumps({**facts, "parts": {"experiment/made.py": today}}))
    text = report.write([made], None).page.read_text()
    assert f"does not describe the clusters: {EXPERIMENTS_FILE}, which has not changed since." in text
    parts.use([])
    told, _ = read(made)
    assert told.topologies == []
    assert any("the clusters: nothing is drawn" in note for note in told.notes)


def test_cells_that_are_not_described_fall_back_each_by_its_name(made: Path) -> None:
    facts = describe_clusters(made)
    facts["clusters"][0]["cells"] = [{"mode": "iptables"}, {"mode": "nftables", "services": 1000}]
    (made / "context.json").write_text(json.dumps(facts))
    told, _ = read(made)
    assert sorted(drawn_nodes(made)) == [3, 5]
    assert "all cells" not in dict(told.topologies)
    assert [names for names, svg in told.topologies if "<title>3 nodes" in svg] == ["mode=nftables, services=10000"]
    assert any(f"the cluster of mode=nftables, services=10000: {EXPERIMENTS_FILE}" in note for note in told.notes), (
        told.notes
    )


def test_a_part_that_changed_since_or_is_gone_is_named(made: Path) -> None:
    facts = describe_clusters(made)
    (made / "context.json").write_text(json.dumps({**facts, "parts": {"fabric/static.py": "00", "cni/x": "00"}}))
    told, _ = read(made)
    assert "static.py has changed since: the topology is drawn with the file of today." in told.notes
    describe_clusters(made, underlay={"name": "nowhere"})
    told, _ = read(made)
    assert told.topologies == []
    (note,) = [each for each in told.notes if "cannot be drawn" in each]
    assert "nowhere" in note
    assert "mode=iptables, services=1000; mode=iptables, services=10000" in note
