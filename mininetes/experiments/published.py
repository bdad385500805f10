"""Published figures as data, and verdicts: whether what was measured has the published shape (verdicts.json, schema 1).

    {"schema": 1, "experiment": "proxy_modes", "reproduces": "Proxy modes' throughput",
     "left_out": 2, "saturated": false,
     "verdicts": [{"claim": ..., "published": ..., "measured": ..., "holds": "yes", "row": ...}]}

``left_out`` counts the saturated runs that the verdicts do without; with ``saturated`` true they had to be
counted in, because some cell had no others.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mininetes.errors import BadInput

SCHEMA = 1
VERDICTS = "verdicts.json"
Holds = Literal["yes", "no", "not at this size"]


@dataclass(frozen=True)
class Published:
    """Figures that somebody published: for which result (``row``), where, in which unit, and the values.

    Each of ``figures`` has a "value" and, as further keys, the labels that tell it from the others:
    ``{"mode": "iptables", "services": 5000, "value": 0.047}``.
    """

    row: str
    source: str
    unit: str
    figures: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """Whether a published claim holds here, with both sides' numbers in words.

    ``row`` is the published result that it belongs to: the experiment's REPRODUCES when left empty.
    """

    claim: str
    published: str
    measured: str
    holds: Holds
    row: str = ""

    def __post_init__(self) -> None:
        if self.holds not in get_args(Holds):
            raise BadInput(f"verdict {self.claim!r}: holds", self.holds, "one of: " + ", ".join(get_args(Holds)))


@dataclass(frozen=True)
class Judgement:
    """The verdicts of one result, and how it came to them (see the module)."""

    experiment: str
    reproduces: str
    verdicts: Sequence[Verdict]
    left_out: int = 0
    saturated: bool = False


def write_verdicts(folder: Path, judgement: Judgement) -> Path:
    """Write verdicts.json, whole or not at all, and return its path."""
    said = {"schema": SCHEMA, **dataclasses.asdict(judgement)}
    path, fresh = folder / VERDICTS, folder / (VERDICTS + ".new")
    fresh.write_text(json.dumps(said, indent=2) + "\n")
    fresh.rename(path)
    return path


def read_verdicts(folder: Path) -> Judgement | None:
    """The verdicts of a result; None when it has none. Raises BadInput for a file of another schema or shape."""
    path = folder / VERDICTS
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text())
        if said.get("schema") != SCHEMA:
            raise BadInput(str(path), said.get("schema"), f"schema {SCHEMA}, the newest that this version reads")
        return Judgement(
            said["experiment"],
            said["reproduces"],
            [Verdict(**each) for each in said["verdicts"]],
            said["left_out"],
            said["saturated"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise BadInput(str(path), None, f"verdicts of schema {SCHEMA}: {wrong}") from None


def with_row(verdicts: Iterable[Verdict], reproduces: str) -> list[Verdict]:
    """The verdicts, each with the published result that it belongs to."""
    return [each if each.row else dataclasses.replace(each, row=reproduces) for each in verdicts]
