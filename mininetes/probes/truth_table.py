"""The truth table: what must happen to who asks a service, beside what did happen, for one proxy or several.

A subject is what was measured: kube-proxy in a mode (its name), or an outside program (as its command line has it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any
from xml.etree import ElementTree as Xml

from mininetes.counting import counted
from mininetes.probes.junit import Document
from mininetes.probes.service_asking import Asking, AskOptions, Heard, ask_all
from mininetes.probes.truth_expectation import Outcome
from mininetes.probes.truth_questions import Path, Question, Questions

_FEW = 2
"""Tries of what is to be refused, dropped or left alone."""
_GENTLY = 8
_PATIENCE = 4
"""Where answers must come, they may take so many times as long as what is silent is waited for."""
_UNTOLD = 4
"""Tries of endpoints that do not all say who they are."""
_REPLIES = {
    Outcome.REJECT: "refused",
    Outcome.DROP: "nothing",
    Outcome.CLOSED: "connected",
    Outcome.HEALTHY: "healthy",
    Outcome.UNHEALTHY: "unhealthy",
}
_SHOWN = {reply: outcome.value for outcome, reply in _REPLIES.items()} | {"unreachable": "unreachable"}
CONNECTED = "connected"
"""What was measured where endpoints do not all say who they are: something answered; which of them is not known."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row as measured. Plain values: ``Line(**row)`` undoes ``asdict``.

    ``mode`` is the one whose behaviour is expected of the subject. ``measured`` is ``expected`` where that was seen to
    happen, and `CONNECTED` where nobody can say which endpoint answered. ``wrong`` says what did not hold, or "";
    ``known`` why that was to be, when it was declared. ``differs`` says why this mode does it otherwise than iptables.
    """

    subject: str
    mode: str
    service: str
    protocol: str
    source: str
    who: str
    to: str
    at: str
    address: str
    port: int
    expected: str
    why: str
    measured: str
    wrong: str
    differs: str = ""
    known: str = ""

    @property
    def holds(self) -> bool:
        """Whether what must happen happened, or something else that was declared."""
        return not self.wrong or bool(self.known)

    @property
    def only_connected(self) -> bool:
        """Whether it is not known who answered, so that nothing is wrong as far as can be seen."""
        return not self.wrong and self.measured == CONNECTED

    @property
    def question(self) -> tuple[str, ...]:
        """What is asked, the same of every subject; services of packet flows have another cluster IP each time."""
        address = "" if self.to == "cluster IP" else self.address
        return (self.service, self.protocol, self.source, self.who, self.to, self.at, address, str(self.port))

    def __str__(self) -> str:
        of = f" of {self.at}" if self.at else ""
        where = f"{self.to}{of} {self.address}:{self.port}/{self.protocol}"
        return f"{self.subject}: {self.service}: {self.source} ({self.who}) -> {where}: {self.wrong or self.measured}"


@dataclass(frozen=True)
class Known:
    """A difference that is declared: subjects and rows by patterns as of a shell, and why it is to be.

    ``service`` is ``namespace/name:port``, ``source`` as the table has it. Rows that hold are not touched.
    """

    reason: str
    subject: str = "*"
    service: str = "*"
    source: str = "*"
    who: str = "*"
    to: str = "*"

    def covers(self, line: Line) -> bool:
        """Whether this row is among those."""
        patterns = (self.subject, self.service, self.source, self.who, self.to)
        values = (line.subject, line.service, line.source, line.who, line.to)
        return all(fnmatchcase(value, pattern) for value, pattern in zip(values, patterns, strict=True))


@dataclass(frozen=True, slots=True)
class Difference:
    """What subjects do otherwise with one question: measured by subject, and the declared reason ("": a failure)."""

    question: tuple[str, ...]
    measured: Mapping[str, str]
    reason: str

    def __str__(self) -> str:
        service, protocol, source, _, to, at, *_ = self.question
        seen = "; ".join(f"{subject}: {text}" for subject, text in self.measured.items())
        of = f" of {at}" if at else ""
        return f"{service}/{protocol}: {source} -> {to}{of}: {seen}: {self.reason or 'NOT DECLARED'}"


@dataclass(frozen=True)
class TruthTable:
    """All rows, and what was not asked, with reasons."""

    lines: tuple[Line, ...]
    skipped: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> TruthTable:
        """Undo `as_json`. Raises KeyError or TypeError for a row with missing or unknown keys."""
        rows = ({key: value for key, value in row.items() if key != "holds"} for row in said["lines"])
        return cls(tuple(Line(**row) for row in rows), tuple(said["skipped"]))

    def as_json(self) -> dict[str, Any]:
        """Rows, differences between subjects and what was left out, as plain JSON."""
        return {
            "holds": self.holds,
            "subjects": list(self.subjects),
            "lines": [{**asdict(line), "holds": line.holds} for line in self.lines],
            "differences": [{**asdict(each), "declared": bool(each.reason)} for each in self.differences],
            "skipped": list(self.skipped),
        }

    @property
    def wrong(self) -> tuple[Line, ...]:
        """The rows in which something else happened that is not declared."""
        return tuple(line for line in self.lines if not line.holds)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What the subjects of this table do otherwise than each other. What is wrong declares nothing."""
        groups: dict[tuple[str, ...], list[Line]] = {}
        for line in self.lines:
            groups.setdefault(line.question, []).append(line)
        found = []
        for question, lines in groups.items():
            if len({line.measured for line in lines}) > 1:
                reasons = dict.fromkeys(line.known if line.wrong else line.differs for line in lines)
                reason = "" if any(not line.holds for line in lines) else "; ".join(filter(None, reasons))
                found.append(Difference(question, {line.subject: line.measured for line in lines}, reason))
        return tuple(found)

    @property
    def subjects(self) -> tuple[str, ...]:
        """What was measured, in that order."""
        return tuple(dict.fromkeys(line.subject for line in self.lines))

    def of(self, subject: str) -> TruthTable:
        """The same rows as those of that subject."""
        return replace(self, lines=tuple(replace(line, subject=subject) for line in self.lines))

    def declared(self, known: Sequence[Known]) -> TruthTable:
        """The same with what is known of wrong rows; the first that covers a row says why."""
        lines = []
        for line in self.lines:
            why = next((each.reason for each in known if each.covers(line)), "") if line.wrong else ""
            lines.append(replace(line, known=why) if why else line)
        return replace(self, lines=tuple(lines))

    @property
    def holds(self) -> bool:
        """Whether there are rows, all as they must be, and every difference between subjects is a declared one."""
        return bool(self.lines) and not self.wrong and all(each.reason for each in self.differences)

    def summary(self) -> str:
        """The result in one line."""
        services = counted(len({line.service for line in self.lines}), "service port")
        head = f"{counted(len(self.lines), 'row')} of {services}, {', '.join(self.subjects) or 'no proxy'}"
        declared = sum(1 for line in self.lines if line.known)
        but = f" but for {counted(declared, 'known one')}" if declared else ""
        left = f"; {len(self.skipped)} not asked" if self.skipped else ""
        if not self.lines:
            return f"nothing was asked{left}"
        unknown = sum(1 for line in self.lines if line.only_connected)
        left = (f"; {unknown} connected to endpoints that do not all say who they are" if unknown else "") + left
        if self.holds:
            return f"{head}: all as they must be{but}{left}"
        undeclared = sum(1 for each in self.differences if not each.reason)
        more = f", {counted(undeclared, 'undeclared difference')} between proxies" if undeclared else ""
        return f"{head}: {len(self.wrong)} not as they must be{but}{more}{left}"

    def junit(self, seconds: float = 0.0) -> str:
        """The rows as JUnit XML: a test suite for each subject, one for the differences, one for what was not asked.

        ``seconds``: how long it took to measure them, which is done side by side.
        """
        document = Document("truth-table", seconds=seconds)
        for subject in self.subjects:
            with document.suite(subject) as suite:
                for line in self.lines:
                    if line.subject == subject:
                        _row_in_junit(suite, line)
        if len(self.subjects) > 1:
            with document.suite("differences") as suite:
                for each in self.differences:
                    _difference_in_junit(suite, each)
        if self.skipped:
            with document.suite("not asked") as suite:
                for text in self.skipped:
                    name, why = _named(text)
                    case = Xml.SubElement(suite, "testcase", classname="not asked", name=name)
                    Xml.SubElement(case, "skipped", message=why)
        return document.text()


