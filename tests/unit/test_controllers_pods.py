"""Replica sets, daemon sets and deployments: what is to be made and ended, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mininetes.agents.controllers import daemonsets, replicasets
from mininetes.agents.controllers.pod_sets import claim, first_to_end, pod_from_template, template_hash
from mininetes.agents.controllers.rollout import (
    HASH,
    REVISION,
    REVISION_HISTORY,
    Limits,
    current_set,
    limits,
    new_set,
    outdated,
    scaled,
    set_annotations,
)
from mininetes.agents.controllers.rollout_status import deadline_left, status_of
from mininetes.agents.objects import MIRROR, owned_by, rfc3339

NOW = 1_700_000_000.0


def names(cases: list[Any]) -> list[str]:
    return [case[0] for case in cases]


def pod(
    name: str,
    *,
    node: str = "node1",
    phase: str = "Running",
    ready: bool = True,
    since: float = NOW - 100,
    born: float = NOW - 200,
    restarts: int = 0,
    labels: dict[str, str] | None = None,
    owner: str = "",
    **metadata: Any,
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": rfc3339(since)}
    meta = {"name": name, "namespace": "default", "uid": name, "labels": labels or {}, **metadata}
    meta["creationTimestamp"] = rfc3339(born)
    if owner:
        meta["ownerReferences"] = [{"uid": owner, "kind": "ReplicaSet", "name": owner, "controller": True}]
    status = {"phase": phase, "conditions": [condition], "containerStatuses": [{"restartCount": restarts}]}
    return {"metadata": meta, "spec": {"nodeName": node} if node else {}, "status": status}


PAIRS = [
    # the pod that goes, the pod that stays
    (pod("a", node=""), pod("b")),
    (pod("b", phase="Pending", ready=False), pod("a", ready=False)),
    (pod("b", ready=False), pod("a")),
    (pod("b", annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"}), pod("a")),
    (pod("b", since=NOW - 10), pod("a", since=NOW - 20)),
    (pod("b", restarts=3), pod("a")),
    (pod("b", born=NOW - 150), pod("a", born=NOW - 160)),
    (pod("a"), pod("b")),
]


@pytest.mark.parametrize(("goes", "stays"), PAIRS)
def test_of_two_pods_the_less_useful_one_goes(goes: Any, stays: Any) -> None:
    assert first_to_end([stays, goes], 1) == [goes]
    assert first_to_end([goes, stays], 1) == [goes]


def test_pods_that_share_a_node_go_before_one_that_is_alone() -> None:
    pods = [pod("a", node="node1"), pod("b", node="node2"), pod("c", node="node2")]
    assert first_to_end(pods, 1)[0]["spec"]["nodeName"] == "node2"


def test_what_is_left_stays_spread_over_the_nodes() -> None:
    pods = [pod(f"{name}{n}", node=name, since=NOW - n) for name in ("node1", "node2") for n in range(3)]
    left = [each["spec"]["nodeName"] for each in pods if each not in first_to_end(pods, 4)]
    assert sorted(left) == ["node1", "node2"]


def replicaset(replicas: int, **more: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web", "tier": "front"}}, "spec": {"containers": [{"name": "c"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **more}
    metadata = {"name": "web-1", "namespace": "default", "uid": "rs", "generation": 4}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec}


REPLICAS: list[Any] = [
    ("missing ones are made", replicaset(3), [pod("a")], 2, []),
    ("surplus ones go", replicaset(1), [pod("a"), pod("b", ready=False)], 0, ["b"]),
    ("as many as wanted", replicaset(1), [pod("a")], 0, []),
    ("finished pods do not count", replicaset(1), [pod("a", phase="Failed")], 1, []),
    ("ending pods do not count", replicaset(1), [pod("a", deletionTimestamp="x")], 1, []),
    ("none wanted", replicaset(0), [pod("a")], 0, ["a"]),
    ("no more than 500 at once", replicaset(2000), [], 500, []),
]


@pytest.mark.parametrize(("wanted", "pods", "create", "delete"), [c[1:] for c in REPLICAS], ids=names(REPLICAS))
def test_replicas(wanted: Any, pods: Any, create: int, delete: list[str]) -> None:
    plan = replicasets.plan(wanted, pods, NOW)
    assert (plan.create, [each["metadata"]["name"] for each in plan.delete]) == (create, delete)


def test_a_replica_set_that_goes_makes_and_ends_nothing() -> None:
    going = replicaset(3)
    going["metadata"]["deletionTimestamp"] = "x"
    plan = replicasets.plan(going, [pod("a")], NOW)
    assert (plan.create, list(plan.delete)) == (0, [])


def test_the_status_counts_what_is_ready_and_for_how_long() -> None:
    both = {"app": "web", "tier": "front"}
    pods = [pod("a", labels=both), pod("b", since=NOW - 3), pod("c", ready=False)]
    plan = replicasets.plan(replicaset(3, minReadySeconds=5), pods, NOW)
    assert plan.status == {
        "replicas": 3,
        "fullyLabeledReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 4,
    }
    assert plan.again_s == pytest.approx(2.0)


def test_pods_are_owned_adopted_and_let_go() -> None:
    labels = {"app": "web"}
    pods = [
        pod("mine", labels=labels, owner="rs"),
        pod("orphan", labels=labels),
        pod("others", labels=labels, owner="another"),
        pod("relabelled", labels={"app": "x"}, owner="rs"),
        pod("stranger"),
        pod("ending", labels=labels, deletionTimestamp="x"),
    ]
    found = claim(replicaset(1), pods)
    names = [[each["metadata"]["name"] for each in group] for group in (found.owned, found.adopt, found.release)]
    assert names == [["mine"], ["orphan"], ["relabelled"]]


def test_a_pod_is_made_from_its_template_and_owned() -> None:
    owner = replicaset(1)
    made = pod_from_template(owner, owner["spec"]["template"])
    assert made["metadata"]["generateName"] == "web-1-"
    assert made["metadata"]["labels"] == {"app": "web", "tier": "front"}
    assert owned_by(made, owner)
    made["spec"]["containers"].append({})
    assert len(owner["spec"]["template"]["spec"]["containers"]) == 1


def test_template_hashes_differ_with_the_template_and_with_collisions() -> None:
    template = replicaset(1)["spec"]["template"]
    hashes = {template_hash(template), template_hash(template, 1), template_hash({**template, "spec": {}})}
    assert len(hashes) == 3
    assert template_hash(dict(reversed(template.items()))) == template_hash(template)


# Deployments


def deployment(replicas: int = 4, image: str = "v2", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    metadata = {"name": "web", "namespace": "default", "uid": "d", "generation": 2, "annotations": {"mine": "1"}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def made_set(image: str, replicas: int, *, available: int | None = None, revision: int = 1, age: float = 100.0) -> Any:
    made = new_set(deployment(image=image), revision, replicas)
    made["metadata"] |= {"uid": image, "creationTimestamp": rfc3339(NOW - age), "generation": 1}
    there = replicas if available is None else available
    made["status"] = {
        "replicas": replicas,
        "readyReplicas": there,
        "availableReplicas": there,
        "observedGeneration": 1,
    }
    return made


LIMITS = [
    (4, {}, Limits(4, 5, 3)),
    (3, {}, Limits(3, 4, 3)),
    (1, {}, Limits(1, 2, 1)),
    (10, {"maxSurge": "25%", "maxUnavailable": "25%"}, Limits(10, 13, 8)),
    (4, {"maxSurge": 0, "maxUnavailable": 0}, Limits(4, 4, 3)),
    (4, {"maxSurge": 2, "maxUnavailable": 0}, Limits(4, 6, 4)),
    (2, {"maxSurge": 1, "maxUnavailable": "100%"}, Limits(2, 3, 0)),
    (0, {}, Limits(0, 0, 0)),
]


@pytest.mark.parametrize(("replicas", "rolling", "expected"), LIMITS)
def test_limits_of_a_rolling_update(replicas: int, rolling: dict[str, Any], expected: Limits) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    assert limits(deployment(replicas, strategy=strategy)) == expected


STEPS: list[Any] = [
    # what, deployment, the new set's size and available ones, the old one's, next sizes (new, old)
    ("the surge first", deployment(), (0, 0), (4, 4), (1, 4)),
    ("then old ones within what may be missing", deployment(), (1, 0), (4, 4), (1, 3)),
    ("no further while the new ones are not there", deployment(), (2, 0), (3, 3), (2, 3)),
    ("on when one is", deployment(), (2, 1), (3, 3), (2, 2)),
    ("old ones that are not available go at once", deployment(), (1, 0), (4, 1), (1, 3)),
    ("the last old ones", deployment(), (4, 4), (1, 1), (4, 0)),
    ("scaled down in the middle", deployment(2), (4, 4), (1, 1), (2, 1)),
    ("scaled up in the middle", deployment(8), (2, 2), (3, 3), (7, 3)),
    ("Recreate ends the old ones first", deployment(strategy={"type": "Recreate"}), (0, 0), (4, 4), (0, 0)),
    ("a paused one stands still", deployment(paused=True), (2, 2), (3, 3), (2, 3)),
    ("a paused one follows its size", deployment(9, paused=True), (2, 2), (3, 3), (6, 3)),
]


@pytest.mark.parametrize(("wanted", "new", "old", "expected"), [c[1:] for c in STEPS], ids=names(STEPS))
def test_a_step_of_a_rollout(wanted: Any, new: Any, old: Any, expected: tuple[int, int]) -> None:
    current = made_set("v2", new[0], available=new[1], revision=2, age=10)
    before = made_set("v1", old[0], available=old[1])
    sizes = scaled(wanted, current, [before], old_ended=False)
    keys = [f"default/{each['metadata']['name']}" for each in (current, before)]
    assert (sizes.get(keys[0], new[0]), sizes.get(keys[1], old[0])) == expected


def test_recreate_goes_on_when_the_old_pods_have_ended() -> None:
    wanted = deployment(strategy={"type": "Recreate"})
    current, before = made_set("v2", 0), made_set("v1", 0)
    assert scaled(wanted, current, [before], old_ended=False) == {}
    assert list(scaled(wanted, current, [before], old_ended=True).values()) == [4]


def test_a_rollout_comes_to_its_end_within_its_limits() -> None:
    """Step by step, every pod becoming available after one step: never too many, never too few."""
    wanted = deployment(7)
    sets = {"v2": made_set("v2", 0, revision=2, age=1), "v1": made_set("v1", 7)}
    bounds = limits(wanted)
    for _ in range(30):
        sizes = scaled(wanted, sets["v2"], [sets["v1"]], old_ended=False)
        available = 0
        for image, each in sets.items():
            size = sizes.get(f"default/{each['metadata']['name']}", each["spec"]["replicas"])
            available += min(size, each["status"]["availableReplicas"])
            sets[image] = made_set(image, size, revision=2 if image == "v2" else 1)
        assert available >= bounds.least_available
        assert sum(each["spec"]["replicas"] for each in sets.values()) <= bounds.most
        if not sizes:
            break
    assert [sets[image]["spec"]["replicas"] for image in ("v2", "v1")] == [7, 0]


def test_the_current_set_is_found_by_its_template() -> None:
    old, new = made_set("v1", 1), made_set("v2", 1)
    assert current_set(deployment(image="v1"), [new, old]) is old
    assert current_set(deployment(image="v3"), [new, old]) is None
    assert new["metadata"]["labels"][HASH] == new["spec"]["selector"]["matchLabels"][HASH]
    assert new["spec"]["template"]["metadata"]["labels"][HASH] in new["metadata"]["name"]


def test_annotations_keep_the_history_of_revisions() -> None:
    first = set_annotations(deployment(), {}, 1)
    again = set_annotations(deployment(), set_annotations(deployment(), first, 3), 5)
    assert first == {
        "mine": "1",
        REVISION: "1",
        "deployment.kubernetes.io/desired-replicas": "4",
        "deployment.kubernetes.io/max-replicas": "5",
    }
    assert again[REVISION_HISTORY] == "1,3"


def test_old_sets_beyond_the_history_go_the_oldest_first() -> None:
    old = [made_set(f"i{n}", 0, revision=n) for n in (5, 2, 3, 4)]
    gone = outdated(deployment(revisionHistoryLimit=2), [*old, made_set("busy", 1, revision=1)])
    assert [each["metadata"]["annotations"][REVISION] for each in gone] == ["2", "3"]


def reasons(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def test_the_status_says_how_far_a_rollout_is() -> None:
    wanted = deployment()
    began = status_of(wanted, made_set("v2", 1, available=0), [made_set("v1", 4)], NOW)
    assert reasons(began) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetCreated"),
    }
    wanted["status"] = began
    on = status_of(wanted, made_set("v2", 4, available=2), [made_set("v1", 1)], NOW + 5)
    assert reasons(on)["Progressing"] == ("True", "ReplicaSetUpdated")
    assert on["updatedReplicas"] == 4
    wanted["status"] = on
    done = status_of(wanted, made_set("v2", 4), [made_set("v1", 0)], NOW + 9)
    assert reasons(done)["Progressing"] == ("True", "NewReplicaSetAvailable")
    assert done["unavailableReplicas"] == 0
    wanted["status"] = done
    assert status_of(wanted, made_set("v2", 4), [made_set("v1", 0)], NOW + 99) == done


def test_a_rollout_that_does_not_progress_says_so_after_its_deadline() -> None:
    wanted = deployment(progressDeadlineSeconds=60)
    stuck = made_set("v2", 1, available=0)
    wanted["status"] = status_of(wanted, stuck, [made_set("v1", 4)], NOW)
    assert deadline_left(wanted, NOW + 20) == pytest.approx(40)
    before = status_of(wanted, stuck, [made_set("v1", 4)], NOW + 59)
    assert reasons(before)["Progressing"] == ("True", "NewReplicaSetCreated")
    after = status_of(wanted, stuck, [made_set("v1", 4)], NOW + 61)
    assert reasons(after)["Progressing"] == ("False", "ProgressDeadlineExceeded")


# Daemon sets


def daemonset(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [], **spec}}
    wanted = {"selector": {"matchLabels": {"app": "agent"}}, "template": template}
    metadata = {"name": "agent", "namespace": "default", "uid": "ds", "generation": 1}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": wanted}


def node(name: str, *taints: tuple[str, str], **labels: str) -> dict[str, Any]:
    spec = {"taints": [{"key": key, "effect": effect} for key, effect in taints]}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def daemon(name: str, on: str, *, of: dict[str, Any], ready: bool = True) -> dict[str, Any]:
    labels = {"app": "agent", daemonsets.HASH: template_hash(of["spec"]["template"])}
    return pod(name, node=on, labels=labels, ready=ready)


NODES = [node("node1", ("node-role.kubernetes.io/control-plane", "NoSchedule")), node("node2"), node("node3", d="ssd")]
OLD, ON_SSD = daemonset(priority=1), daemonset(nodeSelector={"d": "ssd"})
DAEMONS: list[Any] = [
    ("one on each that fits", daemonset(), [], ["node2", "node3"], []),
    (
        "everywhere with tolerations",
        daemonset(tolerations=[{"operator": "Exists"}]),
        [],
        ["node1", "node2", "node3"],
        [],
    ),
    ("by label", daemonset(nodeSelector={"d": "ssd"}), [], ["node3"], []),
    ("what is there is kept", daemonset(), [daemon("a", "node2", of=daemonset())], ["node3"], []),
    (
        "a second one goes",
        ON_SSD,
        [daemon("a", "node3", of=ON_SSD, ready=False), daemon("b", "node3", of=ON_SSD)],
        [],
        ["a"],
    ),
    ("one on a node that is gone goes", daemonset(), [daemon("a", "node9", of=daemonset())], ["node2", "node3"], ["a"]),
    (
        "a NoSchedule taint lets what is there stay",
        daemonset(),
        [daemon(n, on, of=daemonset()) for n, on in (("a", "node1"), ("b", "node2"), ("c", "node3"))],
        [],
        [],
    ),
    (
        "old templates go one by one",
        daemonset(),
        [daemon("a", "node2", of=OLD), daemon("b", "node3", of=OLD)],
        [],
        ["a"],
    ),
    (
        "not while another is missing",
        daemonset(),
        [daemon("a", "node2", of=OLD), daemon("b", "node3", of=daemonset(), ready=False)],
        [],
        [],
    ),
]


@pytest.mark.parametrize(("wanted", "pods", "create", "delete"), [c[1:] for c in DAEMONS], ids=names(DAEMONS))
def test_daemons(wanted: Any, pods: Sequence[Any], create: list[str], delete: list[str]) -> None:
    plan = daemonsets.plan(wanted, NODES, pods, NOW)
    assert (plan.create, [each["metadata"]["name"] for each in plan.delete]) == (create, delete)


def test_a_daemon_whose_pods_the_kubelets_show_is_only_counted() -> None:
    wanted = daemonset(tolerations=[{"operator": "Exists"}])
    wanted["metadata"]["annotations"] = {daemonsets.KUBELETS_OWN: "kubelet"}
    shown = pod("agent-x", node="node1", labels={"app": "agent"}, annotations={MIRROR: "1"})
    plan = daemonsets.plan(wanted, NODES, [shown], NOW)
    assert (plan.create, plan.delete) == ([], [])
    assert plan.status["desiredNumberScheduled"] == 3
    assert plan.status["numberAvailable"] == plan.status["updatedNumberScheduled"] == 1


def test_a_daemons_pod_is_bound_to_its_node_by_name() -> None:
    made = daemonsets.daemon_pod(daemonset(), "node3")
    assert daemonsets._meant_for(made) == "node3"
    keys = {each["key"] for each in made["spec"]["tolerations"]}
    assert {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} <= keys
