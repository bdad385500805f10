"""Ages as kubectl shows them: 45s, 3m12s, 5h, 2d3h."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

UNKNOWN: Final = "<unknown>"
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY


def _two(seconds: int, unit: int, name: str, smaller: int, smaller_name: str) -> str:
    whole, rest = divmod(seconds, unit)
    return f"{whole}{name}" + (f"{rest // smaller}{smaller_name}" if rest >= smaller else "")


def age_text(seconds: int) -> str:
    """A duration in at most two units, coarser the longer it is (the steps are apimachinery's HumanDuration)."""
    if seconds < 0:
        return "0s" if seconds >= -1 else "<invalid>"
    steps: tuple[tuple[int, Callable[[], str]], ...] = (
        (2 * _MINUTE, lambda: f"{seconds}s"),
        (10 * _MINUTE, lambda: _two(seconds, _MINUTE, "m", 1, "s")),
        (3 * _HOUR, lambda: f"{seconds // _MINUTE}m"),
        (8 * _HOUR, lambda: _two(seconds, _HOUR, "h", _MINUTE, "m")),
        (2 * _DAY, lambda: f"{seconds // _HOUR}h"),
        (8 * _DAY, lambda: _two(seconds, _DAY, "d", _HOUR, "h")),
        (2 * _YEAR, lambda: f"{seconds // _DAY}d"),
        (8 * _YEAR, lambda: _two(seconds, _YEAR, "y", _DAY, "d")),
    )
    return next((text() for limit, text in steps if seconds < limit), f"{seconds // _YEAR}y")


def seconds_since(timestamp: str, now: datetime) -> int:
    """Whole seconds from a time in Kubernetes' format (with or without fractions, in UTC or with an offset)."""
    return int((now - datetime.fromisoformat(_python_format(timestamp))).total_seconds())


def _python_format(timestamp: str) -> str:
    """Python before 3.11 reads neither Z nor fractions that are not of 3 or 6 digits."""
    text = timestamp[:-1] + "+00:00" if timestamp.endswith("Z") else timestamp
    whole, offset = text[:-6], text[-6:]
    if "." in whole:
        seconds, _, fraction = whole.partition(".")
        whole = f"{seconds}.{fraction[:6]:0<6}"
    return whole + offset


def age_of(timestamp: str | None, now: datetime) -> str:
    """The age at ``now`` of what happened at ``timestamp``."""
    return age_text(seconds_since(timestamp, now)) if timestamp else UNKNOWN
