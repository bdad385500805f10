"""The errors that a user of Mininetes can meet, each with the exit status it ends a command with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_NAMED = 20


class MininetesError(Exception):
    """An expectation that did not hold, or a step that failed. Ends a command with status 1."""

    exit_status = 1


class Reported(MininetesError):
    """A failure that the lab's engine reported, with the exit status that it asks for."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.exit_status = status


class BadInput(MininetesError):
    """A file, flag or value that is wrong. Names the field, the value and what would be right. Status 2."""

    exit_status = 2

    def __init__(self, field: str, value: object, right: str) -> None:
        super().__init__(f"{field}: {value!r} is not valid: {right}" if value is not None else f"{field}: {right}")
        self.field = field
        self.value = value
        self.right = right


def one_of(known: Iterable[str], given: str, none: str = "none: there are none") -> str:
    """For `BadInput.right`: what there is; of many, those that look most like what was given, and how many more."""
    names = list(known)
    if len(names) > _MOST_NAMED:
        near = difflib.get_close_matches(given, names, n=_MOST_NAMED, cutoff=0.0)
        return f"one of {', '.join(near)} and {len(names) - len(near)} more"
    return f"one of {', '.join(names)}" if names else none


class MissingFeature(MininetesError):
    """A tool or kernel feature that is not here, or that needs root. Status 3."""

    exit_status = 3

    def __init__(self, feature: str, needed_for: str, remedy: str) -> None:
        super().__init__(f"{feature} is missing (needed for {needed_for}): {remedy}")
        self.feature = feature
        self.needed_for = needed_for
        self.remedy = remedy
