"""From the host: the lab in which subjects are checked, and the reports that come out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mininetes.errors import BadInput, MininetesError
from mininetes.lab.supervising import Supervised
from mininetes.testbed.cni_check.all_rules import RULES
from mininetes.testbed.cni_check.rule import Verdict, counted
from mininetes.testbed.cni_check.subject import Subject, installed


@dataclass
class Report:
    """A subject's verdicts, in the order of the rules, and the versions for which it was tested."""

    subject: Subject
    versions: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def conforms(self) -> bool:
        """Whether no rule failed, and one at least passed."""
        counts = counted(self.verdicts)
        return counts["failed"] == 0 and counts["passed"] > 0

    def to_json(self) -> dict[str, Any]:
        """All of it, each verdict with its rule's sentence, section and level."""
        facts = {
            "plugin": self.subject.name,
            "executable": self.subject.executable,
            "kind": self.subject.kind,
            "versions": self.versions,
            "conforms": self.conforms,
            **{outcome.replace(" ", "_"): number for outcome, number in counted(self.verdicts).items()},
        }
        if self.subject.hint:
            facts["hint"] = self.subject.hint
        verdicts = []
        for each in self.verdicts:
            rule = RULES[each.rule]
            words = {"sentence": rule.sentence, "section": rule.section, "level": rule.level}
            verdicts.append({key: value for key, value in {**each.to_json(), **words}.items() if key != "subject"})
        return {**facts, "verdicts": verdicts}


def known_rules(wanted: Sequence[str]) -> list[str]:
    """The rules asked for. Raises BadInput that lists those there are."""
    for each in wanted:
        if each not in RULES:
            raise BadInput("--rule", each, "one of " + ", ".join(RULES))
    return list(wanted)


def check(
    subjects: Sequence[Subject],
    *,
    rules: Sequence[str] = (),
    versions: Sequence[str] = (),
    progress: Callable[[Report, Verdict], None] = lambda *_: None,
) -> list[Report]:
    """Check the subjects in a lab of their own, and return a report for each.

    Raises BadInput when a plugin announces none of ``versions``, MininetesError when the lab fails.
    """
    config = {
        "subjects": [subject.to_json() for subject in subjects],
        "rules": known_rules(rules),
        "versions": list(versions),
        "workers": max(2, os.cpu_count() or 1),
        # looked for here, as a lab has another /opt
        "plugins": {each.executable: installed(Path(each.executable)) for each in subjects},
        "summary": {"nodes": 0, "underlay": "", "fabric": "cni-check"},
    }
    reports = [Report(subject) for subject in subjects]
    done = False
    with Supervised(f"cni-check-{os.getpid()}", "mininetes.testbed.cni_check.engine:main", config) as supervised:
        supervised.start(stderr=supervised.log)
        for event in supervised.events():
            done = done or "done" in event
            if "versions" in event:
                _versions(reports[event["subject"]], event)
            elif "verdict" in event:
                verdict = Verdict(**event["verdict"])
                report = reports[event["subject"]]
                report.verdicts.append(verdict)
                progress(report, verdict)
        if not done:
            raise MininetesError(f"the lab ended before the check did{supervised.last_words()}")
    order = list(RULES)
    for report in reports:
        report.verdicts.sort(key=lambda each: (order.index(each.rule), each.version))
    return reports


def _versions(report: Report, event: dict[str, Any]) -> None:
    report.versions = event["versions"]
    if not report.versions:
        known = ", ".join(event["announced"])
        raise BadInput("--cni-version", None, f"a version that {report.subject.name} announces: {known}")
