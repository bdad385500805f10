"""What a rule of the CNI specification and a verdict on it are. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from mininetes.testbed.cni_check.host import Host

Kind = Literal["interface", "chained", "ipam"]
"""What a plugin does: make an interface, change what another one made, or give out addresses."""

Outcome = Literal["passed", "failed", "not applicable"]
Level = Literal["must", "should"]

EVERY: tuple[Kind, ...] = get_args(Kind)
CONNECTING: tuple[Kind, ...] = ("interface", "chained")
LONGEST_SEEN = 400


class Failed(Exception):
    """A plugin did not do what a rule says. Says what was expected, and what was seen instead."""

    def __init__(self, expected: str, seen: object) -> None:
        text = " ".join(str(seen).split())
        self.expected = expected
        self.seen = text if len(text) <= LONGEST_SEEN else text[: LONGEST_SEEN - 4] + " ..."
        super().__init__(f"expected {expected}; seen: {self.seen}")


class NotApplicable(Exception):
    """A rule says nothing about this plugin, with this configuration; the text is the reason."""


def expect(holds: object, expected: str, seen: object) -> None:
    """Raise Failed unless ``holds``."""
    if not holds:
        raise Failed(expected, seen)


def number(version: str) -> tuple[int, ...]:
    """A version as something that can be compared. Raises ValueError when it is none."""
    return tuple(int(part) for part in version.split("."))


@dataclass(frozen=True)
class Rule:
    """One demand of the specification. ``section`` is that of version 1.1.0; earlier ones say it elsewhere."""

    id: str
    sentence: str
    section: str
    run: Callable[[Host], None]
    kinds: tuple[Kind, ...] = EVERY
    level: Level = "must"
    since: str = "0.1.0"

    def not_for(self, kind: Kind, version: str) -> str | None:
        """Why it does not apply to a plugin of this kind at this version; None when it does."""
        if kind not in self.kinds:
            return f"it is about {' and '.join(self.kinds)} plugins"
        return f"since CNI {self.since}" if number(version) < number(self.since) else None


@dataclass(frozen=True)
class Verdict:
    """What came of a rule for one subject at one version of the specification."""

    subject: str
    rule: str
    outcome: Outcome
    version: str = ""
    expected: str = ""
    seen: str = ""
    reason: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it but what is empty."""
        return {key: value for key, value in asdict(self).items() if value != ""}


RULES: dict[str, Rule] = {}
"""All rules by id, in the order of the report; filled by the modules ``rules_*``."""


def rule(section: str, **more: Any) -> Callable[[Callable[[Host], None]], Callable[[Host], None]]:
    """Make a rule of the function below: its name is the id, its docstring the sentence.

    The function raises Failed or NotApplicable, or returns when the rule holds.
    """

    def add(function: Callable[[Host], None]) -> Callable[[Host], None]:
        identity, sentence = function.__name__.replace("_", "-"), (function.__doc__ or "").rstrip(".")
        assert sentence, identity
        assert identity not in RULES, identity
        RULES[identity] = Rule(identity, " ".join(sentence.split()), section, function, **more)
        return function

    return add


def try_rule(subject: str, each: Rule, version: str, host: Host) -> Verdict:
    """Try a rule on a fresh host. Whatever else goes wrong is raised."""
    start = time.monotonic()

    def verdict(outcome: Outcome, **more: str) -> Verdict:
        return Verdict(subject, each.id, outcome, version, **more, seconds=round(time.monotonic() - start, 4))

    try:
        each.run(host)
    except Failed as failed:
        return verdict("failed", expected=failed.expected, seen=failed.seen)
    except NotApplicable as reason:
        return verdict("not applicable", reason=str(reason))
    return verdict("passed")


def counted(verdicts: Iterable[Verdict]) -> dict[Outcome, int]:
    """How many verdicts there are of each outcome."""
    found: dict[Outcome, int] = dict.fromkeys(get_args(Outcome), 0)
    for each in verdicts:
        found[each.outcome] += 1
    return found


def applying(kind: Kind, version: str, only: Iterable[str] = ()) -> Iterator[tuple[Rule, str | None]]:
    """The rules (those in ``only``, or all) with the reason why each does not apply, or None."""
    wanted = set(only)
    for each in RULES.values():
        if not wanted or each.id in wanted:
            yield each, each.not_for(kind, version)
