"""What experiments on services work with: services in memory, what outages mean, mishaps, and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mininetes.agents.kubeproxy.rulesets import IptablesRuleset, NftablesRuleset
from mininetes.agents.kubeproxy.view_builder import NodeFacts
from mininetes.errors import BadInput
from mininetes.experiments import lab_memory, mishaps, outages, service_state
from mininetes.experiments.outages import Asked
from mininetes.spec import describe
from mininetes.testbed.blueprint import draw

PODS = "10.244.0.0/16"
NODE = NodeFacts("node1", "192.168.1.11", addresses=("192.168.1.11",))
ENDS = (service_state.End("10.244.1.2", "node1"), service_state.End("10.244.2.2", "node2"))


def test_services_are_probed_all_over_the_list() -> None:
    found = service_state.spread(30000, 100, seed=3)
    assert len(set(found)) == 100
    assert [number // 300 for number in found] == list(range(100))
    assert found == service_state.spread(30000, 100, seed=3) != service_state.spread(30000, 100, seed=4)
    assert service_state.spread(3, 10, seed=1) == [0, 1, 2]


def test_a_services_number_is_its_place_among_the_rules() -> None:
    ruleset = service_state.compiled("iptables-nft", service_state.Services(120, ENDS), NODE, PODS)
    assert isinstance(ruleset, IptablesRuleset)
    lines = ruleset.chains["nat", "KUBE-SERVICES"]
    assert [line.split()[3] for line in lines[:120]] == [f"{service_state.address_of(n)}/32" for n in range(120)]


def test_the_rules_on_the_way_keep_every_dispatching_rule_and_the_probed_chains() -> None:
    whole = service_state.compiled("iptables-nft", service_state.Services(50, ENDS), NODE, PODS)
    alone = service_state.on_the_way(whole, [7, 30])
    assert isinstance(whole, IptablesRuleset)
    assert isinstance(alone, IptablesRuleset)
    nat = ("nat", "KUBE-SERVICES")
    assert len(alone.chains[nat]) == len(whole.chains[nat])
    same = [n for n, (a, b) in enumerate(zip(alone.chains[nat], whole.chains[nat], strict=True)) if a == b]
    assert same == [7, 30, 50]  # the two, and the last rule: node ports
    targets = [line.rpartition(" -j ")[2] for line in alone.chains[nat]]
    assert all(("nat", target) in alone.chains for target in targets)
    own = [name for _, name in alone.chains if name.startswith(("KUBE-SVC-", "KUBE-SEP-"))]
    assert len(own) == 2 * (1 + 2) + 1
    assert all(alone.chains["nat", name] == whole.chains["nat", name] for name in own if "LEFT" not in name)


def test_the_same_in_mode_nftables() -> None:
    whole = service_state.compiled("nftables", service_state.Services(50, ENDS), NODE, PODS)
    alone = service_state.on_the_way(whole, [7, 30])
    assert isinstance(whole, NftablesRuleset)
    assert isinstance(alone, NftablesRuleset)
    before, after = whole.containers["service-ips"].elements, alone.containers["service-ips"].elements
    assert list(before) == list(after)
    assert [place for place, key in enumerate(before) if before[key] == after[key]] == [7, 30]
    assert all(rest.rpartition(" goto ")[2] in alone.chains for rest in after.values())
    assert len([name for name in alone.chains if name.startswith("endpoint-")]) == 4
    assert {name for name in whole.chains if "/" not in name} < set(alone.chains)


def test_modes_that_write_no_list_are_refused_by_name() -> None:
    for mode in ("ipvs", "userspace", "iptables"):
        with pytest.raises(BadInput, match=mode):
            service_state.checked_mode(mode)


# outages


def asked(*answers: str) -> list[Asked]:
    """One question each second from 0 on."""
    return [Asked(float(second), pod) for second, pod in enumerate(answers)]


@pytest.mark.parametrize(
    ("answers", "since", "expected"),
    [
        (("a", "a", "a"), 1.0, 0.0),
        (("a", "", "a", "", "a"), 1.0, 3.0),
        (("", "a", "a"), 1.0, 0.0),
        (("a", "a", ""), 1.0, None),
        (("a", "", ""), 0.5, None),
        (("a",), 1.0, None),
    ],
)
def test_wrong_lasts_until_the_first_answer_after_the_last_question_without(
    answers: tuple[str, ...], since: float, expected: float | None
) -> None:
    assert outages.wrong_for(asked(*answers), since) == expected


def test_one_answer_after_many_questions_without_is_not_right_for_good() -> None:
    found = asked("a", "", "a", "a", "a")
    assert outages.wrong_for(found, 1.0, for_s=2.0) == 1.0
    assert outages.wrong_for(found, 1.0, for_s=2.1) is None
    assert outages.wrong_for(found[:2] + found[:1], 0.0, for_s=0.1) is None


def test_use_of_an_endpoint_begins_with_its_first_answer() -> None:
    found = asked("b", "a", "a", "b")
    assert outages.used_after(found, 1.0, "b") == 2.0
    assert outages.used_after(found, 1.0, "c") is None
    assert outages.count_wrong(asked("", "a", "", ""), 1.0) == 2


def test_the_switchs_side_of_a_nodes_cable_is_found() -> None:
    class Drawn:
        blueprint = draw(describe({"controlPlane": {"store": "none"}, "nodes": {"workers": 3}}))

    drawn: Any = Drawn()
    found = [mishaps.switch_ports(drawn, f"node{number}") for number in (1, 2, 3, 4)]
    assert len({port for (port,) in found}) == 4
    with pytest.raises(BadInput, match="node9"):
        mishaps.switch_ports(drawn, "node9")


# memory


def test_memory_is_summed_from_the_kernels_books(tmp_path: Path) -> None:
    for pid, kib in (("1", 100), ("42", 23)):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "smaps_rollup").write_text(
            f"00400000-7ffe ---p 0 00:00 0 [rollup]\nRss: 999 kB\nPss: {kib} kB\n"
        )
    (tmp_path / "43").mkdir()  # it ended just now
    (tmp_path / "meminfo").write_text("MemTotal: 5000 kB\nSlab: 10 kB\nPercpu: 5 kB\nHugePages_Total: 0\n")
    assert lab_memory.process_bytes(tmp_path) == 123 * 1024
    assert lab_memory.kernel_bytes(tmp_path) == 15 * 1024
