"""What a report says about one result, section by section, as HTML."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mininetes.experiments import context, report_markup, results
from mininetes.experiments.figure_matrices import VERDICT_COLOURS, VERDICT_MEANINGS
from mininetes.experiments.published import VERDICTS, Published
from mininetes.experiments.report_files import ROWS_CSV, SUMMARY_CSV, Line
from mininetes.experiments.report_markup import Markup, Number, interval, joined, number, tag
from mininetes.experiments.report_reading import MOST_TOPOLOGIES, Matrix, Told, repeat_command
from mininetes.experiments.results import Run

MOST_LINES = 1500
MOST_MATRICES = 60
MOST_RUNS = 500
_KINDS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Part:
    """A result with its summary, and the name that its sections' anchors begin with."""

    told: Told
    lines: Sequence[Line]
    anchor: str
    page: Path
    """The folder in which the page will lie: links start from it."""

    def link(self, name: str, shown: str | None = None) -> Markup:
        """A link to one of the result's files."""
        where = os.path.relpath(self.told.folder / name, self.page)
        return tag("a", shown or name, href=quote(where))


def section(part: Part) -> Markup:
    """All about one result."""
    told = part.told
    head = [
        tag("h2", told.title, id=part.anchor),
        report_markup.paragraphs(told.experiment.description if told.experiment else ""),
        _facts(part),
        *(tag("p", note, class_="note") for note in told.notes),
    ]
    sections = (_titled(part, name, title, make(part)) for name, title, make in SECTIONS)
    return tag("section", joined([*head, *(each for each in sections if each)]))


def _titled(part: Part, name: str, title: str, inside: Markup) -> Markup:
    return joined([tag("h3", title, id=f"{part.anchor}-{name}"), inside]) if inside else Markup("")


def contents(part: Part) -> Iterator[tuple[str, str]]:
    """Anchors and titles of the sections that this result has."""
    for name, title, make in SECTIONS:
        if make(part):
            yield f"{part.anchor}-{name}", title


def _facts(part: Part) -> Markup:
    told = part.told
    runs = list(told.gathered.runs.values())
    failed = sum(run.error is not None for run in runs)
    saturated = sum(run.error is None and run.is_saturated for run in runs)
    same = told.same_everywhere()
    cells = told.gathered.cells()
    some = next(iter(cells.values()))[0].cell
    facts: list[tuple[str, str | None]] = [
        (f"{told.name}, in {told.folder.resolve().name}/", None),
        (f"answers: {told.context['experiment'].get('reproduces', '')}", None),
        (f"{_count(len(runs), 'run')} of {_count(len(cells), 'cell')}", None),
        *([(f"{failed} failed", "bad")] if failed else []),
        *([(f"{saturated} saturated: {'counted in' if told.saturated else 'left out'}", "warn")] if saturated else []),
        (f"{told.gathered.rows:,} rows", None),
        (f"started {str(told.context.get('started', ''))[:16].replace('T', ' ')} UTC", None),
        (f"took {_duration(told.context.get('duration_s'))}", None),
        (f"seed {told.context.get('seed')}", None),
        *[(f"{key}={some[key]}", None) for key in same],
    ]
    return tag("ul", joined(tag("li", words, class_=look) for words, look in facts), class_="facts")


def _count(number_of: int, what: str) -> str:
    return f"{number_of:,} {what}{'' if number_of == 1 else 's'}"


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)):
        return "an unknown time"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _verdicts(part: Part) -> Markup:
    judgement = part.told.judgement
    if judgement is None or not judgement.verdicts:
        return Markup("")
    rows = [(each.claim, each.published, each.measured, report_markup.badge(each.holds)) for each in judgement.verdicts]
    wrong = [each.holds == "no" for each in judgement.verdicts]
    found = report_markup.table(["Claim", "Published", "Measured here", "Holds"], rows, wrong=wrong, sorts=False)
    said = ""
    if judgement.saturated:
        said = "Runs in which the machine was too busy count in these verdicts."
    elif judgement.left_out:
        said = f"{_count(judgement.left_out, 'run')} in which the machine was too busy are left out."
    return joined([found, tag("p", said, class_="lead") if said else ""])


