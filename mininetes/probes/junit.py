"""JUnit's XML: test suites in one document, whose root has the totals that CI systems show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree as Xml

_OUTCOMES = {"failures": "failure", "errors": "error", "skipped": "skipped"}
"""Counts by name, with the element that a counted test case has."""


class Document:
    """A document of that name; suites are added in order. ``seconds``: how long it all took, in place of their sum.

    Reports fold test cases of one name, and some of them ask each for its time: a name that comes again gets a number,
    and a case that says no time has 0, as one that was measured beside others.
    """

    def __init__(self, name: str, *, seconds: float | None = None) -> None:
        self._top = Xml.Element("testsuites", name=name)
        self._counts = dict.fromkeys(("tests", *_OUTCOMES), 0)
        self._seconds, self._sum = seconds, 0.0
        self._names: Counter[tuple[str | None, str | None]] = Counter()

    @contextmanager
    def suite(self, name: str) -> Iterator[Xml.Element]:
        """A test suite, for the block that adds its test cases; they are counted at its end."""
        suite = Xml.SubElement(self._top, "testsuite", name=name)
        yield suite
        cases = suite.findall("testcase")
        of_kind = {count: len(suite.findall(f"testcase/{kind}")) for count, kind in _OUTCOMES.items()}
        counts = {"tests": len(cases), **of_kind}
        for count, number in counts.items():
            suite.set(count, str(number))
            self._counts[count] += number
        seconds = [float(case.get("time", "0")) for case in cases if case.get("time")]
        if seconds:
            suite.set("time", f"{sum(seconds):.3f}")
            self._sum += sum(seconds)
        for case in cases:
            place = case.get("classname"), case.get("name")
            self._names[place] += 1
            if self._names[place] > 1:
                case.set("name", f"{place[1]} ({self._names[place]})")
            if not case.get("time"):
                case.set("time", "0")

    def text(self) -> str:
        """The document."""
        for count, number in self._counts.items():
            self._top.set(count, str(number))
        self._top.set("time", f"{self._sum if self._seconds is None else self._seconds:.3f}")
        Xml.indent(self._top)
        return Xml.tostring(self._top, encoding="unicode", xml_declaration=True) + "\n"
