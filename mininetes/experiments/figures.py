"""Figures fit for a paper, from rows or values alone, so that each can be drawn again from the files.

Where a function takes ``values[series][x]``, each entry is a list of values (one for each repetition: their
median is drawn with its 95 % bootstrap interval), an `Interval`, or a plain number. `grouping.series` makes
such tables from rows, `of_published` from published figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mininetes.experiments.figure_matrices import heat_map, matrix
from mininetes.experiments.figure_style import MARKS, WIDTH_IN, colours_of, new_figure, save, style
from mininetes.experiments.statistics import Interval, bootstrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Spread: TypeAlias = "Interval | Sequence[float | None] | float"
Table: TypeAlias = Mapping[str, Mapping[Any, Spread]]

__all__ = ["Spread", "Table", "bars", "distribution", "heat_map", "lines", "matrix", "of_published", "save"]

_MOST_POINTS = 400
"""Of a distribution's curve: more than a page can show."""


def _interval(spread: Spread) -> Interval | None:
    """What is drawn for an entry; None where nothing was measured."""
    if isinstance(spread, Interval):
        return spread
    if isinstance(spread, (int, float)):
        return Interval(float(spread), math.nan, math.nan)
    values = [each for each in spread if each is not None]
    return bootstrap(values) if values else None


def _points(entries: Mapping[Any, Spread], *, relative: bool = False, first: Any = None) -> dict[Any, Interval]:
    found = {x: known for x, spread in entries.items() if (known := _interval(spread)) is not None}
    if not relative or not found:
        return found
    base = found[first].value if first in found else next(iter(found.values())).value
    base = base or math.nan
    return {x: Interval(at.value / base, at.low / base, at.high / base) for x, at in found.items()}


def _first_common(tables: Iterable[Mapping[Any, Spread]]) -> Any:
    """The smallest x that all lines have, or at least one of them; None where there is nothing."""
    found = [set(entries) for entries in tables if entries]
    if not found:
        return None
    return min(set.intersection(*found) or set.union(*found))


def _repetitions(values: Table) -> str:
    counts = {
        len(spread)
        for entries in values.values()
        for spread in entries.values()
        if not isinstance(spread, (Interval, int, float))
    }
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    many = f"{least} to {most}" if least != most else str(most)
    return f"median of {many} repetition{'s' if most > 1 else ''}" + (", 95 % bootstrap interval" if most > 1 else "")


