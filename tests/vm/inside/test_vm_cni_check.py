"""cni-check on a plugin whose devices not every kernel has.

Where all is emulated a call takes seconds, and many at once take their time: they have longer until their deadline.
"""

from __future__ import annotations

import json

from running_lab import MININETES, run

PATIENT = ("--timeout", "120")


def test_bash_ipvlan_passes_every_rule() -> None:
    argv = [*MININETES, "cni-check", "bash-ipvlan", "--cni-version", "1.1.0", "-o", "json", *PATIENT]
    done = run(argv, timeout_s=1500)
    assert done.stdout, done.stderr
    (report,) = json.loads(done.stdout)
    failed = {each["rule"]: each["seen"] for each in report["verdicts"] if each["outcome"] == "failed"}
    assert failed == {}
    assert done.status == 0
    assert report["passed"] > 50
    done_at_once = {each["rule"]: each["outcome"] for each in report["verdicts"] if "parallel" in each["rule"]}
    assert set(done_at_once.values()) == {"passed"}, done_at_once