def _named(skipped: str) -> tuple[str, str]:
    """What was not asked, and why: a service's port or a flow, or one row of a port, which has an arrow."""
    name, _, why = skipped.partition(": ")
    row, _, rest = why.partition(": ")
    return (f"{name}: {row}", rest) if " -> " in row else (name, why)


def _row_in_junit(suite: Xml.Element, line: Line) -> None:
    of = f" of {line.at}" if line.at else ""
    name = f"{line.source} ({line.who}) -> {line.to}{of} {line.address}:{line.port}/{line.protocol}"
    case = Xml.SubElement(suite, "testcase", classname=f"{line.subject}.{line.service}", name=name)
    if not line.holds:
        Xml.SubElement(case, "failure", message=line.wrong).text = f"expected {line.expected}"
    elif line.only_connected:
        Xml.SubElement(case, "system-out").text = f"{CONNECTED}: the endpoints do not all say who they are"


def _difference_in_junit(suite: Xml.Element, difference: Difference) -> None:
    service, _, source, who, to, at, *_ = difference.question
    name = f"{source} ({who}) -> {to}{f' of {at}' if at else ''}"
    case = Xml.SubElement(suite, "testcase", classname=f"differences.{service}", name=name)
    if not difference.reason:
        Xml.SubElement(case, "failure", message="not declared").text = str(difference)


