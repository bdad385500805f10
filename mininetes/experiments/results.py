"""A result's rows: schema 1, one JSON object a line, each on the disk as soon as it is written.

    {"schema": 1, "experiment": "quickstart", "cell": {"nodes": 3}, "repetition": 0,
     "metric": "rtt_us", "value": 11.9, "unit": "us", "labels": {"path": "same node", ...}}

``cell`` holds the parameters, ``labels`` what tells apart the values of one cell. ``value`` is null
where a probe got no answer: loss is a row too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mininetes.errors import BadInput

SCHEMA = 1
ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Measurement:
    """One value, as an experiment returns it; ``unit`` as in "us", "s", "bool", "1"."""

    metric: str
    value: float | None
    unit: str
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A measurement with where it belongs."""

    experiment: str
    cell: Mapping[str, Any]
    repetition: int
    measurement: Measurement

    def to_json(self) -> dict[str, Any]:
        """As a line of rows.jsonl."""
        one = self.measurement
        return {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "cell": dict(self.cell),
            "repetition": self.repetition,
            "metric": one.metric,
            "value": one.value,
            "unit": one.unit,
            "labels": dict(one.labels),
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Row:
        """Undo `to_json`. Raises BadInput for another schema, KeyError for a missing field."""
        if not isinstance(said, Mapping) or said.get("schema") != SCHEMA:
            raise BadInput("row", said, f"an object with schema {SCHEMA}")
        one = Measurement(said["metric"], said["value"], said["unit"], said["labels"])
        return cls(said["experiment"], said["cell"], said["repetition"], one)


def append_to(fd: int, rows: Iterable[Row]) -> None:
    """Add rows to the file behind ``fd``, and return when they are on the disk."""
    text = "".join(json.dumps(row.to_json()) + "\n" for row in rows).encode()
    while text:
        text = text[os.write(fd, text) :]
    os.fsync(fd)


def read(folder: Path) -> Iterator[Row]:
    """The rows of a result. Raises BadInput when it is none, or has a line that is no row."""
    path = folder / ROWS
    if not path.is_file():
        raise BadInput("result", str(folder), f"a folder with {ROWS}")
    with path.open() as file:
        for number, line in enumerate(file, start=1):
            try:
                yield Row.from_json(json.loads(line))
            except BadInput as wrong:
                raise BadInput(f"{path}:{number}", None, str(wrong)) from None
            except (ValueError, KeyError) as wrong:
                raise BadInput(f"{path}:{number}", None, f"a row of schema {SCHEMA}: {wrong}") from None
