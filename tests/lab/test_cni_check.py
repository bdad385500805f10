"""cni-check on right plugins, on the reference plugins, and on plugins with one defect each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from running_lab import MININETES, REPOSITORY, Done, run
from wrong_plugins import WRONG, Wrong

from mininetes.testbed.cni_check.all_rules import RULES

SCRIPTS = REPOSITORY / "cni_scripts"
NEWEST = "1.1.0"
TOGETHER = 6
CONFIGURATION: dict[str, dict[str, Any]] = {
    "ipam": {
        "type": "bash-bridge",
        "ipam": {"type": "WRONG", "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]},
    },
    "chained": {"type": "WRONG", "sysctl": {"net.ipv4.conf.all.log_martians": "1"}},
}
FIRST = {"type": "bridge", "isGateway": True, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]]}}
REAL = {"interface": "bash-bridge", "ipam": "bash-host-local", "chained": "/usr/lib/cni/tuning"}

OLD_LIBRARY = {"version-echoes", "command-missing", "container-id-wrong", "ifname-wrong", "error-version"}
"""What every plugin built with libcni 1.1 does not do to the letter."""

REFERENCE = {
    "bridge": OLD_LIBRARY | {"two-interfaces", "delegate-undone"},
    "ptp": OLD_LIBRARY | {"two-interfaces", "delegate-undone"},
    "macvlan": OLD_LIBRARY | {"delegate-undone"},
    "host-local": OLD_LIBRARY,
    "portmap": OLD_LIBRARY | {"check-passes"},
}
BY_CHANCE = {"killed-add"}
"""With the reference plugins this is so or so, by the moment of the kill."""


def check(*arguments: str) -> Done:
    return run([*MININETES, "cni-check", *arguments])


def reports(*arguments: str, status: int | None = None) -> dict[str, dict[str, Any]]:
    """The reports by the plugins' names."""
    done = check(*arguments, "-o", "json")
    assert done.stdout, done.stderr
    assert status in (None, done.status), done.stdout
    return {report["plugin"]: report for report in json.loads(done.stdout)}


def red(report: dict[str, Any]) -> dict[str, str]:
    """The rules that failed, with what was seen."""
    return {each["rule"]: each["seen"] for each in report["verdicts"] if each["outcome"] == "failed"}


def batches() -> Iterator[Sequence[Wrong]]:
    """The defective plugins, a few of one kind at a time."""
    for kind in ("interface", "ipam", "chained"):
        of_kind = [wrong for wrong in WRONG if wrong.kind == kind]
        yield from (of_kind[start : start + TOGETHER] for start in range(0, len(of_kind), TOGETHER))


def test_there_is_a_defect_for_every_rule() -> None:
    assert sorted(wrong.rule for wrong in WRONG) == sorted(RULES)


@pytest.mark.parametrize("batch", list(batches()), ids=lambda batch: batch[0].rule)
def test_each_defect_turns_its_rule_red_and_no_other(batch: Sequence[Wrong], tmp_path: Path) -> None:
    rules = list(itertools.chain.from_iterable(("--rule", wrong.rule) for wrong in batch))
    version = "1.0.0" if batch[0].kind == "chained" else NEWEST
    found: dict[str, dict[str, str]] = {}
    for targets in of_kind(batch, tmp_path):
        for name, report in reports(*targets, *rules, "--cni-version", version, status=1).items():
            found[name.removeprefix("wrong-")] = red(report)
    for wrong in batch:
        allowed = {each.rule for each in batch} if wrong.also == ("all",) else {wrong.rule, *wrong.also}
        assert wrong.rule in found[wrong.rule], found
        assert found[wrong.rule].keys() <= allowed, {wrong.rule: found[wrong.rule]}


