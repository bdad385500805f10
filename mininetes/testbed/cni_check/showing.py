"""Reports of checks as a table for people and as JUnit's XML for build servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from rich.console import Group, RenderableType
from rich.text import Text

from mininetes.errors import BadInput
from mininetes.probes.junit import Document
from mininetes.testbed import show
from mininetes.testbed.cni_check.all_rules import RULES
from mininetes.testbed.cni_check.launching import Report
from mininetes.testbed.cni_check.rule import Outcome, Verdict, counted

_MARKS: dict[Outcome, tuple[str, str]] = {"passed": ("ok", "green"), "failed": ("FAILED", "bold red"),
                                          "not applicable": ("-", "dim")}  # fmt: skip


def rules() -> RenderableType:
    """All rules as a table."""
    table = show.table(None, "rule", "plugins", "since", "section", "demand")
    for rule in RULES.values():
        table.add_row(rule.id, ", ".join(rule.kinds), rule.since, f"{rule.section}, {rule.level}", rule.sentence)
    return table


def rules_json() -> list[dict[str, Any]]:
    """All rules as JSON."""
    names = ("id", "sentence", "section", "level", "kinds", "since")
    return [{name: getattr(rule, name) for name in names} for rule in RULES.values()]


def _table(report: Report) -> RenderableType:
    versions = report.versions or [""]
    table = show.table(f"{report.subject.name}, {report.subject.kind} plugin", "rule", *versions, "section")
    by_place = {(each.rule, each.version): each for each in report.verdicts}
    for rule in RULES.values():
        row = [by_place.get((rule.id, version)) for version in versions]
        if any(each is not None and each.outcome != "not applicable" for each in row):
            cells = [Text(*_MARKS[each.outcome]) if each is not None else Text("") for each in row]
            table.add_row(rule.id, *cells, Text(f"{rule.section}, {rule.level}", style="dim"))
    return table


def _failures(verdicts: list[Verdict]) -> Text:
    """Each failed rule once, with the versions that show the same."""
    text = Text()
    together: dict[tuple[str, str], list[Verdict]] = {}
    for each in verdicts:
        if each.outcome == "failed":
            together.setdefault((each.rule, each.expected), []).append(each)
    for (rule, expected), same in together.items():
        versions = ", ".join(each.version for each in same if each.version)
        text.append(f"\n{rule}", style="bold red")
        text.append(
            f"{f' with CNI {versions}' if versions else ''}: {RULES[rule].sentence} (section {RULES[rule].section})\n"
        )
        text.append(f"  expected  {expected}\n  seen      {same[-1].seen}\n")
    text.rstrip()
    return text


def _reasons(verdicts: list[Verdict]) -> Text:
    """Rules that never applied, by reason."""
    tried = {each.rule for each in verdicts if each.outcome != "not applicable"}
    reasons: dict[str, list[str]] = {}
    for each in verdicts:
        if each.rule not in tried and each.rule not in reasons.get(each.reason, []):
            reasons.setdefault(each.reason, []).append(each.rule)
    lines = [f"not applicable, {reason}: {', '.join(rules)}" for reason, rules in reasons.items()]
    return Text("\n".join(["", *lines]) if lines else "", style="dim")


def text(report: Report) -> RenderableType:
    """A report for people."""
    counts = counted(report.verdicts)
    failed = len({each.rule for each in report.verdicts if each.outcome == "failed"})
    if report.conforms:
        last = Text(f"\n{report.subject.name} passes all {counts['passed']} checks\n", style="green")
    else:
        words = f"{failed} rule{'s' if failed != 1 else ''}; {counts['passed']} checks passed"
        last = Text(f"\n{report.subject.name} fails {words}\n", style="bold red")
    hint = Text(f"\n{report.subject.hint}" if report.subject.hint else "", style="yellow")
    parts = [_failures(report.verdicts), _reasons(report.verdicts), hint]
    return Group(_table(report), *(part for part in parts if part.plain), last)


def junit(reports: list[Report]) -> str:
    """All reports as one document, a test suite for each plugin and a test case for each rule and version."""
    document = Document("cni-check")
    for report in reports:
        with document.suite(report.subject.name) as suite:
            for each in report.verdicts:
                _case(suite, each)
    return document.text()


def _case(suite: Any, verdict: Verdict) -> None:
    rule = RULES[verdict.rule]
    facts = {"classname": f"cni-check.{verdict.subject}.{verdict.version or 'any'}", "name": verdict.rule,
             "time": f"{verdict.seconds:.3f}"}  # fmt: skip
    case = Xml.SubElement(suite, "testcase", facts)
    if verdict.outcome == "failed":
        failure = Xml.SubElement(case, "failure", message=_plain(f"expected {verdict.expected}"), type=rule.level)
        failure.text = _plain(
            f"{rule.sentence} (section {rule.section})\nexpected: {verdict.expected}\nseen: {verdict.seen}"
        )
    elif verdict.outcome == "not applicable":
        Xml.SubElement(case, "skipped", message=_plain(verdict.reason))


def _plain(words: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(letter if letter >= " " or letter in "\n\t" else "?" for letter in words)


def write_junit(reports: list[Report], path: Path) -> None:
    """Write `junit` to a file. Raises BadInput when it cannot be written."""
    try:
        path.write_text(junit(reports), encoding="utf-8")
    except OSError as failed:
        raise BadInput("--junit", str(path), f"a file that can be written ({failed.strerror})") from None