async def measure(what: Questions, options: AskOptions | None = None) -> TruthTable:
    """Try every connection of these questions. Raises OSError when a source's namespace is gone."""
    options = options or AskOptions()
    if any(each.mode == "userspace" for each in what.asked):
        # its process passes over endpoints that are slow to accept, as they are when all is asked at once
        options = replace(options, at_once=min(options.at_once, _GENTLY))
    heard = await ask_all([asking_of(each, options) for each in what.asked], options)
    return TruthTable(tuple(map(judge, what.asked, heard)), what.skipped)


def asking_of(question: Question, options: AskOptions) -> Asking:
    """How a question is asked."""
    led = [path for path in question.paths if path.expected.outcome is Outcome.DNAT]
    times = max((len(path.expected.endpoints) for path in led if question.tells(path)), default=0)
    times = times * options.per_endpoint or (_UNTOLD if led else 0)
    sticky = any(path.expected.sticky for path in question.paths)
    where = (question.source.netns, question.address, question.port, question.protocol)
    if question.to == "health check node port":
        return Asking(*where, _FEW, one_by_one=False, patience=_PATIENCE, health=True)
    return Asking(*where, times or _FEW, one_by_one=sticky, patience=_PATIENCE if times else 1)


def judge(question: Question, heard: Heard) -> Line:
    """Put what was heard beside what must happen: on one of the question's paths."""
    found = [(_wrong(question, path, heard), path) for path in question.paths]
    wrong, path = next((each for each in found if not each[0]), found[0])
    return Line(
        subject=question.mode,
        mode=question.mode,
        service=question.service,
        protocol=question.protocol,
        source=question.source.name,
        who=question.who,
        to=question.to,
        at=question.at,
        address=question.address,
        port=question.port,
        expected=str(path.expected),
        why=path.expected.why,
        measured=_measured(question, path, heard, wrong),
        wrong=wrong,
        differs=path.expected.differs,
    )


