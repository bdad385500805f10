"""Rules for the 23 cases, ours and kube-proxy's, each loaded into a namespace and read back with the same tool."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import netbox
import pytest
import rule_dumps

from mininetes.agents.kubeproxy.compiling import compiled
from mininetes.agents.kubeproxy.objects import read_objects
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset, IpvsRuleset, NftablesRuleset
from mininetes.kernel.netns import add_named, delete_named
from mininetes.kernel.processes import Namespaces
from mininetes.kernel.processes import run as run_process

GOLDEN = Path(__file__).parents[1] / "golden" / "kube-proxy-1.30"
CASES = sorted(path.stem for path in (GOLDEN / "objects").glob("*.json"))
CONFIG = {"clusterCIDR": "10.244.0.0/16"}


def loaded(mode: Any, restore: list[str], save: list[list[str]]) -> dict[str, list[str]]:
    """In the sandbox: each case's rules, ours and theirs, as they are saved after they were restored."""

    def back(text: str) -> str:
        path = "/run/netns/loaded"
        add_named(path)
        where = Namespaces(net=path)
        run_process(restore, stdin=text, namespaces=where)
        saved = "".join(run_process(each, namespaces=where).stdout for each in save)
        delete_named(path)
        return saved

    found = {}
    for case in CASES:
        objects = read_objects(GOLDEN / "objects" / f"{case}.json")
        ruleset = compiled(objects, "node1", mode, CONFIG)
        assert isinstance(ruleset, (IptablesRuleset, NftablesRuleset))
        found[case] = [back(ruleset.text()), back((GOLDEN / mode / f"{case}.rules").read_text())]
    return found


def loaded_with_sets() -> dict[str, list[str]]:
    """In the sandbox: of mode ipvs the ipsets and the iptables rules that use them, ours and theirs, read back.

    Virtual servers, and the one rule that matches by them, need a kernel with ip_vs.
    """

    def back(text: str) -> str:
        path = "/run/netns/loaded"
        add_named(path)
        where = Namespaces(net=path)
        lines = [line for line in text.splitlines() if " -m ipvs " not in line]
        sets = [re.sub(r" (bucketsize|initval) \S+", "", line) for line in lines if re.match("(create|add) KUBE", line)]
        rules = [line for line in lines if line.startswith(("*", ":", "COMMIT")) or re.match("-A [A-Z]", line)]
        run_process(["ipset", "restore"], stdin="\n".join(sets) + "\n", namespaces=where)
        run_process(["iptables-nft-restore"], stdin="\n".join(rules) + "\n", namespaces=where)
        saved = [["ipset", "save"], ["iptables-nft-save", "-t", "nat"], ["iptables-nft-save", "-t", "filter"]]
        said = "".join(run_process(each, namespaces=where).stdout for each in saved)
        delete_named(path)
        return said

    found = {}
    for case in CASES:
        ruleset = compiled(read_objects(GOLDEN / "objects" / f"{case}.json"), "node1", "ipvs", CONFIG)
        assert isinstance(ruleset, IpvsRuleset)
        theirs = (GOLDEN / "ipvs" / f"{case}.rules").read_text()
        found[case] = [back(ruleset.ipset_text() + ruleset.iptables.text()), back(theirs)]
    return found


def check(found: dict[str, list[str]], meaning: Any) -> None:
    wrong = {
        case: list(rule_dumps.differences(meaning(ours), meaning(theirs))) for case, (ours, theirs) in found.items()
    }
    assert not any(wrong.values()), "\n".join(f"{case}: {line}" for case, lines in wrong.items() for line in lines)


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_iptables_restores_ours_as_it_does_kube_proxys(backend: str) -> None:
    save = [[f"iptables-{backend}-save", "-t", table] for table in ("nat", "filter")]
    found = netbox.run(loaded, "iptables", [f"iptables-{backend}-restore"], save)
    assert len(found) == 23
    assert all("KUBE-SERVICES" in text for texts in found.values() for text in texts)
    check(found, rule_dumps.iptables)


def test_nft_lists_ours_as_it_does_kube_proxys() -> None:
    found = netbox.run(loaded, "nftables", ["nft", "-f", "-"], [["nft", "list", "table", "ip", "kube-proxy"]])
    assert len(found) == 23
    assert all("chain services" in text for texts in found.values() for text in texts)
    check(found, rule_dumps.nftables)


def test_ipset_and_iptables_restore_those_of_mode_ipvs() -> None:
    found = netbox.run(loaded_with_sets)
    assert len(found) == 23
    assert all("KUBE-CLUSTER-IP" in text and "KUBE-IPVS-FILTER" in text for texts in found.values() for text in texts)
    check(found, rule_dumps.ipvs)
