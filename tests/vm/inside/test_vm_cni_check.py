"""cni-check on a plugin whose devices not every kernel has: rules of each operation, not all of them.

Where all is emulated each takes seconds, and those with many calls at once run into their deadline.
"""

from __future__ import annotations

import json

from running_lab import MININETES, run

RULES = (
    "add-makes-interface", "result-interfaces-exist", "result-ips", "result-routes", "add-twice", "two-interfaces",
    "del-removes-interface", "del-restores-container", "del-twice", "del-netns-gone", "check-passes",
    "check-address-gone", "check-interface-gone", "gc-removes", "gc-keeps", "status-ready",
)  # fmt: skip


def test_bash_ipvlan_keeps_to_the_specification() -> None:
    rules = [word for rule in RULES for word in ("--rule", rule)]
    done = run([*MININETES, "cni-check", "bash-ipvlan", "--cni-version", "1.1.0", "-o", "json", *rules], timeout_s=400)
    assert done.stdout, done.stderr
    (report,) = json.loads(done.stdout)
    failed = {each["rule"]: each["seen"] for each in report["verdicts"] if each["outcome"] == "failed"}
    assert failed == {}
    assert done.status == 0
    assert report["passed"] >= len(RULES) - 2, report  # some do not apply to every kind
