"""Reports from made-up results: what the page and the files beside it say, and results that give none."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mininetes import parts
from mininetes.cli.main import cli
from mininetes.errors import BadInput, MininetesError
from mininetes.experiments import report, report_markup
from mininetes.experiments.report_reading import read, repeat_command
from mininetes.experiments.results import Measurement, Row
from tests.unit import made_experiment
from tests.unit.made_results import CONTEXT, latency_rows, run_end, write_result

CELL = {"mode": "iptables"}
UNCLOSED = {"meta", "input", "br", "link", "img"}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Path]:
    with made_experiment.result(tmp_path) as folder:
        yield folder


class Balanced(HTMLParser):
    """Reads a page and fails where an element is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in UNCLOSED:
            self.open.append(tag)
        facts = dict(attrs)
        self.names += [value for key, value in attrs if key == "id" and value]
        self.links += [str(facts[key]) for key in ("href", "src", "xlink:href") if facts.get(key)]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in UNCLOSED:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()


def parsed(page: Path) -> Balanced:
    reader = Balanced()
    reader.feed(page.read_text())
    assert reader.open == []
    return reader


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_says_all_that_a_reader_asks(made: Path) -> None:
    done = report.write([made], None)
    text = done.page.read_text()
    assert done.page == made / "report.html"
    assert (done.failed, done.saturated, dict(done.verdicts)) == (1, 1, {"yes": 1, "no": 1, "not at this size": 1})
    for words in (
        "<h2 id=\"r1\">First packets of services, made up.</h2>",
        "nftables is flat", "1.01 [0.97, 1.05]", "not at this size", "a figure that somebody drew",
        "42 runs of 4 cells", "1 failed", "1 saturated: left out", "the lab &lt;died&gt;", "nodes=3",
        "192.168.1.13", "pod network 10.244.0.0/16", "Some CPU", "6.1.0", "meltdown",
        "git checkout 0123abcd\nmininetes run made --seed 7", "rows.csv", "context.json",
        "12 questions; 4 with another answer", "2 refused, not answered",
    ):  # fmt: skip
        assert words in text, words


def test_the_page_needs_nothing_besides_itself(made: Path) -> None:
    page = report.write([made], None).page
    links = parsed(page).links
    assert [each for each in links if re.match(r"[a-z]+:|//", each)] == []
    assert all((made / each).is_file() for each in links if not each.startswith("#"))
    text = re.sub(r'xmlns(:\w+)?="[^"]+"|"http://www.w3.org[^"]*"', "", page.read_text())
    assert re.findall(r"https?://|@import|src=|<link", text) == []
    assert "default-src 'none'" in text


def test_anchors_lead_somewhere_and_names_are_there_once(made: Path, tmp_path: Path) -> None:
    other = made_experiment.write(tmp_path / "other")
    page = parsed(report.write([made, other], tmp_path / "both.html").page)
    assert len(page.names) == len(set(page.names))
    anchors = [each[1:] for each in page.links if each.startswith("#")]
    assert len(anchors) > 20
    assert [each for each in anchors if each not in page.names] == []


def test_what_results_say_is_escaped(made: Path) -> None:
    text = report.write([made], None).page.read_text()
    assert "<i>nothing</i>" not in text
    assert "&lt;i&gt;nothing&lt;/i&gt;" in text
    assert "<b>as they are</b>" not in text
    name = "</script><script>alert(1)</script>"
    rows = [
        Row("made", CELL, 0, Measurement("reached", 1.0, "bool", {"source": name, "target": "x", "verdict": "reached"}))
    ]
    evil = write_result(made.parent / "evil", [*rows, run_end(CELL, 0, rows=1)])
    assert "</script><script>alert" not in report.write([evil], None).page.read_text()