def _figures(part: Part) -> Markup:
    shown = []
    for name, svg in part.told.figures.items():
        if not svg:
            continue
        there = [kind for kind in _KINDS if (part.told.folder / f"{name}.{kind}").is_file()]
        links = joined((part.link(f"{name}.{kind}", kind.upper()) for kind in there), " ")
        picture = report_markup.svg_within(svg, f"{part.anchor}-{name}")
        caption = tag("figcaption", tag("span", name.replace("_", " ")), tag("span", links))
        shown.append(tag("figure", picture, caption))
    return tag("div", joined(shown), class_="figures") if shown else Markup("")


def _published(part: Part) -> Markup:
    experiment = part.told.experiment
    if experiment is None or not experiment.published:
        return Markup("")
    return joined(_published_table(each) for each in experiment.published)


def _published_table(published: Published) -> Markup:
    labels = list(dict.fromkeys(key for figure in published.figures for key in figure if key != "value"))
    rows = [
        [*(figure.get(key, "") for key in labels), _plain_number(figure["value"], published.unit)]
        for figure in published.figures
    ]
    table = report_markup.table([*labels, "value"], rows)
    return tag("details", tag("summary", f"{published.row} ({published.source})"), table)


def _plain_number(value: Any, unit: str) -> object:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number(float(value), unit) if is_number else value


def _summary(part: Part) -> Markup:
    told = part.told
    same = set(told.same_everywhere())
    lines = [line for line in part.lines if line.metric != "truth"]
    if not lines:
        return Markup("")
    parameters = [key for key in lines[0].cell if key not in same]
    labels = list(dict.fromkeys(key for line in lines for key in line.labels))
    tails = list(dict.fromkeys(key for line in lines for key in line.tails))
    lossy = any(line.lost for line in lines)
    rows = []
    for line in lines[:MOST_LINES]:
        middle = line.middle
        rows.append(
            [
                *(_parameter(line.cell.get(key)) for key in parameters),
                line.metric,
                *(_parameter(line.labels.get(key, "")) for key in labels),
                number(middle.value if middle else None, line.unit),
                interval(middle, line.unit),
                Number(str(line.repetitions), line.repetitions),
                *(number(line.tails.get(key), line.unit) for key in tails),
                Number(f"{line.values:,}", line.values),
                *([Number(f"{line.lost:,}", line.lost)] if lossy else []),
            ]
        )
    middles = ["median", "95 % interval", "runs"]
    columns = [*parameters, "metric", *labels, *middles, *tails, "values", *(["lost"] if lossy else [])]
    name = f"{part.anchor}-table"
    search = tag("input", type="search", placeholder="filter: words that a row must have", data_filters=name)
    more = f"The first {MOST_LINES:,} of {len(lines):,}; all are in the CSV. " if len(lines) > MOST_LINES else ""
    said = tag(
        "p",
        f"{more}Each repetition is reduced to its median (to its share where values are yes or no); the interval is "
        "by bootstrap over repetitions. Percentiles are of all values together.",
        class_="lead",
    )
    return joined([said, search if len(rows) > 6 else "", report_markup.table(columns, rows, name=name)])


def _parameter(value: Any) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Number(f"{value:,}" if isinstance(value, int) else f"{value:g}", float(value))
    return "" if value is None else value


