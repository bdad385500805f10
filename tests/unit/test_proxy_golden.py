"""Rules for the 23 cases that a real kube-proxy 1.30 was given, compared by meaning with what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import rule_dumps

from mininetes.agents.kubeproxy.compiling import compiled
from mininetes.agents.kubeproxy.objects import read_objects
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset, IpvsRuleset, NftablesRuleset

GOLDEN = Path(__file__).parents[1] / "golden" / "kube-proxy-1.30"
CASES = sorted(path.stem for path in (GOLDEN / "objects").glob("*.json"))
CONFIG = {"clusterCIDR": "10.244.0.0/16"}


def dump(mode: str, case: str) -> str:
    return (GOLDEN / mode / f"{case}.rules").read_text()


def check(ours: rule_dumps.Meaning, theirs: rule_dumps.Meaning) -> None:
    found = list(rule_dumps.differences(ours, theirs))
    assert not found, "\n".join(found)


def test_there_are_23_cases_and_each_has_a_dump_of_every_mode() -> None:
    assert len(CASES) == 23
    for mode in ("iptables", "nftables", "ipvs"):
        assert sorted(path.stem for path in (GOLDEN / mode).glob("*.rules")) == CASES


@pytest.mark.parametrize("case", CASES)
def test_iptables_rules_are_those_of_kube_proxy(case: str) -> None:
    ruleset = compiled(read_objects(GOLDEN / "objects" / f"{case}.json"), "node1", "iptables", CONFIG)
    assert isinstance(ruleset, IptablesRuleset)
    check(rule_dumps.iptables(ruleset.text()), rule_dumps.iptables(dump("iptables", case)))


@pytest.mark.parametrize("case", CASES)
def test_ipvs_servers_sets_and_rules_are_those_of_kube_proxy(case: str) -> None:
    ruleset = compiled(read_objects(GOLDEN / "objects" / f"{case}.json"), "node1", "ipvs", CONFIG)
    assert isinstance(ruleset, IpvsRuleset)
    text = ruleset.ipvsadm_text() + ruleset.ipset_text() + ruleset.addresses_text() + ruleset.iptables.text()
    check(rule_dumps.ipvs(text), rule_dumps.ipvs(dump("ipvs", case)))


@pytest.mark.parametrize("case", CASES)
def test_nftables_chains_and_elements_are_those_of_kube_proxy(case: str) -> None:
    """As far as text alone tells; tests/lab loads both and compares what nft lists."""
    ruleset = compiled(read_objects(GOLDEN / "objects" / f"{case}.json"), "node1", "nftables", CONFIG)
    assert isinstance(ruleset, NftablesRuleset)
    theirs = rule_dumps.nftables(dump("nftables", case))
    chains = {
        name: [line for line in lines if not line.startswith(("type ", "comment "))]
        for (kind, name), lines in theirs.items()
        if kind == "chain"
    }
    ours = {name: [_as_listed(rule) for rule in rules] for name, rules in ruleset.chains.items()}
    assert ours == chains
    elements = {name: each[1] for (kind, name), each in theirs.items() if kind != "chain"}
    assert {
        name: sorted(key + rest for key, rest in each.elements.items()) for name, each in ruleset.containers.items()
    } == elements


def _as_listed(rule: str) -> str:
    """nft lists an anonymous set of one element without braces."""
    return rule.replace("!= { 203.0.113.0/24 } ", "!= 203.0.113.0/24 ")
