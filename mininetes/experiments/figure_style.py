"""How every figure looks, and how it is written: the same for paper and page, and alike for the same values."""

from __future__ import annotations

import contextlib
import io
import itertools
import multiprocessing
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mininetes.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#666666")
"""Colours that colour-blind readers can tell apart (after Okabe and Ito), dark enough for print."""
_OF_NAME = {
    "iptables": "#0072b2", "iptables-nft": "#0072b2", "iptables-legacy": "#56b4e9", "nftables": "#d55e00",
    "ipvs": "#009e73", "userspace": "#cc79a7", "static": "#0072b2", "router": "#56b4e9", "host-gw": "#009e73",
    "vxlan": "#d55e00", "weave": "#cc79a7", "bare": "#444444", "direct": "#444444", "same node": "#0072b2",
    "cross node": "#d55e00",
}  # fmt: skip
"""The same thing has the same colour in every figure."""
MARKS = "osD^vP*X"
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "font.family": "sans-serif",
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
    "svg.hashsalt": "mininetes",
    "pdf.fonttype": 42,
    "savefig.dpi": 200.0,
}
WIDTH_IN, HEIGHT_IN = 6.2, 3.8


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within it, figures are made and written in the style of all of them."""
    import matplotlib  # noqa: PLC0415 - takes half a second

    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width_in: float = WIDTH_IN, height_in: float = HEIGHT_IN) -> Figure:
    """An empty figure of that size."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width_in, height_in), layout="constrained")


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each series: its own where it has one, else the first that no other has."""
    found = {name: _OF_NAME[name] for name in dict.fromkeys(names) if name in _OF_NAME}
    free = [colour for colour in _PALETTE if colour not in found.values()] or list(_PALETTE)
    others = [name for name in dict.fromkeys(names) if name not in found]
    return found | {name: free[place % len(free)] for place, name in enumerate(others)}


_SAVED: Mapping[str, Callable[[Figure, Any], None]] = {
    "svg": lambda figure, file: figure.savefig(file, format="svg", metadata={"Date": None}),
    "pdf": lambda figure, file: figure.savefig(file, format="pdf", metadata={"CreationDate": None}),
    "png": lambda figure, file: figure.savefig(file, format="png", metadata={"Software": None}),
}


def save(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write each figure as PNG, SVG and PDF, alike for the same figure; return the paths of the PNGs.

    Raises BadInput for a name that is no file's name.
    """
    for name in figures:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise BadInput(
                "plot: name of a figure", name, "letters, digits, '.', '-' and '_': it becomes a file's name"
            )
    names = list(figures)
    ours, others = names[::2], names[1::2]

    def write(some: Sequence[str]) -> None:
        with style():
            for name, (kind, draw) in itertools.product(some, _SAVED.items()):
                with (folder / f"{name}.{kind}").open("wb") as file:
                    draw(figures[name], file)

    # to draw takes a third of a second a figure, which a second processor halves
    beside = multiprocessing.get_context("fork").Process(target=_quietly, args=(write, others)) if others else None
    if beside is not None:
        beside.start()
    try:
        write(ours)
    finally:
        if beside is not None:
            beside.join()
    if beside is not None and beside.exitcode != 0:
        write(others)  # so that the error is raised here
    return [folder / f"{name}.png" for name in names]


def _quietly(write: Callable[[Sequence[str]], None], names: Sequence[str]) -> None:
    try:
        write(names)
    except BaseException:
        os._exit(1)


def as_svg(figure: Any) -> str:
    """The figure as SVG text, without an XML header, for a page."""
    text = io.StringIO()
    with style():
        _SAVED["svg"](figure, text)
    whole = text.getvalue()
    return whole[whole.index("<svg") :]