def _measured(question: Question, path: Path, heard: Heard, wrong: str) -> str:
    """What happened, in the words of what must happen: alike where it is alike."""
    if not wrong:
        translated = path.expected.outcome is Outcome.DNAT
        left_alone = path.expected.outcome is Outcome.NOMATCH and set(heard.replies) & {"answered", "connected"}
        return CONNECTED if not question.tells(path) and (translated or left_alone) else str(path.expected)
    parts = []
    if heard.seen:
        endpoints = sorted({question.endpoints.get(pod, pod) for pod, _ in heard.seen})
        clients = sorted({client for _, client in heard.seen})
        parts.append(f"DNAT to {' '.join(endpoints)}, seen as {' '.join(clients)}")
    others = sorted(reply for reply in heard.replies if reply != "answered")
    return "; ".join([*parts, *(f"{_SHOWN[reply]} x{heard.replies[reply]}" for reply in others)])


def _wrong(question: Question, path: Path, heard: Heard) -> str:
    expected, replies = path.expected, set(heard.replies)
    if expected.outcome is Outcome.DNAT:
        return (_wrong_dnat if question.tells(path) else _wrong_untold)(question, path, heard)
    if expected.outcome is Outcome.NOMATCH:
        strays = sorted({pod for pod, _ in heard.seen if pod in question.endpoints})
        return f"answered by {' '.join(strays)}, to be left alone" if strays and not path.led_on else ""
    reply = _REPLIES[expected.outcome]
    return "" if replies == {reply} else f"{_counted(heard)}, not {reply} ({expected.outcome.value})"


def _counted(heard: Heard) -> str:
    return ", ".join(f"{count} {reply}" for reply, count in sorted(heard.replies.items()))


def _wrong_untold(question: Question, path: Path, heard: Heard) -> str:
    """Of endpoints that do not all say who they are: what those say that do may still be wrong."""
    said = {question.endpoints[pod] for pod, _ in heard.seen if pod in question.endpoints}
    if strays := said - set(path.expected.endpoints):
        return f"answered by {_listed(strays)}, which must not get it"
    if not set(heard.replies) <= {"answered", "connected"}:
        return f"{_counted(heard)}, not connected"
    return _wrong_clients(question, path, heard)


def _wrong_dnat(question: Question, path: Path, heard: Heard) -> str:
    expected = path.expected
    if set(heard.replies) != {"answered"}:
        return f"{_counted(heard)}, {'not answered by all' if 'answered' in heard.replies else 'answered by nobody'}"
    answering = {question.endpoints.get(pod, pod) for pod, _ in heard.seen}
    wanted = set(expected.endpoints)
    if expected.sticky and len(answering) > 1:
        return f"answered by {_listed(answering)}, not always by the same one"
    if not answering <= wanted:
        return f"answered by {_listed(answering - wanted)}, which must not get it"
    if not expected.sticky and answering != wanted:
        return f"never answered by {_listed(wanted - answering)}"
    return _wrong_clients(question, path, heard)


def _wrong_clients(question: Question, path: Path, heard: Heard) -> str:
    for pod, client in ((pod, client) for pod, client in heard.seen if pod in question.endpoints):
        itself = question.endpoints[pod].partition(":")[0] == question.source.address
        masquerade = path.expected.masquerade or itself
        if client not in (path.as_node if masquerade else path.unchanged):
            right = f"an address of {path.node}" if masquerade else " ".join(sorted(path.unchanged))
            return f"{question.endpoints[pod]} saw {client}, not {right}"
    return ""


def _listed(endpoints: Iterable[str]) -> str:
    return " ".join(sorted(endpoints))


def together(tables: Sequence[TruthTable]) -> TruthTable:
    """Tables of several subjects as one."""
    lines = tuple(line for table in tables for line in table.lines)
    return TruthTable(lines, tuple(dict.fromkeys(each for table in tables for each in table.skipped)))
