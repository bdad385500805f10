"""Pieces of HTML that a report is made of. Whatever comes from a result is escaped here."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mininetes.experiments.statistics import Interval

_LONGEST_WORD = 24
"""Of what a table does not break into lines."""
UNITS = {"us": "µs", "1": "", "bool": "", "share": "", "Mbit/s": "Mbit/s"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Anything as HTML; what is HTML already stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """An element; ``class_`` and ``data_x`` stand for class and data-x, attributes that are None are left out."""
    known = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    words = "".join(f' {key}="{html.escape(str(value))}"' for key, value in known.items())
    if name == "input":
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{''.join(text(each) for each in inside)}</{name}>")


def joined(pieces: Iterable[object], between: str = "\n") -> Markup:
    """Pieces one after the other."""
    return Markup(between.join(text(each) for each in pieces))


@dataclass(frozen=True)
class Number:
    """A table's cell with a number: how it is shown, and what it is sorted by."""

    shown: str
    value: float | None


def number(value: float | None, unit: str = "") -> Number:
    """A measured value, with four digits that count."""
    if value is None or not math.isfinite(value):
        return Number("", None)
    if unit in ("bool", "share"):
        return Number(f"{value:.1%}", value)
    name = UNITS.get(unit, unit)
    return Number(f"{short(value)} {name}".strip(), value)


def short(value: float) -> str:
    """Four digits that count, with thousands apart, never as a power of ten where a person would not write one."""
    if value and (abs(value) < 1e-4 or abs(value) >= 1e9):
        return f"{value:.3g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    shown = f"{value:,.{digits}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def interval(found: Interval | None, unit: str = "") -> Number:
    """The ends of an interval; sorted by its width."""
    if found is None or not found.known:
        return Number("", None)
    if unit in ("bool", "share"):
        return Number(f"{found.low:.1%} to {found.high:.1%}", found.high - found.low)
    return Number(f"{short(found.low)} to {short(found.high)}", found.high - found.low)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    name: str | None = None,
    sorts: bool = True,
    wrong: Sequence[bool] = (),
) -> Markup:
    """A table in a box that scrolls; cells may be `Number`, `Markup`, or anything. ``wrong`` marks rows."""
    made = [list(row) for row in rows]
    numeric = [any(isinstance(row[at], Number) for row in made) for at in range(len(columns))]
    heads = (
        tag("th", column, class_="n" if numeric[at] else None, data_sort="" if sorts and len(made) > 1 else None)
        for at, column in enumerate(columns)
    )
    lines = []
    for place, row in enumerate(made):
        marked = place < len(wrong) and wrong[place]
        lines.append(tag("tr", joined(map(_cell, row), ""), class_="wrong" if marked else None))
    body = tag("table", tag("thead", tag("tr", joined(heads, ""))), tag("tbody", joined(lines)), id=name)
    return tag("div", body, class_="wide")


def _cell(value: object) -> Markup:
    if isinstance(value, Number):
        return tag("td", value.shown, class_="n", data_value="" if value.value is None else f"{value.value:.10g}")
    is_word = isinstance(value, str) and not isinstance(value, Markup) and len(value) <= _LONGEST_WORD
    return tag("td", value, class_="w" if is_word else None)


def paragraphs(words: str) -> Markup:
    """Plain text as paragraphs, with what stands between backquotes as code."""
    found = []
    for block in re.split(r"\n\s*\n", words.strip()):
        if block.strip():
            found.append(tag("p", Markup(re.sub(r"`+([^`]+)`+", r"<code>\1</code>", text(block.strip())))))
    return joined(found)


def badge(holds: str) -> Markup:
    """Whether a published shape holds, in its colour."""
    return tag("span", holds, class_=f"badge {({'yes': 'yes', 'no': 'no'}).get(holds, 'maybe')}")


def definitions(facts: Mapping[str, Any]) -> Markup:
    """Names with their values, one below the other."""
    return tag(
        "dl", joined(joined((tag("dt", key), tag("dd", value))) for key, value in facts.items()), class_="context"
    )


def svg_within(svg: str, prefix: str) -> Markup:
    """An SVG among others in one page: its names are made its own, and it takes the width that it gets."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", svg)
    svg = re.sub(r"<(metadata|script)\b.*?</\1>", "", svg, flags=re.DOTALL | re.IGNORECASE)
    head, _, rest = svg.partition(">")
    if "viewBox" in head and "topology" not in head:
        head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return Markup(head + ">" + rest)