def of_kind(batch: Sequence[Wrong], folder: Path) -> Iterator[list[str]]:
    """What the command gets: all plugins at once, or one by one where each has a configuration."""
    paths = [wrong.write(folder, SCRIPTS / REAL[wrong.kind]) for wrong in batch]
    if batch[0].kind == "interface":
        yield list(map(str, paths))
        return
    for path in paths:
        plugin = json.loads(json.dumps(CONFIGURATION[batch[0].kind]).replace("WRONG", path.name))
        plugins = [FIRST, plugin] if batch[0].kind == "chained" else [plugin]
        configuration = folder / f"{path.name}.conflist"
        configuration.write_text(json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": plugins}))
        yield [str(path), "--config", str(configuration)]


@pytest.mark.parametrize("plugin", ["bash-bridge", "bash-macvlan", "bash-host-local"])
def test_ours_pass_every_rule(plugin: str) -> None:
    report = reports(plugin)[plugin]
    assert red(report) == {}
    assert report["versions"] == ["0.4.0", "1.0.0", "1.1.0"]
    assert report["passed"] > 100


def test_the_reference_plugins_fail_the_rules_that_are_known() -> None:
    found = reports(*REFERENCE, "--cni-version", "1.0.0", status=1)
    assert {name: red(report).keys() - BY_CHANCE for name, report in found.items()} == REFERENCE
    assert found["portmap"]["kind"] == "chained"
    assert "ipv6" in red(found["portmap"])["check-passes"]


def test_old_versions_are_tested_in_their_own_shape() -> None:
    rules = ("add-succeeds", "result-shape", "result-ips", "result-routes", "result-version", "version-echoes")
    chosen = [word for each in rules for word in ("--rule", each)]
    report = reports("bridge", *chosen, status=1)["bridge"]
    assert report["versions"] == ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"]
    outcomes = {(each["rule"], each["version"]): each["outcome"] for each in report["verdicts"]}
    assert outcomes["result-shape", "0.2.0"] == outcomes["result-shape", "0.3.1"] == "passed"
    assert outcomes["version-echoes", "0.4.0"] == "not applicable"
    assert outcomes["version-echoes", "1.0.0"] == "failed"


def test_a_conflist_is_tested_plugin_by_plugin_in_its_place(tmp_path: Path) -> None:
    junit = tmp_path / "cni.xml"
    configuration = tmp_path / "10-net.conflist"
    plugins = [FIRST, {"type": "portmap", "capabilities": {"portMappings": True}}]
    configuration.write_text(json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": plugins}))
    chosen = ("--rule", "add-succeeds", "--rule", "prev-result-kept", "--rule", "command-missing")
    done = check(str(configuration), *chosen, "--cni-version", "1.0.0", "--junit", str(junit))
    assert done.status == 1
    for text in ("bridge, interface plugin", "host-local, ipam plugin", "portmap, chained plugin", "section 5 Error"):
        assert text in done.stdout
    suites = {suite.get("name"): suite for suite in Xml.parse(junit).getroot()}
    assert list(suites) == ["bridge", "host-local", "portmap"]
    cases = {case.get("name"): case for case in suites["portmap"]}
    assert suites["portmap"].get("failures") == "1"
    assert cases["command-missing"].find("failure") is not None
    assert list(cases["prev-result-kept"]) == []
    assert next(iter(suites["bridge"].findall("testcase/skipped"))).get("message") == "it is about chained plugins"


def test_rules_that_need_a_right_result_are_not_tested_with_a_wrong_one(tmp_path: Path) -> None:
    wrong = Wrong("result-shape", """is ADD && edit '"interface": 2' '"interface": 7'""")
    path = wrong.write(tmp_path, SCRIPTS / "bash-bridge")
    chosen = ("result-shape", "result-routes", "result-macs", "check-passes", "add-succeeds")
    rules = [word for each in chosen for word in ("--rule", each)]
    (report,) = reports(str(path), *rules, "--cni-version", NEWEST, status=1).values()
    assert list(red(report)) == ["result-shape"]
    reasons = {each["rule"]: each.get("reason", "") for each in report["verdicts"]}
    assert reasons["result-routes"].startswith("not tested: the result is unusable (see result-shape)")
    assert reasons["add-succeeds"] == ""


def test_plugins_that_go_before_are_called_once_for_a_container() -> None:
    rules = ("--rule", "name-wrong", "--rule", "error-codes", "--rule", "error-version")
    found = reports("chained.conflist", *rules, "--cni-version", "1.0.0")
    outcomes = {each["rule"]: each["outcome"] for each in found["firewall"]["verdicts"]}
    assert "not applicable" not in outcomes.values(), found["firewall"]["verdicts"]


def test_what_is_no_plugin_is_said_so(tmp_path: Path) -> None:
    silent, hanging = tmp_path / "silent", tmp_path / "no-interpreter"
    silent.write_text("#!/bin/sh\nexit 0\n")
    hanging.write_text("#!/nowhere\n")
    for path in (silent, hanging):
        path.chmod(0o755)
    found = reports(str(silent), str(hanging), status=1)
    for report in found.values():
        assert list(red(report)) == ["version-answers"]
        assert report["versions"] == []
        assert "--config FILE" in report["hint"]


def test_the_rules_are_listed_without_a_lab() -> None:
    done = check("--list", "-o", "json")
    assert done.status == 0
    listed = {each["id"]: each for each in json.loads(done.stdout)}
    assert list(listed) == list(RULES)
    assert listed["gc-removes"]["since"] == "1.1.0"
    assert all(each["section"][0] in "12345" and each["level"] in ("must", "should") for each in listed.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["README.md"], "executable"),
        (["{}/broken.conflist"], "broken.conflist: not JSON"),
        (["{}/unknown.conflist"], "unknown.conflist: type: 'nosuch'"),
        (["bridge", "--config", "{}/unknown.conflist"], "unknown.conflist: type: 'nosuch'"),
        (["bridge", "--rule", "nosuch"], "--rule: 'nosuch'"),
        (["bridge", "--cni-version", "one"], "--cni-version: 'one'"),
        (["bridge", "--cni-version", "1.1.0"], "a version that bridge announces"),
        (["bridge", "--junit", "/nowhere/x.xml"], "--junit"),
        ([], "what to check"),
    ],
)
def test_bad_input_is_one_error(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.conflist").write_text('{"cniVersion": ')
    unknown = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "nosuch"}]}
    (tmp_path / "unknown.conflist").write_text(json.dumps(unknown))
    done = check(*(word.format(tmp_path) for word in arguments))
    assert done.status == 2, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


SLOW = """#!/bin/sh
[ "$CNI_COMMAND" = VERSION ] && echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' && exit
exec sleep 100
"""


def test_how_long_a_call_may_take_can_be_said(tmp_path: Path) -> None:
    plugin = tmp_path / "slow"
    plugin.write_text(SLOW)
    plugin.chmod(0o755)
    found = reports(str(plugin), "--rule", "add-makes-interface", "--timeout", "0.5", status=1)
    assert "ADD was not done in time" in red(found["slow"])["add-makes-interface"]
    assert check(str(plugin), "--timeout", "0").status == 2
