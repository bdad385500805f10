"""The truth table where mode ipvs works: what services must do for everyone, and where ipvs and iptables differ.

client1, blocked1 --- gw --- node1, node2, with two pods each: the first of each is an endpoint, the second one of the
service whose life is lived to its end
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from running_lab import RunningLab, fresh_name, is_left, mininetes
from service_life import STEPS, Pace, living
from test_truth_table import SERVICES, apply, balanced, endpoints, labelled, rows
from waiting import wait_until

MODES = ("ipvs", "iptables")
SLOWLY_S = 600.0
"""Without KVM all of this is emulated."""

CONNECTIONS, PATIENTLY_S = 10, 8.0  # a SYN is sent again after 1, 3 and 7 s


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    name = fresh_name("vm")
    done = mininetes(
        "up", "--lab", name, "--nodes", "2", "--pods", "2", "--proxy", "ipvs", "-o", "json", timeout_s=SLOWLY_S
    )
    try:
        assert done.status == 0, done
        made = RunningLab(name, json.loads(done.stdout))
        for number, node in enumerate(made.nodes):
            labelled(made, f"{node}-1", {"place": "far" if number else "near", "role": "endpoint"})
        for service, spec in SERVICES.items():
            kept = {"selector": {"role": "endpoint"}, **spec}
            apply(made, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}, "spec": kept})
        balancers = [each for each, spec in SERVICES.items() if spec.get("type") == "LoadBalancer"]
        wait_until(lambda: all(balanced(made, each) for each in balancers), "balancers", within_s=SLOWLY_S, every_s=1)
        wait_until(lambda: endpoints(made, "plain") == 2, "endpoints", within_s=SLOWLY_S, every_s=1)
        yield made
    finally:
        if is_left(name):
            assert mininetes("down", name, timeout_s=SLOWLY_S).status == 0


@pytest.fixture(scope="module")
def said(lab: RunningLab) -> dict[str, Any]:
    options = [word for mode in MODES for word in ("--mode", mode)]
    # kube-dns is left out: where all is emulated its readiness probes run into their deadline now and then
    asked = [word for service in (*SERVICES, "kubernetes") for word in ("--service", service)]
    patiently = ("--connections", str(CONNECTIONS), "--timeout", str(PATIENTLY_S))
    argv = ["truth-table", "--lab", lab.name, *options, *asked, *patiently, "-o", "json"]
    for last in (False, True):  # what is wrong stays wrong; what was lost in emulation is not lost twice
        done = mininetes(*argv, timeout_s=SLOWLY_S)
        assert done.stdout, done
        if done.status == 0 or last:
            break
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "status": done.status}


def wrong(found: list[dict[str, Any]]) -> list[str]:
    """The rows that do not hold, in words."""
    return [
        f"{row['service']}: {row['source']} -> {row['to']} {row['at']}: {row['wrong']}; must: {row['expected']}"
        for row in found
        if not row["holds"]
    ]


@pytest.mark.parametrize("mode", MODES)
def test_every_service_does_for_everyone_what_it_must(said: dict[str, Any], mode: str) -> None:
    found = rows(said, mode=mode)
    assert wrong(found) == []
    named = {row["service"].partition("/")[2].partition(":")[0] for row in found}
    assert named == {*SERVICES, "kubernetes"}
    assert {row["who"] for row in found} == {"node", "pod", "endpoint itself", "outside"}


def test_modes_differ_where_it_is_declared_alone(said: dict[str, Any]) -> None:
    undeclared = [each for each in said["differences"] if not each["declared"]]
    assert [f"{' '.join(each['question'])}: {each['measured']}" for each in undeclared] == []
    reasons = {each["reason"] for each in said["differences"]}
    assert "ipvs has no node ports on localhost" in reasons
    assert "ipvs refuses where its virtual server is empty, instead of dropping" in reasons
    assert said["status"] == 0


def test_the_lab_has_its_own_mode_again(lab: RunningLab, said: dict[str, Any]) -> None:
    assert said["lines"]
    for node in lab.nodes:
        assert "-A -t 10.96.0.1:443 -s rr" in lab.exec(node, "ipvsadm", "-Sn")
        assert "KUBE-SVC-" not in lab.exec(node, "iptables-save", "-t", "nat")


def test_each_step_of_a_services_life_is_in_every_kernel_and_nothing_stale_is_left(lab: RunningLab) -> None:
    # kube-proxy's minSyncPeriod is 0 in mode ipvs anyway
    pace = Pace(latest_s=120.0, table_s=SLOWLY_S, connections=CONNECTIONS, timeout_s=PATIENTLY_S, tries=2)
    with living(lab, "ipvs", [f"{node}-2" for node in lab.nodes], pace) as life:
        before = life.rules()
        life.cycle(table=True)
        assert [(name, wrong(found)) for name, found in life.tables if found] == []
        assert [name for name, _ in life.tables] == [*STEPS[:-1]]
        wait_until(lambda: life.rules() == before, "all is as before the service came", within_s=120.0, every_s=1)
