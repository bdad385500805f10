"""The table of packet flows, played by `truth-table --flows` in a whole lab, in each mode that this kernel has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_lab import RunningLab, running

FLOWS = Path(__file__).parents[1] / "golden" / "packet-flows" / "flows.jsonl"
OTHERWISE = {"MQ-2": "the network does not lead", "MQ-4": "masqueradeAll", "MQ-7": "the network does not lead",
             "NOEP-2": "the network does not lead", "TH-1": "zone"}  # fmt: skip
"""Flows that a lab as it comes up cannot play, with a word of the reason: cluster and external IPs asked from
outside, other settings, a zone. tests/lab/test_proxy_flows.py plays them."""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running("--pods", "5") as made:
        yield made


def ids(mode: str) -> set[str]:
    flows: list[dict[str, Any]] = [json.loads(line) for line in FLOWS.read_text().splitlines()]
    return {flow["id"] for flow in flows if mode in flow["modes"]}


@pytest.mark.parametrize("mode", ["iptables", "nftables", "userspace"])
def test_every_flow_ends_as_its_table_says(lab: RunningLab, mode: str) -> None:
    done = lab.command("truth-table", "--flows", str(FLOWS), "--mode", mode, "--timeout", "0.5", "-o", "json")
    said = json.loads(done.stdout)
    assert [row for row in said["lines"] if not row["holds"]] == []
    assert done.status == 0
    assert {row["service"] for row in said["lines"]} == ids(mode) - set(OTHERWISE)
    assert {row["expected"].partition(":")[2][:4] for row in said["lines"] if row["service"] == "CIP-4"} <= {"8443"}
    skipped = dict(each.split(": ", 1) for each in said["skipped"])
    assert skipped.keys() == ids(mode) & set(OTHERWISE)
    assert [name for name, why in skipped.items() if OTHERWISE[name] not in why or "plays it" not in why] == []
    assert "flow-" not in lab.command("get", "services").stdout


def test_what_is_no_flow_is_refused_by_line(lab: RunningLab, tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    path.write_text('{"id": "X", "service": {}}\n')
    done = lab.command("truth-table", "--flows", str(path))
    assert done.status == 2
    assert "--flows, line 1: a packet flow; it lacks endpoints, from" in done.stderr
    path.write_text(FLOWS.read_text().replace('"from": "outside"', '"from": "mars"', 1))
    done = lab.command("truth-table", "--flows", str(path))
    assert (done.status, "line 2: from: 'mars'" in done.stderr) == (2, True)
    path.write_text("no JSON\n")
    assert "one JSON object a line" in lab.command("truth-table", "--flows", str(path)).stderr
