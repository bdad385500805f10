"""Reading a Pod object: what a kubelet wants to know of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from mininetes.agents.objects import MIRROR, annotations_of, parse_time

Pod = Mapping[str, Any]
Kind = Literal["command", "responder", "builtin"]

DEFAULT_GRACE_S = 30


def uid_of(pod: Pod) -> str:
    """The pod's identity: another pod of the same name has another."""
    return str(pod["metadata"]["uid"])


def full_name(pod: Pod) -> str:
    """NAME_NAMESPACE, as a kubelet's log names pods, with a slash."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def netns_name(pod: Pod) -> str:
    """The name of the pod's network namespace in `ip netns` of its node: short in the namespace that all begin with."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    return str(name) if namespace == "default" else f"{namespace}_{name}"


def shown_name(pod: Pod) -> str:
    """The pod's name as the built-in responder says it."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    return str(name) if namespace == "default" else f"{namespace}/{name}"


def is_host_network(pod: Pod) -> bool:
    """Whether the pod lives in its node's network namespace."""
    return bool(pod["spec"].get("hostNetwork"))


def is_mirror(pod: Pod) -> bool:
    """Whether the pod only shows what the node runs by itself."""
    return MIRROR in annotations_of(pod)


def is_terminal(pod: Pod) -> bool:
    """Whether it has ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def grace_s(pod: Pod) -> float:
    """How long its containers may take to end after SIGTERM."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if asked is None:
        asked = pod["spec"].get("terminationGracePeriodSeconds")
    return float(DEFAULT_GRACE_S if asked is None else asked)


def containers(pod: Pod) -> Sequence[Mapping[str, Any]]:
    """The pod's containers, without those for its beginning."""
    return list(pod["spec"].get("containers", []))


def init_containers(pod: Pod) -> Sequence[Mapping[str, Any]]:
    """The containers that run one after the other before all others."""
    return list(pod["spec"].get("initContainers", []))


def specs_by_name(pod: Pod) -> dict[str, Mapping[str, Any]]:
    """All containers of a pod by their names, the init containers first."""
    return {str(spec["name"]): spec for spec in (*init_containers(pod), *containers(pod))}


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container is to go on running beside the others."""
    return container.get("restartPolicy") == "Always"


def deadline_of(pod: Pod, start_time: str) -> float | None:
    """When a pod that started then has been active for too long, in seconds since 1970; None when it may be forever."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    return None if seconds is None else parse_time(start_time) + float(seconds)


def restart_policy(pod: Pod) -> str:
    """Always, OnFailure or Never."""
    return str(pod["spec"].get("restartPolicy") or "Always")


def declared_ports(*specs: Mapping[str, Any]) -> tuple[tuple[int, str], ...]:
    """(port, protocol) of all ports that these containers declare, each once."""
    found = [
        (int(port["containerPort"]), str(port.get("protocol") or "TCP"))
        for spec in specs
        for port in spec.get("ports") or []
    ]
    return tuple(dict.fromkeys(found))


def image_key(image: str, known: Collection[str]) -> str | None:
    """Which of the ``known`` images a name means, whatever its registry and tag; None when it is none of them."""
    bare = image.partition("@")[0]
    head, _, tail = bare.rpartition("/")
    bare = f"{head}/{tail.partition(':')[0]}" if head else tail.partition(":")[0]
    for name in (image, bare, bare.removeprefix("docker.io/"), bare.removeprefix("docker.io/library/")):
        if name in known:
            return name
    return None


def kind_of(container: Mapping[str, Any], builtins: Collection[str]) -> Kind:
    """What a container is here: a command, a built-in program that its image names, or the responder."""
    if container.get("command"):
        return "command"
    if image_key(str(container.get("image", "")), builtins) is not None:
        return "builtin"
    return "command" if container.get("args") else "responder"


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort, from requests and limits of all containers (kubelet's qos policy)."""
    guaranteed, any_resource = True, False
    for container in (*containers(pod), *init_containers(pod)):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        any_resource = any_resource or any(name in kind for kind in (limits, requests) for name in ("cpu", "memory"))
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                guaranteed = False
    if not any_resource:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
