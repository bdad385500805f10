"""Ready-made pods without a control plane: a network namespace each, attached by the node's CNI plugin."""

from __future__ import annotations

from collections.abc import Sequence

from mininetes.agents.cni.runtime import Attachment, CniRuntime
from mininetes.agents.kubelet import RunningPod, sandbox
from mininetes.lab.filesystem import netns_path
from mininetes.testbed.blueprint import PodPlan


def attachment_of(plan: PodPlan) -> Attachment:
    """How the CNI plugins know the pod."""
    return sandbox.attachment(plan.name, plan.name, namespace="default", name=plan.name)


def create(plan: PodPlan, runtime: CniRuntime) -> RunningPod:
    """Make a pod and attach it. Blocks; may run on several threads. Raises CniFailed, MininetesError or OSError.

    Leaves nothing behind when it fails.
    """
    result = sandbox.attach(runtime, plan.name, attachment_of(plan))
    return RunningPod(
        namespace="default",
        name=plan.name,
        uid="",
        node=plan.node,
        address=sandbox.address_of(result),
        netns=netns_path(plan.node, plan.name),
        pause_pid=None,
        ports=((plan.port, "TCP"), (plan.port, "UDP")),
        host_network=False,
        ready=True,
        result=result,
    )


def create_some(plans: Sequence[PodPlan], runtime: CniRuntime, made: dict[str, RunningPod]) -> list[RunningPod]:
    """`create` one after the other; ``made`` gets each as soon as it is there, also those before one that fails."""
    for plan in plans:
        made[plan.name] = create(plan, runtime)
    return [made[plan.name] for plan in plans]


def delete(plan: PodPlan, runtime: CniRuntime) -> None:
    """Detach a pod and let its namespace go. May be called twice. Raises CniFailed."""
    sandbox.detach(runtime, plan.name, attachment_of(plan))
