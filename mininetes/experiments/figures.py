"""Drawing results: from rows alone, so that a figure can be made again from the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mininetes.experiments.results import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"reached": "#2a9d4e", "unreached": "#d9d9d9", "lost": "#d62728", "leaked": "#ff9f1c", "": "#ffffff"}
_MEANINGS = {
    "reached": "reached",
    "unreached": "not reached, as expected",
    "lost": "lost: expected and not reached",
    "leaked": "reached against expectation",
}


def _figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes half a second

    return Figure(figsize=(width_in, height_in), layout="constrained")


def matrix(rows: Iterable[Row], title: str) -> Figure:
    """A reachability matrix of "reached" rows (labels source, target, verdict), coloured by verdict."""
    from matplotlib.colors import ListedColormap  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    verdicts = {}
    for row in rows:
        labels = row.measurement.labels
        verdicts[labels["source"], labels["target"]] = labels["verdict"]
    sources = list(dict.fromkeys(source for source, _ in verdicts))
    targets = list(
        dict.fromkeys([*(s for s in sources if any(t == s for _, t in verdicts)), *(t for _, t in verdicts)])
    )
    names = list(_COLOURS)
    image = [[names.index(verdicts.get((source, target), "")) for target in targets] for source in sources]
    size = 0.28 * max(len(sources), len(targets))
    figure = _figure(max(5.0, size + 2.0), max(4.5, size + 2.0))
    axes = figure.subplots()
    axes.imshow(image, cmap=ListedColormap(list(_COLOURS.values())), vmin=0, vmax=len(names) - 1, aspect="equal")
    small = 8 if len(targets) <= 40 else 5
    axes.set_xticks(range(len(targets)), targets, rotation=90, fontsize=small)
    axes.set_yticks(range(len(sources)), sources, fontsize=small)
    axes.set_xticks([x - 0.5 for x in range(1, len(targets))], minor=True)
    axes.set_yticks([y - 0.5 for y in range(1, len(sources))], minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set(title=title, xlabel="to", ylabel="from")
    seen = [name for name in _MEANINGS if name in verdicts.values()]
    patches = [Patch(facecolor=_COLOURS[name], label=_MEANINGS[name]) for name in seen]
    figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def distribution(groups: Mapping[str, Sequence[float]], title: str, xlabel: str) -> Figure:
    """Cumulative distributions of the groups' values, with the median of each marked and named."""
    figure = _figure(6.0, 4.0)
    axes = figure.subplots()
    for name, values in groups.items():
        ordered = sorted(values)
        if not ordered:
            continue
        parts = [(place + 1) / len(ordered) for place in range(len(ordered))]
        median = ordered[len(ordered) // 2]
        (line,) = axes.step(ordered, parts, where="post", label=f"{name}: median {median:.1f} µs, n = {len(ordered)}")
        axes.plot([median], [0.5], "o", color=line.get_color(), markersize=5)
    axes.set(title=title, xlabel=xlabel, ylabel="part of the probes", ylim=(0, 1.02))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, which="both", alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)
    else:
        axes.text(0.5, 0.5, "nothing was measured", ha="center", transform=axes.transAxes)
    return figure


def save(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG; return the paths of the PNGs."""
    paths = []
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg")
        figure.savefig(folder / f"{name}.png", dpi=130)
        paths.append(folder / f"{name}.png")
    return paths
