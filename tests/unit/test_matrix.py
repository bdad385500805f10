"""The matrix: expected against measured, by tables; and what of it a terminal and a file get."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from mininetes.probes.matrix import Cell, Expectation, ReachabilityMatrix, Verdict
from mininetes.probes.outcomes import IcmpError, Outcome, Seen
from mininetes.probes.vantage import Flow, Vantage, all_pairs

YES, NO = Expectation(True, "the network model"), Expectation(False, "no fabric")


def pods(nodes: int, each: int) -> list[Vantage]:
    return [
        Vantage(f"node{n}-{i}", "pod", f"node{n}", f"10.244.{n}.{i + 1}", f"/run/netns/{n}-{i}")
        for n in range(1, nodes + 1)
        for i in range(1, each + 1)
    ]


def met(flow: Flow, seen: Seen = Seen.ANSWERED, **more: object) -> Outcome:
    answered = seen is Seen.ANSWERED
    return Outcome(flow, seen, 1 if answered else 2, int(answered), 50.0 if answered else None, **more)  # type: ignore[arg-type]


def shown(matrix: ReachabilityMatrix, width: int = 200, **options: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(matrix.table(**options))
    return text.getvalue()


FIRST, SECOND = pods(2, 1)
FLOW = Flow(FIRST, SECOND)


@pytest.mark.parametrize(
    ("seen", "expected", "verdict", "holds"),
    [
        (Seen.ANSWERED, YES, Verdict.REACHED, True),
        (Seen.ANSWERED, NO, Verdict.LEAKED, False),
        (Seen.NO_ANSWER, YES, Verdict.LOST, False),
        (Seen.NO_ANSWER, NO, Verdict.UNREACHED, True),
        (Seen.REFUSED, YES, Verdict.LOST, False),
        (Seen.REFUSED, NO, Verdict.UNREACHED, True),
        (Seen.UNREACHABLE, YES, Verdict.LOST, False),
        (Seen.UNREACHABLE, NO, Verdict.UNREACHED, True),
    ],
)
def test_verdicts(seen: Seen, expected: Expectation, verdict: Verdict, holds: bool) -> None:
    matrix = ReachabilityMatrix.compare([met(FLOW, seen)], lambda _: expected)
    assert matrix.cells[0].verdict is verdict
    assert matrix.holds is holds
    assert len(matrix.mismatches) == (not holds)
    assert matrix.counts() == {**{one.value: 0 for one in Verdict}, verdict.value: 1, "total": 1}


def test_a_mismatch_names_source_target_and_what_was_seen() -> None:
    icmp = IcmpError(3, 1, "10.244.1.1")
    lost = ReachabilityMatrix.compare([met(FLOW, Seen.UNREACHABLE, icmp=icmp)], lambda _: YES).mismatches[0]
    assert str(lost) == (
        "node1-1 -> node2-1 (10.244.2.2 icmp): expected an answer (the network model), "
        "saw unreachable: host unreachable (3/1) from 10.244.1.1 after 2 attempts"
    )
    leak = ReachabilityMatrix.compare([met(Flow(FIRST, SECOND, "tcp", 8080))], lambda _: NO).mismatches[0]
    assert str(leak) == "node1-1 -> node2-1 (10.244.2.2:8080/tcp): expected no answer (no fabric), saw answered"


def test_rows_go_through_json_and_come_back() -> None:
    outcomes = [met(f, seen) for f, seen in zip(all_pairs(pods(2, 2)), [*Seen] * 3, strict=True)]
    matrix = ReachabilityMatrix.compare(outcomes, lambda flow: YES if flow.source.node == flow.target.node else NO)
    rows = json.loads(json.dumps(matrix.rows()))
    assert {row["verdict"] for row in rows} == {one.value for one in Verdict}
    assert tuple(Cell(**{key: row[key] for key in row if key != "verdict"}) for row in rows) == matrix.cells
    text = json.dumps(matrix.packed())
    assert ReachabilityMatrix.unpacked(json.loads(text)) == matrix
    assert len(text) < len(json.dumps(rows)) / 2


def test_a_small_matrix_is_shown_one_by_one() -> None:
    outcomes = [met(f, Seen.ANSWERED if f.source.node == f.target.node else Seen.NO_ANSWER)
                for f in all_pairs(pods(2, 2))]  # fmt: skip
    matrix = ReachabilityMatrix.compare(outcomes, lambda flow: NO if flow.source.name == "node1-1" else YES)
    lines = [line for line in shown(matrix).splitlines() if "node" in line]
    assert len(lines) == 4
    assert lines[0].count("!") == 1
    assert lines[0].count("·") == 2
    assert lines[1].count("●") == 1
    assert lines[1].count("✗") == 2


@pytest.mark.parametrize(("nodes", "each", "first"), [(3, 11, "pods on node1"), (40, 1, "pods")])
def test_a_large_matrix_is_summed_up_and_stays_small(nodes: int, each: int, first: str) -> None:
    flows = all_pairs(pods(nodes, each))
    matrix = ReachabilityMatrix.compare([met(f) for f in flows[:-1]] + [met(flows[-1], Seen.NO_ANSWER)], lambda _: YES)
    text = shown(matrix)
    assert first in text
    assert "✗1" in text
    assert len(text.splitlines()) < 15


def test_thirty_by_thirty_fits_a_terminal() -> None:
    matrix = ReachabilityMatrix.compare([met(f) for f in all_pairs(pods(3, 10))], lambda _: YES)
    lines = shown(matrix, width=120).splitlines()
    assert sum("●" in line and "node" in line for line in lines) == 30
    assert all(line.count("●") in (0, 1, 29) for line in lines)


def test_nodes_the_outside_and_services_are_groups_of_their_own() -> None:
    ends = [
        *pods(3, 11),
        *(Vantage(f"node{n}", "node", f"node{n}", f"192.168.1.1{n}", "") for n in (1, 2, 3)),
        Vantage("client1", "outside", "", "203.0.113.2", ""),
    ]
    text = shown(ReachabilityMatrix.compare([met(f) for f in all_pairs(ends)], lambda _: YES))
    for group in ("pods on node2", "nodes", "outside"):
        assert group in text


def test_nothing_measured_is_an_empty_matrix() -> None:
    matrix = ReachabilityMatrix(())
    assert matrix.holds
    assert matrix.counts()["total"] == 0
    assert shown(matrix)
    assert matrix.rows() == []


def test_the_summary_counts() -> None:
    cells = ReachabilityMatrix.compare([met(FLOW), met(FLOW, Seen.NO_ANSWER)], lambda _: YES)
    assert cells.summary() == (
        "2 pairs: 1 reached, 0 unreached as expected, 1 mismatches (1 lost, 0 reached against expectation)"
    )
    assert ReachabilityMatrix.compare([met(FLOW)], lambda _: YES).summary().endswith("no mismatch")


def test_names_with_brackets_are_shown_as_they_are() -> None:
    odd = Vantage("[red]pod[/]", "pod", "node1", "10.0.0.1", "")
    assert "[red]pod[/]" in shown(ReachabilityMatrix.compare([met(Flow(odd, SECOND))], lambda _: YES))


def test_every_field_of_a_cell_is_plain() -> None:
    cell = ReachabilityMatrix.compare([met(FLOW)], lambda _: YES).cells[0]
    assert isinstance(cell, Cell)
    assert json.loads(json.dumps(ReachabilityMatrix((cell,)).rows()))[0]["rtt_us"] == 50.0
