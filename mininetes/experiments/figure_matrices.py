"""Matrices as figures: numbers by row and column, and who reaches whom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mininetes.experiments.figure_style import new_figure, style
from mininetes.experiments.results import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VERDICT_COLOURS = {"reached": "#2a9d4e", "unreached": "#d9d9d9", "lost": "#d62728", "leaked": "#ff9f1c", "": "#ffffff"}
VERDICT_MEANINGS = {
    "reached": "reached",
    "unreached": "not reached, as expected",
    "lost": "lost: expected and not reached",
    "leaked": "reached against expectation",
}


def heat_map(
    values: Mapping[tuple[str, str], float], title: str, *, xlabel: str = "to", ylabel: str = "from", unit: str = ""
) -> Figure:
    """Numbers by (row, column) as a heat map; they are written into it where there is room."""
    from matplotlib.colors import Normalize  # noqa: PLC0415

    rows = list(dict.fromkeys(row for row, _ in values))
    columns = list(dict.fromkeys(column for _, column in values))
    image = [[values.get((row, column), math.nan) for column in columns] for row in rows]
    low, high = min(values.values(), default=0), max(values.values(), default=1)
    with style():
        figure = new_figure(max(4.5, 0.42 * len(columns) + 2.2), max(3.2, 0.34 * len(rows) + 1.4))
        axes = figure.subplots()
        shown = axes.imshow(image, cmap="cividis", aspect="auto", norm=Normalize(low, high))
        figure.colorbar(shown, ax=axes, label=unit, shrink=0.8)
        if len(columns) <= 14:
            for y, line in enumerate(image):
                for x, value in enumerate(line):
                    if not math.isnan(value):
                        colour = "white" if value < (low + high) / 2 else "black"
                        axes.text(x, y, f"{value:,.3g}", ha="center", va="center", fontsize=7, color=colour)
        _name_cells(axes, rows, columns)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure


def _name_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    small = 8 if max(len(columns), len(rows)) <= 40 else 5
    axes.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > 6 else 0, fontsize=small)
    axes.set_yticks(range(len(rows)), rows, fontsize=small)
    axes.grid(visible=False)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def matrix(rows: Iterable[Row], title: str) -> Figure:
    """A reachability matrix of "reached" rows (labels source, target, verdict), coloured by verdict."""
    from matplotlib.colors import ListedColormap  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    verdicts = {}
    for row in rows:
        labels = row.measurement.labels
        verdicts[labels["source"], labels["target"]] = labels["verdict"]
    sources, targets = matrix_axes(verdicts)
    names = list(VERDICT_COLOURS)
    image = [[names.index(verdicts.get((source, target), "")) for target in targets] for source in sources]
    size = 0.28 * max(len(sources), len(targets))
    with style():
        figure = new_figure(max(5.0, size + 2.0), max(4.5, size + 2.0))
        axes = figure.subplots()
        colours = ListedColormap(list(VERDICT_COLOURS.values()))
        axes.imshow(image, cmap=colours, vmin=0, vmax=len(names) - 1, aspect="equal")
        _name_cells(axes, sources, targets)
        axes.tick_params(axis="x", rotation=90)
        axes.set_xticks([x - 0.5 for x in range(1, len(targets))], minor=True)
        axes.set_yticks([y - 0.5 for y in range(1, len(sources))], minor=True)
        axes.grid(visible=True, which="minor", color="white", linewidth=1)
        axes.tick_params(which="both", length=0)
        axes.set(title=title, xlabel="to", ylabel="from")
        seen = [name for name in VERDICT_MEANINGS if name in verdicts.values()]
        patches = [Patch(facecolor=VERDICT_COLOURS[name], label=VERDICT_MEANINGS[name]) for name in seen]
        figure.legend(handles=patches, loc="outside lower center", ncols=2)
    return figure


def matrix_axes(pairs: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Sources and targets of a matrix: what is both comes first in either, in the same order."""
    found = list(pairs)
    sources = list(dict.fromkeys(source for source, _ in found))
    targets = dict.fromkeys(target for _, target in found)
    return sources, list(dict.fromkeys([*(each for each in sources if each in targets), *targets]))