def test_several_results_have_one_table_of_verdicts_and_their_own_sections(made: Path, tmp_path: Path) -> None:
    made_experiment.write(tmp_path / "all" / "one")
    made_experiment.write(tmp_path / "all" / "two")
    done = report.write([tmp_path / "all"], None)
    text = done.page.read_text()
    assert done.page == tmp_path / "all" / "report.html"
    assert done.experiments == 2
    assert "6 claims: 2 hold, 2 do not, 2 cannot be told at this size." in text
    assert 'href="one/rows.csv"' in text
    assert 'href="two/first_packet.pdf"' in text


def test_rows_become_csv_with_a_column_for_each_parameter_and_label(made: Path) -> None:
    report.write([made], None)
    rows = table(made / "rows.csv")
    assert len(rows) == 4 * (10 * 31 + 10 * 12 + 3)
    first = rows[0]
    assert (first["mode"], first["services"], first["metric"], first["unit"]) == ("iptables", "1000", "first_us", "us")
    assert first["counts"] == "yes"
    assert float(first["value"]) > 0
    assert first["path"] == "cross node"
    assert rows[30]["value"] == ""
    truth = next(row for row in rows if row["metric"] == "truth")
    assert (truth["label.mode"], truth["service"]) == ("iptables", "default/web0")


def test_the_summary_is_what_can_be_reckoned_from_the_rows(made: Path) -> None:
    report.write([made], None)
    values: dict[tuple[str, str], list[float]] = {}
    for row in table(made / "rows.csv"):
        if row["metric"] == "first_us" and row["value"] and (row["mode"], row["services"]) == ("iptables", "10000"):
            values.setdefault((row["mode"], row["repetition"]), []).append(float(row["value"]))
    medians = sorted(sorted(each)[14] / 2 + sorted(each)[15] / 2 for each in values.values())
    (line,) = [
        row for row in table(made / "summary.csv")
        if (row["mode"], row["services"], row["metric"]) == ("iptables", "10000", "first_us")
    ]  # fmt: skip
    assert float(line["median"]) == pytest.approx((medians[4] + medians[5]) / 2)
    assert medians[0] <= float(line["low_95"]) < float(line["median"]) < float(line["high_95"]) <= medians[-1]
    assert (line["repetitions"], line["values"], line["lost"]) == ("10", "300", "10")
    assert float(line["p50"]) < float(line["p90"]) < float(line["p99"])


def test_figures_are_there_for_paper_and_page(made: Path) -> None:
    text = report.write([made], None).page.read_text()
    assert (made / "first_packet.png").read_bytes().startswith(b"\x89PNG")
    assert (made / "first_packet.pdf").read_bytes().startswith(b"%PDF")
    assert "iptables (published)" in (made / "first_packet.svg").read_text()
    assert "iptables (published)" in text


def test_the_same_rows_give_the_same_report_byte_for_byte(made: Path) -> None:
    files = ("report.html", "rows.csv", "summary.csv", "first_packet.png", "first_packet.svg", "first_packet.pdf")
    report.write([made], None)
    before = {name: (made / name).read_bytes() for name in files}
    report.write([made], None)
    assert [name for name in files if (made / name).read_bytes() != before[name]] == []


def test_without_the_experiments_file_what_its_run_left_is_shown(made: Path) -> None:
    report.write([made], None)
    parts.use([])
    text = report.write([made], None).page.read_text()
    assert "No experiment made is here" in text
    assert "iptables (published)" in text
    assert "nftables is flat" in text


def test_a_file_that_fails_today_does_not_hide_what_was_measured(made: Path) -> None:
    report.write([made], None)
    file = made.parent / "parts" / "experiments" / "made.py"
    file.write_text(file.read_text().replace("def plot(rows):", "def plot(rows):\n    1 / 0"))
    text = report.write([made], None).page.read_text()
    assert "ZeroDivisionError" in text
    assert "iptables (published)" in text


