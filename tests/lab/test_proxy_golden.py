"""Rules for the 23 cases, ours and kube-proxy's, each loaded into a namespace and read back with the same tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netbox
import pytest
import rule_dumps

from mininetes.agents.kubeproxy.compiling import compiled
from mininetes.agents.kubeproxy.objects import read_objects
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset, NftablesRuleset
from mininetes.kernel.netns import add_named, delete_named
from mininetes.kernel.processes import Namespaces
from mininetes.kernel.processes import run as run_process

GOLDEN = Path(__file__).parents[1] / "golden" / "kube-proxy-1.30"
CASES = sorted(path.stem for path in (GOLDEN / "objects").glob("*.json"))


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
        ruleset = compiled(objects, "node1", mode, {"clusterCIDR": "10.244.0.0/16"})
        assert isinstance(ruleset, (IptablesRuleset, NftablesRuleset))
        found[case] = [back(ruleset.text()), back((GOLDEN / mode / f"{case}.rules").read_text())]
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
