"""cni-check's pure parts: results in the shape of their versions, which rules apply, subjects, reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from mininetes.errors import BadInput
from mininetes.testbed.cni_check import results, showing, subject
from mininetes.testbed.cni_check.all_rules import RULES
from mininetes.testbed.cni_check.launching import Report
from mininetes.testbed.cni_check.rule import EVERY, Failed, Verdict, counted
from mininetes.testbed.cni_check.templates import TEMPLATES

PLUGIN = {"type": "x", "ipam": {"type": "y"}}
SUBJECT = subject.Subject("x", "/x", "interface", "net", PLUGIN)
GOOD: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "cni0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/a"}],
    "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.2.0.7/16", "gw": "10.1.0.9"}],
    "dns": {"nameservers": ["10.1.0.1"]},
}


def test_a_result_is_read_in_the_same_form_from_each_version() -> None:
    new = results.read(GOOD, "1.0.0")
    old = results.read(
        {"ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1", "routes": GOOD["routes"]}, "dns": GOOD["dns"]}, "0.2.0"
    )
    assert old.interfaces is None
    assert (old.routes, old.dns) == (new.routes, new.dns)
    assert new.routes == [("0.0.0.0/0", ""), ("10.2.0.0/16", "10.1.0.9")]
    assert (new.addresses[0].cidr, new.addresses[0].interface) == ("10.1.0.2/24", 1)
    assert results.read({}, "1.1.0", ipam=True).addresses == []


@pytest.mark.parametrize(
    ("change", "version", "ipam", "expected"),
    [
        ({"ips": {}}, "1.0.0", False, ""),
        ({"ips": "10.1.0.2/24"}, "1.0.0", False, "lists"),
        ({"ips": [{"address": "10.1.0.2"}]}, "1.0.0", False, "prefix length"),
        ({"ips": [{"address": "10.1.0.2/40"}]}, "1.0.0", False, "CIDR"),
        ({"ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1/24"}]}, "1.0.0", False, "gateways without"),
        ({"ips": [{"address": "10.1.0.2/24", "gateway": "10.9.0.1"}]}, "1.0.0", False, "in the network"),
        ({"ips": [{"address": "10.1.0.2/24", "interface": 2}]}, "1.0.0", False, "index into the 2 interfaces"),
        ({"ips": [{"address": "10.1.0.2/24", "interface": "1"}]}, "1.0.0", False, "index"),
        ({}, "0.4.0", False, 'version "4" or "6"'),
        ({}, "1.0.0", True, "no interfaces"),
        ({"interfaces": None}, "1.0.0", True, "without interface"),
        ({"interfaces": [{"mac": "02:00:00:00:00:01"}]}, "1.0.0", False, "with a name"),
        ({"routes": [{"gw": "10.1.0.1"}]}, "1.0.0", False, "with dst"),
        ({"routes": [{"dst": "default"}]}, "1.0.0", False, "CIDR"),
        ({"dns": ["10.1.0.1"]}, "1.0.0", False, "dns is an object"),
        ({"ip4": {"gateway": "10.1.0.1"}}, "0.1.0", False, "ip4 with an ip"),
    ],
)
def test_a_wrong_shape_is_named(change: dict[str, Any], version: str, ipam: bool, expected: str) -> None:
    result = {**GOOD, **change}
    if not expected:
        assert results.read(result, version, ipam=ipam).addresses == []
        return
    with pytest.raises(Failed) as failed:
        results.read(result, version, ipam=ipam)
    assert expected in failed.value.expected


def test_rules_have_all_that_a_report_says_of_them() -> None:
    sections = ("1 ", "2 ", "3 ", "4 ", "5 ")
    for name, rule in RULES.items():
        assert rule.sentence[0].isupper(), name
        assert not rule.sentence.endswith("."), name
        assert rule.section.startswith(sections), name
        assert set(rule.kinds) <= set(EVERY), name
        assert rule.since in ("0.1.0", "0.3.0", "0.4.0", "1.0.0", "1.1.0"), name


def test_which_rules_apply() -> None:
    assert RULES["gc-removes"].not_for("ipam", "1.0.0") == "since CNI 1.1.0"
    assert RULES["gc-removes"].not_for("ipam", "1.1.0") is None
    assert RULES["add-twice"].not_for("ipam", "1.1.0") == "it is about interface plugins"
    assert RULES["check-passes"].not_for("chained", "0.3.1") == "since CNI 0.4.0"


def verdicts() -> list[Verdict]:
    return [
        Verdict("x", "add-succeeds", "passed", "1.0.0", seconds=0.5),
        Verdict("x", "result-ips", "failed", "1.0.0", expected="10.1.0.2/24", seen="none \x1b[1m"),
        Verdict("x", "gc-keeps", "not applicable", "1.0.0", reason="since CNI 1.1.0"),
    ]


def test_reports_say_the_same_in_each_form() -> None:
    report = Report(SUBJECT, ["1.0.0"], verdicts())
    assert not report.conforms
    assert counted(report.verdicts) == {"passed": 1, "failed": 1, "not applicable": 1}
    known = json.loads(json.dumps(report.to_json()))
    assert (known["passed"], known["failed"], known["not_applicable"]) == (1, 1, 1)
    assert known["verdicts"][1]["section"] == "5 ADD Success"
    (suite,) = root = Xml.fromstring(showing.junit([report]))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    same = ("tests", "failures", "errors", "skipped", "time")
    assert {name: root.get(name) for name in same} == {name: suite.get(name) for name in same}
    two = Xml.fromstring(showing.junit([report, report]))
    assert {name: two.get(name) for name in same} == {
        "tests": "6", "failures": "2", "errors": "0", "skipped": "2", "time": "1.000"
    }  # fmt: skip
    cases = [(case.get("classname"), case.get("name")) for case in two.iter("testcase")]
    assert len(set(cases)) == 6
    assert all(case.get("time") for case in two.iter("testcase"))
    failure = suite[1].find("failure")
    assert failure is not None
    assert "10.1.0.2/24" in str(failure.text)
    assert Report(SUBJECT, ["1.0.0"], verdicts()[:1]).conforms
    assert not Report(SUBJECT, ["1.0.0"], verdicts()[2:]).conforms


def test_a_configuration_says_what_a_plugin_is(tmp_path: Path) -> None:
    for name in ("mine", "addresses"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    plugins = [{"type": "bash-bridge", "master": "lan0"}, {"type": "mine", "ipam": {"type": "addresses"}}]
    file = tmp_path / "net.conflist"
    file.write_text(json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": plugins}))
    found = subject.find(str(file), None)
    assert [(each.name, each.kind) for each in found] == [
        ("bash-bridge", "interface"), ("mine", "chained"), ("addresses", "ipam")
    ]  # fmt: skip
    (mine,) = subject.find(str(tmp_path / "mine"), str(file))
    assert (mine.kind, mine.network, mine.masters) == ("chained", "net", ["lan0"])
    assert [each["type"] for each in mine.behind] == ["bash-bridge"]
    assert subject.Subject.from_json(json.loads(json.dumps(mine.to_json()))) == mine
    (addresses,) = subject.find(str(tmp_path / "addresses"), str(file))
    assert (addresses.kind, addresses.ipam["type"]) == ("ipam", "addresses")


def test_a_plugin_of_unknown_kind_gets_a_plain_configuration_and_a_hint(tmp_path: Path) -> None:
    plugin = tmp_path / "mine"
    plugin.write_text("#!/bin/sh\n")
    plugin.chmod(0o755)
    (found,) = subject.find(str(plugin), None)
    assert found.kind == "interface"
    assert "--config FILE" in found.hint


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nosuch", "one of those installed"),
        ("cni-json.bash", "one of those installed"),
        ("{}/nosuch", "no such file"),
        ("{}", "an executable file"),
        ("{}/text", "chmod"),
        ("{}/nosuch.conflist", "a file that exists"),
        ("dhcp", "a DHCP server"),
        ("host-device", "a device of the host"),
    ],
)
def test_a_target_that_cannot_be_checked_is_refused(target: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    with pytest.raises(BadInput) as refused:
        subject.find(target.format(tmp_path), None)
    assert words in str(refused.value)


def test_every_template_is_of_its_kind() -> None:
    for name, template in TEMPLATES.items():
        if not template.needs and template.kind == "ipam":
            assert template.plugin["ipam"]["type"] == name
        if template.behind:
            assert template.kind == "chained"