def test_saturated_runs_count_when_asked_for_or_when_there_are_no_others(made: Path) -> None:
    assert "1 saturated: counted in" in report.write([made], None, saturated=True).page.read_text()
    busy = write_result(made.parent / "busy", latency_rows(CELL, verdict="saturated"))
    text = report.write([busy], None).page.read_text()
    assert "10 saturated: counted in" in text
    assert "In every run of some cells the machine was too busy" in text


def test_a_result_of_failed_runs_alone_still_has_a_report(made: Path) -> None:
    failed = write_result(made.parent / "failed", [run_end(CELL, 0, "failed", "it did not come up")])
    assert "it did not come up" in report.write([failed], None).page.read_text()


def test_how_to_repeat_it_says_what_was_set(made: Path) -> None:
    told, _ = read(made)
    assert repeat_command(told) == "mininetes run made --seed 7"
    declared = {**told.context["experiment"], "parameters": {"mode": ["ipvs"], "services": [5, 6], "nodes": [3]}}
    told.context = {**told.context, "experiment": {**declared, "repetitions": 3}}
    assert repeat_command(told) == "mininetes run made --seed 7 --set mode=ipvs --set services=5,6 --repetitions 3"


def newer(folder: Path) -> None:
    (folder / "context.json").write_text(json.dumps({**CONTEXT, "schema": 99}))


def no_context(folder: Path) -> None:
    (folder / "context.json").unlink()


def no_row(folder: Path) -> None:
    with (folder / "rows.jsonl").open("a") as file:
        file.write("{}\n")


def no_rows(folder: Path) -> None:
    (folder / "rows.jsonl").write_text("")


def nothing(folder: Path) -> None:
    (folder / "rows.jsonl").unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (newer, "newer Mininetes"),
        (no_context, "context.json"),
        (no_row, "rows.jsonl:"),
        (no_rows, "has none yet"),
        (nothing, "a folder with rows.jsonl"),
    ],
)
def test_what_is_no_result_is_refused_and_leaves_no_page(made: Path, spoil: Any, named: str) -> None:
    spoil(made)
    with pytest.raises(BadInput, match=named):
        report.write([made], None)
    assert not (made / "report.html").exists()


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(made: Path) -> None:
    with pytest.raises(BadInput, match="--out"):
        report.write([made], made / "nowhere" / "page.html")
    with pytest.raises(BadInput, match="--out"):
        report.write([made], made)


def test_a_full_disk_is_one_error_and_keeps_the_page_before(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = report.write([made], None).page
    before = page.read_text()

    def full(path: Path, text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(MininetesError, match="No space left"):
        report.write([made], None)
    assert page.read_text() == before


def test_the_command_says_where_the_page_is(made: Path) -> None:
    done = CliRunner().invoke(
        cli, ["--parts", str(made.parent / "parts"), "report", str(made), "-o", "json"], standalone_mode=False
    )
    assert done.exception is None, done.exception
    said = json.loads(done.output)
    assert said["page"] == str(made / "report.html")
    assert said["verdicts"] == {"yes": 1, "no": 1, "not at this size": 1}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.12345, "0.1235"),
        (1, "1"),
        (12.345, "12.35"),
        (12345.6, "12,346"),
        (1e-7, "1e-07"),
        (2.5e12, "2.5e+12"),
    ],
)
def test_numbers_have_four_digits_that_count(value: float, shown: str) -> None:
    assert report_markup.short(value) == shown


A_MILLION = """
import resource, sys
from pathlib import Path
from mininetes.experiments import report
report.write([Path(sys.argv[1])], None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_many_rows_are_read_and_reported_in_little_memory(tmp_path: Path) -> None:
    """A tenth of a million rows here; a million take ten times what these take above an empty report."""

    def mebibytes(rows: int) -> int:
        probes = rows // 20
        result = write_result(tmp_path / str(rows), latency_rows(CELL, repetitions=10, probes=probes))
        command = [sys.executable, "-c", A_MILLION, str(result)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    few, many = mebibytes(200), mebibytes(100_000)
    assert few + 10 * (many - few) < 1024
