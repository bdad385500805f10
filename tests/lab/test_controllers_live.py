"""Scheduler and controllers against a real API server: what comes of objects that a user writes.

Each story runs in a sandbox of its own and returns what it saw.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import netbox
from cluster_api import deployment, service
from small_cluster import CONTROL_PLANE, GRACE_S, POOL, SmallCluster, is_ready

from mininetes.agents.controllers.rollout import REVISION
from mininetes.errors import MininetesError
from mininetes.kernel.netns import add_named
from mininetes.kernel.processes import Namespaces
from mininetes.kernel.processes import run as run_process

DEPLOYMENTS, REPLICASETS, DAEMONSETS = "deployments.apps", "replicasets.apps", "daemonsets.apps"
SLICES = "endpointslices.discovery.k8s.io"
LEASES = "leases.coordination.k8s.io"
UNREACHABLE = "node.kubernetes.io/unreachable"


def run_story(name: str) -> Any:
    """In the sandbox."""
    return asyncio.run(STORIES[name]())


def told(name: str) -> Any:
    """What a story returned."""
    return netbox.run(run_story, name)


def in_default(obj: dict[str, Any]) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "namespace": "default"}}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "responder"}
    metadata = {"name": name, "namespace": "default", "labels": {"app": name}}
    return {"metadata": metadata, "spec": {"containers": [container], **spec}}


async def rolled_out(cluster: SmallCluster, name: str) -> bool:
    """What `kubectl rollout status` waits for."""
    found = await cluster.client.get(DEPLOYMENTS, name, "default")
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    if status.get("observedGeneration", 0) < found["metadata"]["generation"]:
        return False
    return all(status.get(field, 0) == wanted for field in ("updatedReplicas", "replicas", "availableReplicas"))


async def endpoints_of(cluster: SmallCluster, name: str) -> list[dict[str, Any]]:
    slices = await cluster.items(SLICES, labels=f"kubernetes.io/service-name={name}")
    return [endpoint for each in slices for endpoint in each["endpoints"] or ()]


async def has_ready_endpoints(cluster: SmallCluster, name: str, count: int) -> bool:
    return sum(each["conditions"]["ready"] for each in await endpoints_of(cluster, name)) == count


async def is_gone(cluster: SmallCluster, deployment: str) -> bool:
    return await cluster.find(DEPLOYMENTS, deployment) is None


async def nothing_left(cluster: SmallCluster) -> bool:
    for resource in (REPLICASETS, SLICES, "endpoints", "pods"):
        if [each for each in await cluster.items(resource) if each["metadata"]["name"] != "kubernetes"]:
            return False
    return True


def errors(cluster: SmallCluster) -> list[str]:
    return [line for line in cluster.log_text().splitlines() if line.startswith("E")]


async def a_deployment_from_birth_to_death() -> dict[str, Any]:
    async with SmallCluster(nodes=3) as cluster:
        await cluster.client.create(DEPLOYMENTS, in_default(deployment("web", 6)))
        await cluster.client.create("services", in_default(service("web")))
        await cluster.until(lambda: len(cluster.ready("web")) == 6, "six ready pods")
        await cluster.until(lambda: rolled_out(cluster, "web"), "a rollout that is complete")
        spread = Counter(each["spec"]["nodeName"] for each in cluster.of("web"))
        await cluster.until(lambda: has_ready_endpoints(cluster, "web", 6), "six endpoints")
        whole = await cluster.client.get(DEPLOYMENTS, "web", "default")
        await cluster.settles()
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, "default")
        await cluster.until(lambda: len(cluster.of("web")) == 3, "three pods")
        await cluster.until(lambda: has_ready_endpoints(cluster, "web", 3), "three endpoints")
        left = Counter(each["spec"]["nodeName"] for each in cluster.of("web"))
        await cluster.client.delete("services", "web", "default")
        await cluster.client.delete(DEPLOYMENTS, "web", "default")
        await cluster.until(lambda: nothing_left(cluster), "nothing left of it")
        return {
            "spread": spread,
            "left": sorted(left.values()),
            "conditions": {c["type"]: (c["status"], c["reason"]) for c in whole["status"]["conditions"]},
            "revision": whole["metadata"]["annotations"][REVISION],
            "events": sorted({event["reason"] for event in await cluster.items("events")}),
            "errors": errors(cluster),
        }


def test_a_deployment_is_spread_scaled_and_deleted_with_all_that_it_had() -> None:
    found = told("a_deployment_from_birth_to_death")
    assert found["spread"] == {"node2": 3, "node3": 3}
    assert found["left"] == [1, 2]
    assert found["conditions"] == {
        "Available": ["True", "MinimumReplicasAvailable"],
        "Progressing": ["True", "NewReplicaSetAvailable"],
    }
    assert found["revision"] == "1"
    assert {"Scheduled", "SuccessfulCreate", "SuccessfulDelete", "ScalingReplicaSet"} <= set(found["events"])
    assert found["errors"] == []


async def rollouts() -> dict[str, Any]:
    async with SmallCluster(nodes=3) as cluster:
        await cluster.client.create(DEPLOYMENTS, in_default(deployment("web", 4)))
        await cluster.until(lambda: rolled_out(cluster, "web"), "the first rollout")
        fewest, most = [4], [4]

        def count(*_: Any) -> None:
            fewest.append(len(cluster.ready("web")))
            most.append(len(cluster.of("web")))

        cluster.pods.on_change(count)
        first = (await cluster.items(REPLICASETS))[0]
        template = {"spec": {"template": {"metadata": {"annotations": {"restarted": "yes"}}}}}
        await cluster.client.patch(DEPLOYMENTS, "web", template, "default")
        await cluster.until(lambda: rolled_out(cluster, "web"), "the second rollout")
        after_second = {s["metadata"]["annotations"][REVISION]: s["spec"] for s in await cluster.items(REPLICASETS)}
        template = {"spec": {"template": {"metadata": {"annotations": {"restarted": None}}}}}
        await cluster.client.patch(DEPLOYMENTS, "web", template, "default")
        await cluster.until(lambda: rolled_out(cluster, "web"), "the way back")
        await cluster.settles()
        sets = {s["metadata"]["annotations"][REVISION]: s for s in await cluster.items(REPLICASETS)}
        return {
            "fewest": min(fewest),
            "most": max(most),
            "second": {revision: spec["replicas"] for revision, spec in after_second.items()},
            "back": {revision: each["spec"]["replicas"] for revision, each in sets.items()},
            "same set": sets["3"]["metadata"]["uid"] == first["metadata"]["uid"],
            "history": sets["3"]["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"],
            "hashed": all(s["metadata"]["labels"]["pod-template-hash"] in s["metadata"]["name"] for s in sets.values()),
            "errors": errors(cluster),
        }


def test_a_new_template_is_rolled_out_within_its_limits_and_rolled_back_to_the_same_set() -> None:
    found = told("rollouts")
    assert found["fewest"] >= 3
    assert found["most"] <= 5
    assert found["second"] == {"1": 0, "2": 4}
    assert found["back"] == {"2": 0, "3": 4}
    assert found["same set"]
    assert found["history"] == "1"
    assert found["hashed"]
    assert found["errors"] == []


async def recreation() -> dict[str, Any]:
    async with SmallCluster(nodes=2) as cluster:
        wanted = in_default(deployment("db", 2))
        wanted["spec"]["strategy"] = {"type": "Recreate"}
        await cluster.client.create(DEPLOYMENTS, wanted)
        await cluster.until(lambda: rolled_out(cluster, "db"), "the first rollout")
        together = []

        def look(*_: Any) -> None:
            hashes = {each["metadata"]["labels"]["pod-template-hash"] for each in cluster.pods.items.values()}
            together.append(len(hashes))

        cluster.pods.on_change(look)
        template = {"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}
        await cluster.client.patch(DEPLOYMENTS, "db", template, "default")
        await cluster.until(lambda: rolled_out(cluster, "db"), "the second rollout")
        return {"most templates at a time": max(together), "errors": errors(cluster)}


def test_recreate_ends_the_old_pods_before_it_makes_new_ones() -> None:
    assert told("recreation") == {"most templates at a time": 1, "errors": []}


async def a_silent_node() -> dict[str, Any]:
    async with SmallCluster(nodes=3) as cluster:
        await cluster.client.create(DEPLOYMENTS, in_default(deployment("web", 4)))
        await cluster.client.create("services", in_default(service("web")))
        await cluster.until(lambda: has_ready_endpoints(cluster, "web", 4), "four endpoints")
        cluster.alive.discard("node3")
        await cluster.until(lambda: not is_ready(cluster.nodes.items["node3"]), "a node that is not ready")
        await cluster.until(lambda: has_ready_endpoints(cluster, "web", 2), "endpoints without the silent node's")
        await cluster.until(lambda: len(cluster.nodes.items["node3"]["spec"].get("taints", [])) == 2, "two taints")
        node = cluster.nodes.items["node3"]
        ready = next(each for each in node["status"]["conditions"] if each["type"] == "Ready")
        await cluster.client.create("pods", pod("late"))
        await cluster.until(lambda: cluster.ready("late"), "a pod that comes now")
        late_on = cluster.of("late")[0]["spec"]["nodeName"]
        cluster.come_back("node3")
        await cluster.until(lambda: is_ready(cluster.nodes.items["node3"]), "the node back")
        await cluster.until(lambda: not cluster.nodes.items["node3"]["spec"].get("taints"), "no taints")
        await cluster.until(lambda: has_ready_endpoints(cluster, "web", 4), "all endpoints")
        return {
            "condition": [ready["status"], ready["reason"], ready["message"]],
            "taints": sorted((each["key"], each["effect"]) for each in node["spec"]["taints"]),
            "late on": late_on,
            "pods": len(cluster.of("web")),
            "errors": errors(cluster),
        }


def test_a_node_that_is_silent_becomes_unknown_loses_its_endpoints_and_gets_all_back() -> None:
    found = told("a_silent_node")
    assert found["condition"] == ["Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."]
    assert found["taints"] == [[UNREACHABLE, "NoExecute"], [UNREACHABLE, "NoSchedule"]]
    assert found["late on"] == "node2"
    assert found["pods"] == 4
    assert found["errors"] == []


async def eviction() -> dict[str, Any]:
    async with SmallCluster(nodes=3) as cluster:
        brief = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        forever = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}
        here = {"nodeName": "node3", "terminationGracePeriodSeconds": 1}
        await cluster.client.create("pods", pod("brief", tolerations=[brief], **here))
        await cluster.client.create("pods", pod("forever", tolerations=[forever], **here))
        await cluster.until(lambda: cluster.ready("brief") and cluster.ready("forever"), "two pods")
        cluster.alive.discard("node3")
        await cluster.until(lambda: not cluster.of("brief"), "the pod that tolerates it for a second marked")
        marked = [name for name, each in cluster.pods.items.items() if "deletionTimestamp" in each["metadata"]]
        await cluster.client.delete("nodes", "node3")
        await cluster.until(lambda: not cluster.pods.items, "no pods of a node that is gone")
        return {"marked": marked, "errors": errors(cluster)}


def test_pods_leave_a_tainted_node_when_their_time_is_over_and_a_node_that_is_gone_for_good() -> None:
    assert told("eviction") == {"marked": ["default/brief"], "errors": []}


async def load_balancers() -> dict[str, Any]:
    async with SmallCluster(nodes=1) as cluster:
        names = [f"lb{number}" for number in range(7)]
        wanted = {"lb0": "198.51.100.5", "lb6": "203.0.113.9"}
        for name in names:
            spec: dict[str, Any] = {"type": "LoadBalancer"}
            if name in wanted:
                spec["loadBalancerIP"] = wanted[name]
            await cluster.client.create("services", in_default(service(name, **spec)))

        async def given() -> dict[str, str]:
            found = {
                each["metadata"]["name"]: each["status"]["loadBalancer"] for each in await cluster.items("services")
            }
            return {name: lb["ingress"][0]["ip"] for name, lb in found.items() if lb.get("ingress")}

        await cluster.until(lambda: has_count(given(), 6), "six addresses")
        first = await given()
        await cluster.client.create("services", in_default(service("late", type="LoadBalancer")))
        await cluster.until(lambda: warned(cluster, "late"), "a warning that the pool is used up")
        await cluster.client.delete("services", "lb3", "default")
        await cluster.until(lambda: is_in("late", given()), "the address that was given back")
        last = await given()
        await cluster.client.patch("services", "lb1", {"spec": {"type": "ClusterIP"}}, "default")
        await cluster.until(lambda: is_not_in("lb1", given()), "an address taken back")
        return {"first": first, "late": last["late"] == first["lb3"], "errors": errors(cluster)}


async def has_count(found: Coroutine[Any, Any, dict[str, str]], count: int) -> bool:
    return len(await found) == count


async def is_in(name: str, found: Coroutine[Any, Any, dict[str, str]]) -> bool:
    return name in await found


async def is_not_in(name: str, found: Coroutine[Any, Any, dict[str, str]]) -> bool:
    return name not in await found


async def warned(cluster: SmallCluster, name: str) -> bool:
    events = await cluster.items("events")
    return any(each["involvedObject"]["name"] == name and each["reason"] == "SyncLoadBalancerFailed" for each in events)


def test_load_balancers_get_addresses_of_the_pool_and_give_them_back() -> None:
    found = told("load_balancers")
    assert found["first"]["lb0"] == "198.51.100.5"
    assert "lb6" not in found["first"]  # it asked for one outside the pool
    assert len(set(found["first"].values())) == 6
    assert {address.rpartition(".")[0] for address in found["first"].values()} == {str(POOL.network_address)[:-2]}
    assert found["late"]
    assert found["errors"] == []


async def cascades() -> dict[str, Any]:
    async with SmallCluster(nodes=2) as cluster:
        path = "/apis/apps/v1/namespaces/default/deployments/"
        for name in ("front", "orphan"):
            await cluster.client.create(DEPLOYMENTS, in_default(deployment(name, 2)))
            await cluster.until(lambda name=name: rolled_out(cluster, name), f"{name} rolled out")
        order: list[str] = []
        cluster.pods.on_change(lambda kind, *_: order.append("pod") if kind == "DELETED" else None)
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        await cluster.client.request("DELETE", f"{path}front", body=options)
        await cluster.until(lambda: is_gone(cluster, "front"), "front gone")
        order.append("deployment")
        await cluster.until(lambda: not cluster.of("front"), "front's pods gone")
        options["propagationPolicy"] = "Orphan"
        await cluster.client.request("DELETE", f"{path}orphan", body=options)
        await cluster.until(lambda: is_gone(cluster, "orphan"), "orphan gone")
        sets = await cluster.items(REPLICASETS)
        again = in_default(deployment("orphan", 2))
        uids = {each["metadata"]["uid"] for each in cluster.ready("orphan")}
        await cluster.client.create(DEPLOYMENTS, again)
        await cluster.until(lambda: rolled_out(cluster, "orphan"), "the orphan adopted")
        return {
            "order": order,
            "orphans": [each["metadata"].get("ownerReferences", []) for each in sets],
            "pods kept": uids == {each["metadata"]["uid"] for each in cluster.ready("orphan")},
            "sets": len(await cluster.items(REPLICASETS)),
            "errors": errors(cluster),
        }


def test_deletion_in_the_foreground_waits_for_dependents_and_orphans_are_left_and_adopted() -> None:
    found = told("cascades")
    assert found["order"] == ["pod", "pod", "deployment"]
    assert found["orphans"] == [[]]
    assert found["pods kept"]
    assert found["sets"] == 1
    assert found["errors"] == []


async def namespaces() -> dict[str, Any]:
    async with SmallCluster(nodes=2) as cluster:
        await cluster.client.create("namespaces", {"metadata": {"name": "team"}})

        async def furnished() -> bool:
            account = await cluster.find("serviceaccounts", "default", "team")
            return account is not None and await cluster.find("configmaps", "kube-root-ca.crt", "team") is not None

        await cluster.until(furnished, "the furniture of a namespace")
        await cluster.client.delete("configmaps", "kube-root-ca.crt", "team")
        await cluster.until(furnished, "the furniture again")
        ca = await cluster.client.get("configmaps", "kube-root-ca.crt", "team")
        wanted = deployment("web", 3)
        wanted["metadata"]["namespace"] = "team"
        await cluster.client.create(DEPLOYMENTS, wanted)
        await cluster.until(lambda: len(cluster.ready("web")) == 3, "pods in the namespace")
        await cluster.client.delete("namespaces", "team")

        async def gone() -> bool:
            return await cluster.find("namespaces", "team", None) is None

        await cluster.until(gone, "the namespace gone")
        return {"ca": ca["data"]["ca.crt"][:27], "pods": len(cluster.of("web"))}


def test_a_namespace_is_furnished_and_goes_with_all_that_is_in_it() -> None:
    assert told("namespaces") == {"ca": "-----BEGIN CERTIFICATE-----", "pods": 0}


async def daemons() -> dict[str, Any]:
    async with SmallCluster(nodes=3) as cluster:
        template = {"metadata": {"labels": {"app": "agent"}}, "spec": pod("agent")["spec"]}
        spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": template}
        await cluster.client.create(DAEMONSETS, {"metadata": {"name": "agent", "namespace": "default"}, "spec": spec})
        await cluster.until(lambda: len(cluster.ready("agent")) == 2, "a pod on each worker")
        workers = sorted(each["spec"]["nodeName"] for each in cluster.of("agent"))
        everywhere = {"spec": {"template": {"spec": {"tolerations": [{"operator": "Exists"}]}}}}
        before = {each["metadata"]["uid"] for each in cluster.of("agent")}
        await cluster.client.patch(DAEMONSETS, "agent", everywhere, "default")

        async def updated() -> bool:
            status = (await cluster.client.get(DAEMONSETS, "agent", "default"))["status"]
            return bool(status["updatedNumberScheduled"] == status["numberAvailable"] == 3)

        await cluster.until(updated, "new pods on all three nodes")
        after = {each["metadata"]["uid"] for each in cluster.of("agent")}
        await cluster.settles()
        return {"workers": workers, "replaced": not before & after, "errors": errors(cluster)}


def test_a_daemon_runs_on_each_node_that_it_fits() -> None:
    assert told("daemons") == {"workers": ["node2", "node3"], "replaced": True, "errors": []}


async def waiting_pods() -> dict[str, Any]:
    async with SmallCluster(nodes=3) as cluster:
        await cluster.client.create("pods", pod("picky", nodeSelector={"disk": "ssd"}))
        key = "default/picky"

        def said() -> str:
            found = cluster.pods.items.get(key, {}).get("status", {}).get("conditions", [])
            return next((c["message"] for c in found if c.get("reason") == "Unschedulable"), "")

        message = await cluster.until(said, "the reason why it waits")
        await cluster.settles()
        await cluster.client.patch("nodes", "node3", {"metadata": {"labels": {"disk": "ssd"}}})
        await cluster.until(lambda: cluster.ready("picky"), "the pod ready")
        events = [each for each in await cluster.items("events") if each["reason"] == "FailedScheduling"]
        return {
            "message": message,
            "events": [(each["type"], each["message"]) for each in events],
            "on": cluster.of("picky")[0]["spec"]["nodeName"],
            "errors": errors(cluster),
        }


def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_a_node_changes() -> None:
    found = told("waiting_pods")
    message = (
        "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
        "2 node(s) didn't match Pod's node affinity/selector. "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )
    assert found["message"] == message
    assert found["events"] == [["Warning", message]]
    assert found["on"] == "node3"
    assert found["errors"] == []


async def interruptions() -> dict[str, Any]:
    """Agents are killed and started anew in the middle of the work, and the API server goes away for a while."""
    async with SmallCluster(nodes=3) as cluster:
        await cluster.client.create(DEPLOYMENTS, in_default(deployment("web", 40)))
        for count in (1, 2, 4, 9, 20, 33):
            await cluster.until(lambda count=count: len(cluster.of("web")) >= count, f"{count} pods")
            await cluster.stop("controllers")
            await cluster.stop("scheduler")
            cluster.start_scheduler()
            cluster.start_controllers()
        await cluster.until(lambda: rolled_out(cluster, "web"), "the deployment whole")
        first = len(cluster.pods.items)
        await cluster.server.stop()
        gone_at = time.monotonic()
        await cluster.until(lambda: time.monotonic() > gone_at + GRACE_S * 1.5, "longer away than nodes may be silent")
        await cluster.stop("scheduler")
        cluster.start_scheduler()
        await cluster.start_server()

        async def patched() -> bool:
            try:
                await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 45}}, "default")
            except MininetesError:
                return False
            return True

        await cluster.until(patched, "the server back")
        await cluster.until(lambda: len(cluster.ready("web")) == 45, "45 pods after the server was away")
        not_ready = [each for each in await cluster.items("events") if each["reason"] == "NodeNotReady"]
        return {"first": first, "pods": len(cluster.pods.items), "not ready": len(not_ready)}


def test_agents_that_are_killed_and_a_server_that_goes_away_change_nothing_in_the_end() -> None:
    assert told("interruptions") == {"first": 40, "pods": 45, "not ready": 0}


async def succession() -> dict[str, Any]:
    """A second controller manager on another node waits, and takes over when the first is no more."""
    async with SmallCluster(nodes=2) as cluster:
        add_named("/run/netns/other")
        run_process(["ip", "link", "set", "lo", "up"], namespaces=Namespaces(net="/run/netns/other"))
        await cluster.client.create(DEPLOYMENTS, in_default(deployment("web", 2)))
        await cluster.until(lambda: rolled_out(cluster, "web"), "the first leader's work")
        cluster.start_controllers("node2", "/run/netns/other")
        lease = await cluster.client.get(LEASES, "kube-controller-manager", "kube-system")
        await cluster.stop("controllers")
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 4}}, "default")
        await cluster.until(lambda: len(cluster.ready("web")) == 4, "the second leader's work")
        after = await cluster.client.get(LEASES, "kube-controller-manager", "kube-system")
        return {
            "holders": [each["spec"]["holderIdentity"].partition("_")[0] for each in (lease, after)],
            "transitions": after["spec"]["leaseTransitions"],
        }


def test_another_node_takes_over_when_the_leader_is_gone() -> None:
    assert told("succession") == {"holders": ["node1", "node2"], "transitions": 1}


async def endpoints_in_detail() -> dict[str, Any]:
    async with SmallCluster(nodes=3, zones=["a", "b"]) as cluster:
        for name, port in (("one", 8080), ("two", 9090)):
            each = pod(name, hostname=name, subdomain="named", nodeName="node2")
            each["metadata"]["labels"] = {"app": "named"}
            each["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": port}]
            await cluster.client.create("pods", each)
        never = pod("never", nodeName="node3")
        never["metadata"]["labels"] = {"app": "named", "never-ready": ""}
        never["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
        await cluster.client.create("pods", never)
        named = service("named", target=0, clusterIP="None")
        named["spec"]["ports"] = [{"name": "web", "port": 80, "targetPort": "http"}]
        await cluster.client.create("services", in_default(named))
        await cluster.until(lambda: has_endpoints(cluster, "named", 3), "three endpoints")
        await cluster.until(lambda: has_ready_endpoints(cluster, "named", 2), "two of them ready")
        slices = await cluster.items(SLICES, labels="kubernetes.io/service-name=named")
        mirrored = {"metadata": {"name": "mirrored", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
        await cluster.client.create("services", mirrored)
        subset = {"addresses": [{"ip": "203.0.113.7"}], "ports": [{"port": 8000}]}
        metadata = {"name": "mirrored", "namespace": "default"}
        await cluster.client.create("endpoints", {"metadata": metadata, "subsets": [subset]})
        await cluster.until(lambda: has_endpoints(cluster, "mirrored", 1), "a mirrored endpoint")
        mirror = await cluster.items(SLICES, labels="kubernetes.io/service-name=mirrored")
        whole = await cluster.client.get("endpoints", "named", "default")
        await cluster.settles()
        return {
            "slices": {each["ports"][0]["port"]: each for each in slices},
            "subsets": whole["subsets"],
            "mirror": mirror[0]["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
            "errors": errors(cluster),
        }


async def has_endpoints(cluster: SmallCluster, name: str, count: int) -> bool:
    return len(await endpoints_of(cluster, name)) == count


def test_slices_say_ports_conditions_hostnames_and_zones() -> None:
    found = told("endpoints_in_detail")
    slices = found["slices"]
    assert set(slices) == {"8080", "9090"}
    one, never = sorted(slices["8080"]["endpoints"], key=lambda each: "hostname" not in each)
    assert one["hostname"] == "one"
    assert one["nodeName"] == "node2"
    assert one["zone"] == "b"
    assert one["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert one["targetRef"]["name"] == "one"
    assert never["conditions"] == {"ready": False, "serving": False, "terminating": False}
    assert slices["9090"]["endpoints"][0]["hostname"] == "two"
    assert slices["9090"]["metadata"]["name"].startswith("named-")
    assert "service.kubernetes.io/headless" in slices["9090"]["metadata"]["labels"]
    assert [len(each.get("notReadyAddresses", [])) for each in found["subsets"]] == [1, 0]
    assert found["mirror"] == "endpointslicemirroring-controller.k8s.io"
    assert found["errors"] == []


async def many_pods() -> dict[str, Any]:
    async with SmallCluster(nodes=7) as cluster:
        await cluster.client.create("services", in_default(service("web")))
        await cluster.client.create(DEPLOYMENTS, in_default(deployment("web", 620)))
        await cluster.until(lambda: len(cluster.ready("web")) == 620, "620 ready pods", within_s=120)
        await cluster.until(lambda: has_ready_endpoints(cluster, "web", 620), "620 endpoints", within_s=60)
        await cluster.settles()
        slices = await cluster.items(SLICES, labels="kubernetes.io/service-name=web")
        whole = await cluster.client.get("endpoints", "web", "default")
        addresses = {address for each in slices for one in each["endpoints"] for address in one["addresses"]}
        spread = Counter(each["spec"]["nodeName"] for each in cluster.of("web"))
        return {
            "addresses": len(addresses),
            "in Endpoints": len(whole["subsets"][0]["addresses"]),
            "largest slice": max(len(each["endpoints"]) for each in slices),
            "pods on a node": [min(spread.values()), max(spread.values())],
            "errors": errors(cluster),
        }


def test_many_pods_are_spread_evenly_and_fill_slices_of_a_hundred() -> None:
    found = told("many_pods")
    assert found["addresses"] == found["in Endpoints"] == 620
    assert found["largest slice"] <= 100
    assert found["pods on a node"] == [103, 104]
    assert found["errors"] == []


async def component_pages() -> dict[str, Any]:
    async with SmallCluster(nodes=1) as cluster:
        await cluster.until(lambda: subnets(cluster), "the node's subnet")
        pages = {}
        for scheme, port, path in (
            ("https", 10259, "healthz"),
            ("http", 10251, "healthz"),
            ("https", 10257, "metrics"),
            ("http", 10252, "healthz"),
        ):
            pages[port] = await asyncio.to_thread(fetched, f"{scheme}://127.0.0.1:{port}/{path}")
        return {"pages": pages, "subnet": cluster.nodes.items[CONTROL_PLANE]["spec"]["podCIDRs"]}


def subnets(cluster: SmallCluster) -> bool:
    return all(each["spec"].get("podCIDR") for each in cluster.nodes.items.values())


def fetched(url: str) -> str:
    return run_process(["curl", "-sSk", "--max-time", "5", url]).stdout


def test_health_and_metrics_are_served_and_nodes_get_their_planned_subnet() -> None:
    found = told("component_pages")
    assert {found["pages"][port] for port in ("10259", "10251", "10252")} == {"ok"}
    assert 'workqueue_depth{name="deployment"} 0' in found["pages"]["10257"]
    assert found["subnet"] == ["10.244.1.0/24"]


STORIES = {
    story.__name__: story
    for story in (
        a_deployment_from_birth_to_death,
        rollouts,
        recreation,
        a_silent_node,
        eviction,
        load_balancers,
        cascades,
        namespaces,
        daemons,
        waiting_pods,
        interruptions,
        succession,
        endpoints_in_detail,
        many_pods,
        component_pages,
    )
}