def _matrices(part: Part) -> Markup:
    matrices = part.told.matrices
    if not matrices:
        return Markup("")
    seen = {name for matrix in matrices for name, count in matrix.counts().items() if count}
    legend = joined(
        tag("span", Markup(f'<i style="background:{VERDICT_COLOURS[name]}"></i>'), meaning)
        for name, meaning in VERDICT_MEANINGS.items()
        if name in seen
    )
    shown = [_matrix(matrix) for matrix in matrices[:MOST_MATRICES]]
    more = f"The first {MOST_MATRICES} of {len(matrices)}." if len(matrices) > MOST_MATRICES else ""
    return joined(
        [
            tag("div", legend, class_="legend"),
            tag("p", more) if more else "",
            tag("div", joined(shown), class_="matrices"),
        ]
    )


def _matrix(matrix: Matrix) -> Markup:
    sources, targets, codes = matrix.table()
    data = json.dumps({"sources": sources, "targets": targets, "codes": base64.b64encode(codes).decode()})
    counts = matrix.counts()
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    picture = tag(
        "div",
        tag("canvas", class_="matrix", role="img", aria_label=f"{matrix.title}: {said}"),
        Markup(f'<script type="application/json">{_in_script(data)}</script>'),
        class_="heat",
    )
    caption = tag("figcaption", tag("span", matrix.title), tag("span", f"from rows to columns: {said}"))
    wrong: Markup | str = ""
    if matrix.mismatches:
        more = f" (the first {len(matrix.mismatches)})" if matrix.wrong > len(matrix.mismatches) else ""
        wrong = tag(
            "details",
            tag("summary", f"{_count(matrix.wrong, 'answer')} against expectation{more}"),
            tag("ul", joined(tag("li", each) for each in matrix.mismatches)),
        )
    return tag("figure", picture, caption, wrong)


def _in_script(data: str) -> str:
    """JSON that cannot end the script element that it stands in."""
    return data.replace("<", "\\u003c")


def _truth(part: Part) -> Markup:
    told = part.told
    if not told.truth:
        return Markup("")
    columns = [key for key in dict.fromkeys(key for row in told.truth for key in row) if key != "holds"]
    rows = [
        [*(row.get(key, "") for key in columns), "as it must be" if row["holds"] else "WRONG"] for row in told.truth
    ]
    wrong = [not row["holds"] for row in told.truth]
    more = f", of which {len(rows):,} are shown" if told.truth_rows > len(rows) else ""
    name = f"{part.anchor}-truth-table"
    return joined(
        [
            tag("p", f"{told.truth_rows:,} questions{more}; {sum(wrong)} with another answer than they must have."),
            tag("input", type="search", placeholder="filter: words that a row must have", data_filters=name),
            report_markup.table([*columns, "verdict"], rows, name=name, wrong=wrong),
        ]
    )


def _runs(part: Part) -> Markup:
    runs = list(part.told.gathered.runs.items())
    bad = [run for _, run in runs if run.error is not None or run.is_saturated]
    if not bad:
        return Markup("")
    rows = [
        (part.told.called(run.cell), Number(str(run.repetition), run.repetition), *_how(run)) for run in bad[:MOST_RUNS]
    ]
    more = f" (the first {MOST_RUNS} of {len(bad)})" if len(bad) > MOST_RUNS else ""
    table = report_markup.table(
        ["cell", "repetition", "what", "why"], rows, wrong=[run.error is not None for run in bad]
    )
    return tag("details", tag("summary", f"{_count(len(bad), 'run')} of {len(runs)}{more}"), table, open="")


def _how(run: Run) -> tuple[str, str]:
    if run.error is not None:
        return "failed", run.error
    return "saturated", "; ".join(map(str, run.fidelity.get("why", []))) or "the machine did not keep up"


def _topologies(part: Part) -> Markup:
    found = part.told.topologies
    shown = [
        tag("figure", report_markup.svg_within(svg, f"{part.anchor}-t{place}"), tag("figcaption", tag("span", names)))
        for place, (names, svg) in enumerate(found[:MOST_TOPOLOGIES])
    ]
    if not shown:
        return Markup("")
    more = f"The first {MOST_TOPOLOGIES} of {len(found)} different clusters." if len(found) > MOST_TOPOLOGIES else ""
    figures = tag("div", joined(shown[:1]), class_="topologies")
    if len(shown) > 1:
        rest = tag("details", tag("summary", f"{_count(len(shown) - 1, 'more cluster')}"), joined(shown[1:]))
        figures = tag("div", joined([shown[0], rest]), class_="topologies")
    return joined([tag("p", more) if more else "", figures])


