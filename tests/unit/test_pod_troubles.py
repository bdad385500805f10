"""Who waits for pods is told why they do not get ready: while it waits, and in the error at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mininetes.apiserver.client import Unreachable
from mininetes.apiserver.errors import ApiError
from mininetes.errors import MininetesError
from mininetes.spec import describe
from mininetes.testbed import cluster_watch, preflight
from mininetes.testbed.blueprint import PodPlan, draw
from mininetes.testbed.cluster_watch import ClusterWatch
from mininetes.testbed.pod_troubles import NO_SANDBOX, PodTroubles
from mininetes.testbed.ready_made import create_pods, pod_object
from tests.unit.running_api import running

REFUSED = "bash-bridge ADD: no free address (CNI code 11)"
SANDBOX = f'Failed to create pod sandbox: failed to setup network for sandbox "{"5e" * 32}": '
SAID = f"on node2: Failed to create pod sandbox: failed to setup network: {REFUSED}"


def warning(pod: str, message: str, at: str = "2026-01-01T00:00:00Z", **more: Any) -> dict[str, Any]:
    namespace, _, name = pod.partition("/")
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{abs(hash((message, at)))}", "namespace": namespace},
        "involvedObject": about,
        "type": "Warning",
        "reason": NO_SANDBOX,
        "message": message,
        "source": {"component": "kubelet", "host": "node2"},
        "lastTimestamp": at,
        **more,
    }


def pod(name: str, **labels: str) -> dict[str, Any]:
    containers = [{"name": "c", "image": "any"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"containers": containers}}  # fmt: skip


class Silent:
    """An API that does not answer."""

    async def list(self, *_: object, **__: object) -> dict[str, Any]:
        raise Unreachable("nobody there")


def test_the_last_warning_counts_and_is_told_once() -> None:
    async def body() -> None:
        async with running() as api:
            told: list[str] = []
            troubles = PodTroubles(api.client, told.append)
            await api.client.create("events", warning("default/web", SANDBOX + "older", "2026-01-01T00:00:00Z"))
            await api.client.create("events", warning("default/web", SANDBOX + REFUSED, "2026-01-01T00:00:09Z"))
            await api.client.create("events", warning("default/other", SANDBOX + REFUSED))
            await api.client.create("events", warning("default/fine", "all is well", type="Normal"))
            for _ in range(2):
                await troubles.look(["default/web", "default/fine"])
            assert told == [f"pod default/web {SAID}"]
            assert (troubles.of("default/web"), troubles.reason("default/web")) == (SAID, NO_SANDBOX)
            assert (troubles.of("default/fine"), troubles.reason("default/fine")) == ("", "")
            await api.client.create("events", warning("default/web", "no such plugin", "2026-01-01T00:00:10Z"))
            await troubles.look(["default/web"])
            assert told[1:] == ["pod default/web on node2: no such plugin"]

    asyncio.run(body())


def test_an_api_that_does_not_answer_is_no_error() -> None:
    asyncio.run(PodTroubles(Silent(), print).look(["default/web"]))  # type: ignore[arg-type]


def test_waiting_tells_the_plugins_error_and_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_watch, "TROUBLES_EVERY_S", 0.05)

    async def body() -> None:
        async with running() as api:
            told: list[str] = []
            watch = ClusterWatch(api.client, told.append, {"kube-dns"})
            await api.client.create("pods", pod("web"), "default")
            await api.client.create("pods", pod("names", **{"k8s-app": "kube-dns"}), "default")
            for name in ("web", "names"):
                await api.client.create("events", warning(f"default/{name}", SANDBOX + REFUSED))
            await watch.start()
            try:
                with pytest.raises(MininetesError) as failed:
                    await watch.ready([], within_s=0.3)
                assert str(failed.value) == (
                    f"not within 0.3 s: nodes, pods and deployments are ready: pod default/web ({SAID})"
                )
                assert told == [f"pod default/web {SAID}"]
                await api.client.delete("pods", "web", "default", grace_s=0)
                await watch.ready([], within_s=5)
            finally:
                await watch.close()

    asyncio.run(body())


@pytest.mark.parametrize("reason", [NO_SANDBOX, "NetworkNotReady"])
def test_a_ready_made_pod_that_gets_no_address_fails_with_its_plugins_error(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mininetes.testbed.ready_made.LOOK_FOR_REASONS_S", 0.05)
    monkeypatch.setattr("mininetes.testbed.ready_made.ADDRESS_WITHIN_S", 0.3)

    async def body() -> str:
        async with running() as api:
            await api.client.create("events", warning("default/node2-1", SANDBOX + REFUSED, reason=reason))
            with pytest.raises(MininetesError) as failed:
                await create_pods(ClusterWatch(api.client), [PodPlan("node2-1", "node2", 8080)], set)
            return str(failed.value)

    waited = "" if reason == NO_SANDBOX else "no address within 0.3 s: "
    assert asyncio.run(body()) == f"{waited}pod node2-1 {SAID}"


@pytest.mark.parametrize("node", ["node2", "node1"])
def test_a_ready_made_pod_that_was_left_by_a_broken_joining_is_made_anew(node: str) -> None:
    async def body() -> None:
        plan = PodPlan("node2-1", "node2", 8080)
        async with running() as api:
            left = await api.client.create("pods", pod_object(PodPlan(plan.name, node, plan.port)))
            making = create_pods(ClusterWatch(api.client), [plan], lambda: {plan.name})
            if node != plan.node:  # somebody else's
                with pytest.raises(ApiError, match="already exists"):
                    await making
                return
            await making
            made = await api.client.get("pods", plan.name, "default")
            assert made["metadata"]["uid"] != left["metadata"]["uid"]
            assert made["spec"]["nodeName"] == plan.node

    asyncio.run(body())


@pytest.mark.parametrize(
    ("cni", "kind"), [("bash-bridge", ""), ("chained", ""), ("bash-macvlan", "macvlan"), ("bash-ipvlan", "ipvlan")]
)
def test_pods_on_the_nodes_wire_are_said_to_miss_probes_and_services(cni: str, kind: str) -> None:
    blueprint = draw(describe({"cni": f"{cni}.conflist"}))
    (said,) = preflight.notes(blueprint) if kind else [""]
    assert (f"cni {cni}.conflist" in said, f"by {kind}," in said, "coredns" in said) == (bool(kind),) * 3
    assert ("each other alone: no node, no service" in said, "no node reaches them" in said) == (bool(kind),) * 2
    assert preflight.notes(blueprint) == [said] * bool(kind)
    assert blueprint.never_ready == ({"kube-dns"} if kind else set())
    alone = draw(describe({"cni": f"{cni}.conflist", "controlPlane": {"store": "none"}}))
    assert preflight.notes(alone) == []