def _legend(figure: Figure, axes: Axes, note: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        names = axes.get_legend_handles_labels()[1]
        figure.legend(loc="outside lower center", ncols=min(4, len(names)))
    else:
        axes.text(0.5, 0.5, "nothing was measured", ha="center", va="center", transform=axes.transAxes)
    if note:
        axes.text(1, 1.01, note, ha="right", va="bottom", transform=axes.transAxes, fontsize=7, color="#666666")


def of_published(
    figures: Iterable[Mapping[str, Any]], name: str, x: str, *, where: Mapping[str, Any] | None = None
) -> dict[str, dict[Any, float]]:
    """Published figures (``Published.figures``: labels and ``value``) as ``values[series][x]``."""
    found: dict[str, dict[Any, float]] = {}
    for each in figures:
        if not where or all(each.get(key) == wanted for key, wanted in where.items()):
            found.setdefault(str(each.get(name)), {})[each.get(x)] = each["value"]
    return found


def lines(
    values: Table,
    title: str,
    xlabel: str,
    ylabel: str,
    *,
    published: Mapping[str, Mapping[Any, float]] | None = None,
    log_x: bool = True,
    log_y: bool = False,
    relative: bool = False,
    note: str = "",
) -> Figure:
    """Lines with interval bands over a numeric axis, ``values[series][x]``; published ones dashed, in the same colours.

    ``relative`` divides each line by its own value at the first x that all have, which lets shapes be compared
    where absolute figures mean little. A logarithmic axis becomes a linear one where something is not above 0.
    """
    published = published or {}
    first = _first_common([*values.values(), *published.values()]) if relative else None
    measured = {name: _points(entries, relative=relative, first=first) for name, entries in values.items()}
    known = {name: _points(entries, relative=relative, first=first) for name, entries in published.items()}
    colours = colours_of([*measured, *known])
    with style():
        figure = new_figure()
        axes = figure.subplots()
        for place, (name, points) in enumerate(measured.items()):
            if points:
                _line(axes, name, points, colours[name], MARKS[place % len(MARKS)])
        for name, points in known.items():
            if points:
                y = [at.value for at in points.values()]
                look: dict[str, Any] = {
                    "color": colours[name],
                    "markerfacecolor": "white",
                    "linestyle": (0, (4, 2)),
                    "linewidth": 1.1,
                }
                axes.plot(list(points), y, marker="o", label=f"{name} (published)", **look)
        everything = [points for points in (*measured.values(), *known.values()) if points]
        xs = sorted({x for points in everything for x in points})
        if log_x and xs and xs[0] > 0:
            _logarithmic(axes, "x")
        if log_y and everything and min(at.value for points in everything for at in points.values()) > 0:
            _logarithmic(axes, "y")
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(f"{ylabel}, relative to that at {first:,g}" if first is not None else ylabel)
        if 0 < len(xs) <= 8:
            axes.set_xticks(xs, [f"{x:,g}" for x in xs])
            axes.set_xticks([], minor=True)
        else:
            axes.xaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_major_formatter("{x:,g}")
        _legend(figure, axes, note or _repetitions(values))
    return figure


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """Powers of ten with 2 and 5 between them, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415

    if which == "x":
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(LogLocator(subs="all"))
    axis.set_minor_formatter(NullFormatter())


def _within_sight(axes: Axes, values: Sequence[float], published: Mapping[str, Mapping[Any, float]]) -> None:
    """Let an interval leave the figure rather than press everything else flat."""
    highest = max([*values, *(value for points in published.values() for value in points.values())], default=0.0)
    if highest > 0 and axes.get_ylim()[1] > 2.5 * highest:
        axes.set_ylim(top=2.5 * highest)


def _line(axes: Axes, name: str, points: Mapping[Any, Interval], colour: str, mark: str) -> None:
    xs = list(points)
    axes.plot(xs, [at.value for at in points.values()], marker=mark, color=colour, label=name)
    low = [at.low if at.known else at.value for at in points.values()]
    high = [at.high if at.known else at.value for at in points.values()]
    axes.fill_between(xs, low, high, color=colour, alpha=0.18, linewidth=0)


def bars(
    values: Table,
    title: str,
    ylabel: str,
    *,
    published: Mapping[str, Mapping[Any, float]] | None = None,
    log_y: bool = False,
    xlabel: str = "",
    note: str = "",
) -> Figure:
    """Grouped bars with intervals: a group for each x of ``values[series][x]``; published values as white diamonds."""
    published = published or {}
    measured = {name: _points(entries) for name, entries in values.items()}
    groups = list(dict.fromkeys(x for points in (*values.values(), *published.values()) for x in points))
    names = list(dict.fromkeys([*measured, *published]))
    colours = colours_of(names)
    width = 0.8 / max(1, len(names))
    with style():
        figure = new_figure(max(WIDTH_IN, 0.35 * len(groups) * max(1, len(names)) + 1.5))
        axes = figure.subplots()
        for place, name in enumerate(names):
            shift = (place - (len(names) - 1) / 2) * width
            points = measured.get(name, {})
            at = [groups.index(x) + shift for x in points]
            tops = [each.value for each in points.values()]
            ends = [[each.value - each.low if each.known else 0.0 for each in points.values()],
                    [each.high - each.value if each.known else 0.0 for each in points.values()]]  # fmt: skip
            if at:
                axes.bar(at, tops, width * 0.92, label=name, color=colours[name])
                axes.errorbar(at, tops, yerr=ends, fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
            known = published.get(name, {})
            if known:
                edge: dict[str, Any] = {"markeredgecolor": "#222222", "markerfacecolor": "white", "markersize": 6}
                label = "published" if name == next(iter(published)) else None
                axes.plot([groups.index(x) + shift for x in known], list(known.values()), "D", label=label, **edge)
        if log_y and all(each.value > 0 for points in measured.values() for each in points.values()):
            _logarithmic(axes, "y")
        else:
            _within_sight(axes, [each.value for points in measured.values() for each in points.values()], published)
        axes.set_xticks(range(len(groups)), [str(group) for group in groups])
        if sum(len(str(group)) for group in groups) > 70:
            axes.tick_params(axis="x", rotation=30)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        _legend(figure, axes, note or _repetitions(values))
    return figure


def distribution(
    groups: Mapping[str, Sequence[float]], title: str, xlabel: str, *, unit: str = "µs", log_x: bool = True
) -> Figure:
    """Cumulative distributions of the groups' values, with the median of each marked and named."""
    import numpy as np  # noqa: PLC0415

    colours = colours_of(groups)
    with style():
        figure = new_figure()
        axes = figure.subplots()
        least = math.inf
        for name, values in groups.items():
            ordered = np.sort(np.asarray([each for each in values if each is not None], dtype=float))
            if not ordered.size:
                continue
            least = min(least, float(ordered[0]))
            shown = min(ordered.size, _MOST_POINTS)
            places = np.unique(np.linspace(0, ordered.size - 1, shown).round().astype(int))
            median = float(np.median(ordered))
            label = f"{name}: median {median:,.4g} {unit}, n = {ordered.size:,}"
            axes.step(ordered[places], (places + 1) / ordered.size, where="post", label=label, color=colours[name])
            axes.plot([median], [0.5], "o", color=colours[name])
        if log_x and 0 < least < math.inf:
            _logarithmic(axes, "x")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_ylim(0, 1.02)
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("part of the values")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right")
        else:
            axes.text(0.5, 0.5, "nothing was measured", ha="center", transform=axes.transAxes)
    return figure