def _ran_on(part: Part) -> Markup:
    facts = part.told.context
    cpu, kernel, own = facts.get("cpu", {}), facts.get("kernel", {}), facts.get("mininetes", {})
    load = facts.get("load", {})
    short = {
        "kernel": f"{kernel.get('release')} {kernel.get('machine', '')}",
        "CPU": f"{cpu.get('count')} x {cpu.get('model')}{' (virtual)' if cpu.get('virtual') else ''}",
        "memory": f"{facts['memory_bytes'] / 2**30:.1f} GiB" if "memory_bytes" in facts else "unknown",
        "Mininetes": f"{own.get('version')}, commit {own.get('commit') or 'unknown'}"
        + (" with changes that are not committed" if own.get("dirty") else ""),
        "Python": facts.get("python", "unknown"),
        "as root": "yes" if facts.get("root") else "no",
        "load": f"{_loads(load.get('before'))} before, {_loads(load.get('after'))} after (1, 5, 15 min)",
        "starts": len(facts.get("starts", [])) or 1,
    }
    groups: Mapping[str, Any] = {
        "CPU mitigations": cpu.get("mitigations"),
        "sysctls": facts.get("sysctls"),
        "tools": facts.get("tools"),
        "packages": {**facts.get("packages", {}), **facts.get("system_packages", {})},
        "parts by sha256": facts.get("parts"),
    }
    more = (
        tag("details", tag("summary", name), report_markup.definitions(_said(group)))
        for name, group in groups.items()
        if group
    )
    return joined([report_markup.definitions(short), *more])


def _said(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: "not here" if value is None else str(value) for name, value in facts.items()}


def _loads(values: Any) -> str:
    return " ".join(f"{each:.2f}" for each in values) if isinstance(values, list) else "unknown"


def _repeat(part: Part) -> Markup:
    facts = part.told.context.get("mininetes", {})
    name = f"{part.anchor}-command"
    command = repeat_command(part.told)
    if facts.get("commit"):
        command = f"git checkout {facts['commit']}\n{command}"
    dirty = (
        "The tree had changes then that no commit has; the hashes below tell which files. "
        if facts.get("dirty")
        else ""
    )
    said = f"{dirty}The same seed gives the same runs in the same order."
    return joined(
        [
            tag("p", said, class_="lead"),
            tag("pre", tag("button", "copy", data_copies=name), tag("span", command, id=name)),
        ]
    )


def _data(part: Part) -> Markup:
    files = {
        SUMMARY_CSV: "medians, intervals and percentiles by cell, metric and condition",
        ROWS_CSV: "every value, with parameters and labels as columns",
        results.ROWS: "the rows as they were written, JSON lines",
        context.CONTEXT: "what it ran on",
        VERDICTS: "the verdicts",
    }
    there = [(name, words) for name, words in files.items() if (part.told.folder / name).is_file()]
    return tag("ul", joined(tag("li", part.link(name), f": {words}") for name, words in there))


SECTIONS: Sequence[tuple[str, str, Callable[[Part], Markup]]] = (
    ("verdicts", "Published and measured", _verdicts),
    ("figures", "Figures", _figures),
    ("published", "The published figures", _published),
    ("summary", "Measured values", _summary),
    ("matrices", "Who reaches whom", _matrices),
    ("truth", "What services do for whom", _truth),
    ("runs", "Failed and saturated runs", _runs),
    ("topology", "Topology", _topologies),
    ("context", "What it ran on", _ran_on),
    ("repeat", "How to repeat it", _repeat),
    ("data", "Data", _data),
)
