"""What `mininetes doctor` finds on a kernel that has everything."""

from __future__ import annotations

import json

import pytest
from running_lab import mininetes

from mininetes.kernel import features

EVERYTHING = ("br_netfilter", "ip_vs", "ipset", "dummy", "netem", "ipvlan", "macvlan", "vxlan", "tbf", "htb")


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, str]]:
    features.complete_path()
    done = mininetes("doctor", "-o", "json", timeout_s=300)
    assert done.status == 0, done
    return {each["name"]: each for each in json.loads(done.stdout) if each["kind"] == "feature"}


@pytest.mark.parametrize("name", EVERYTHING)
def test_doctor_finds(name: str, verdicts: dict[str, dict[str, str]]) -> None:
    assert verdicts[name]["verdict"] == "here", verdicts[name]


def test_what_is_required_is_here(verdicts: dict[str, dict[str, str]]) -> None:
    assert [name for name, each in verdicts.items() if each["required"] and each["verdict"] != "here"] == []
