"""cni-check on plugins whose devices not every kernel has."""

from __future__ import annotations

import json

from running_lab import MININETES, run


def test_bash_ipvlan_passes_every_rule() -> None:
    done = run([*MININETES, "cni-check", "bash-ipvlan", "--cni-version", "1.1.0", "-o", "json"], timeout_s=600)
    assert done.stdout, done.stderr
    (report,) = json.loads(done.stdout)
    failed = {each["rule"]: each["seen"] for each in report["verdicts"] if each["outcome"] == "failed"}
    assert failed == {}
    assert done.status == 0
    assert report["passed"] > 50
