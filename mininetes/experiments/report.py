"""Reports: results as one HTML page that needs nothing besides itself, with CSV and figures in the results' folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mininetes import __version__
from mininetes.errors import BadInput, MininetesError
from mininetes.experiments import context, report_files, report_reading, report_sections, results
from mininetes.experiments.report_assets import CSS, SCRIPT
from mininetes.experiments.report_markup import Markup, badge, joined, table, tag
from mininetes.experiments.report_sections import Part

PAGE = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing; a browser holds it to that."""


@dataclass(frozen=True)
class Reported:
    """What was written: the page, and what it says in sum."""

    page: Path
    experiments: int
    verdicts: Counter[str]
    failed: int
    saturated: int


def write(
    folders: Sequence[Path],
    out: Path | None,
    *,
    saturated: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Reported:
    """Make the page of these results, and CSV and figures beside each one's rows.

    Without ``out`` the page is report.html in the result's folder, or in the folder that holds all of several.
    Raises BadInput for what is no result, or from a newer version; MininetesError where the disk is full.
    """
    folders = list(dict.fromkeys(each for folder in folders for each in _results_in(folder)))
    page = out or _page_of(folders)
    if page.is_dir() or not page.resolve().parent.is_dir():
        raise BadInput("--out", str(page), "a file in a folder that there is")
    for folder in folders:
        context.read(folder)
    parts: list[Part] = []
    for folder in folders:
        progress(f"reading {folder}")
        told, rows = report_reading.read(folder, saturated=saturated)
        lines = report_files.summary(told)
        report_files.write(told, rows, lines)
        del rows
        parts.append(Part(told, lines, f"r{len(parts) + 1}", page.resolve().parent))
    _write(page, whole_page(parts))
    verdicts: Counter[str] = Counter(
        each.holds for part in parts if part.told.judgement for each in part.told.judgement.verdicts
    )
    runs = [run for part in parts for run in part.told.gathered.runs.values()]
    return Reported(
        page,
        len(parts),
        verdicts,
        sum(run.error is not None for run in runs),
        sum(run.error is None and run.is_saturated for run in runs),
    )


def _results_in(folder: Path) -> list[Path]:
    """The folder itself when it is a result, or the results in it. Raises BadInput when there is none."""
    if (folder / results.ROWS).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{results.ROWS}")) if folder.is_dir() else []
    if not found:
        raise BadInput("DIR", str(folder), f"a result (a folder with {results.ROWS}), or a folder with results in it")
    return found


def _page_of(folders: Sequence[Path]) -> Path:
    if len(folders) == 1:
        return folders[0] / PAGE
    return Path(os.path.commonpath([folder.resolve() for folder in folders])) / PAGE


def _write(page: Path, text: str) -> None:
    fresh = page.with_name(page.name + ".new")
    try:
        fresh.write_text(text)
        fresh.rename(page)
    except OSError as failed:
        raise MininetesError(f"{page} could not be written: {failed.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)


def whole_page(parts: Sequence[Part]) -> str:
    """The page as text."""
    title = parts[0].told.title if len(parts) == 1 else f"{len(parts)} experiments on an emulated Kubernetes network"
    head = [
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        Markup(f"<style>{CSS}</style>"),
    ]
    main = [
        *_opening(parts, title),
        *(report_sections.section(part) for part in parts),
        tag("footer", f"Made by Mininetes {__version__} from the results' rows alone. This page needs no network."),
    ]
    body = [
        _navigation(parts),
        tag("main", joined(main)),
        Markup('<div id="tip" role="status"></div>'),
        Markup(f"<script>{SCRIPT}</script>"),
    ]
    return f'<!DOCTYPE html>\n<html lang="en">\n{tag("head", joined(head))}\n{tag("body", joined(body))}\n</html>\n'


def _navigation(parts: Sequence[Part]) -> Markup:
    links: list[Markup] = [tag("b", "Mininetes report")]
    if _overview(parts):
        links.append(tag("a", "Overview", href="#overview"))
    for part in parts:
        links.append(tag("a", part.told.title, href=f"#{part.anchor}"))
        if len(parts) <= 3:
            links += [
                tag("a", title, href=f"#{anchor}", class_="part") for anchor, title in report_sections.contents(part)
            ]
    return tag("nav", joined(links))


def _opening(parts: Sequence[Part], title: str) -> list[Markup]:
    overview = _overview(parts)
    if len(parts) == 1:
        return []
    lead = (
        "What was published beside what was measured here. On one machine absolute figures mean little: what is held "
        "against the published results is their shape, as ratios and growth within one run."
    )
    return [
        tag("h1", title),
        tag("p", lead, class_="lead"),
        *([tag("div", overview, id="overview")] if overview else []),
    ]


def _overview(parts: Sequence[Part]) -> Markup:
    """All verdicts of all results in one table; empty where there is one result, or no verdict."""
    if len(parts) < 2:
        return Markup("")
    rows = []
    wrong = []
    for part in parts:
        for each in part.told.judgement.verdicts if part.told.judgement else []:
            name = tag("a", part.told.name, href=f"#{part.anchor}")
            rows.append([each.row, name, each.claim, each.published, each.measured, badge(each.holds)])
            wrong.append(each.holds == "no")
    if not rows:
        return Markup("")
    columns = ["Published result", "experiment", "claim", "published", "measured here", "holds"]
    return joined([tag("p", _tally(parts)), table(columns, rows, name="overview-table", wrong=wrong)])


def _tally(parts: Sequence[Part]) -> str:
    counts = Counter(each.holds for part in parts if part.told.judgement for each in part.told.judgement.verdicts)
    return (
        f"{sum(counts.values())} claims: {counts['yes']} hold, {counts['no']} do not, "
        f"{counts['not at this size']} cannot be told at this size."
    )
