"""What a kubelet notes of its pods in its node's files, so that the next one takes them over as they are.

/var/lib/kubelet/pods/UID/mininetes.json    the pod, its sandbox, its containers
                          etc-hosts, ...    what its containers see as /etc/hosts, ...
                          volumes/KIND/NAME
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from mininetes.agents.kubelet.container_record import ContainerRecord
from mininetes.lab.filesystem import node_path

PODS = "/var/lib/kubelet/pods"
_FILE = "mininetes.json"


@dataclass
class SandboxRecord:
    """A pod's network and pause process. ``netns`` is a name in the node's `ip netns`; empty in the host's network."""

    container_id: str = ""
    netns: str = ""
    address: str = ""
    pause: str = ""
    """The shim's name of the pause process; empty when there is none."""
    pause_pid: int = 0
    made: bool = False
    attempts: int = 0
    result: dict[str, Any] = field(default_factory=dict)


@dataclass
class PodRecord:
    """All that is noted of one pod."""

    pod: dict[str, Any]
    sandbox: SandboxRecord
    containers: dict[str, ContainerRecord]
    start_time: str = ""


def folder_of(uid: str) -> str:
    """A pod's folder, as its node has it."""
    return f"{PODS}/{uid}"


def save(node: str, uid: str, record: PodRecord) -> None:
    """Write a pod's record, whole or not at all. Raises OSError."""
    folder = node_path(node, folder_of(uid))
    os.makedirs(folder, exist_ok=True)
    content = {
        "pod": record.pod,
        "sandbox": record.sandbox,
        "containers": record.containers,
        "startTime": record.start_time,
    }
    with open(f"{folder}/{_FILE}.new", "wb") as file:
        file.write(orjson.dumps(content))
    os.rename(f"{folder}/{_FILE}.new", f"{folder}/{_FILE}")


def drop(node: str, uid: str) -> None:
    """Remove a pod's folder. Does nothing when there is none."""
    shutil.rmtree(node_path(node, folder_of(uid)), ignore_errors=True)


def read_all(node: str) -> Iterator[tuple[str, PodRecord]]:
    """The pods that were noted, by uid. One that cannot be read is left out, as if it had never been."""
    folder = node_path(node, PODS)
    if not os.path.isdir(folder):
        return
    for uid in sorted(os.listdir(folder)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(f"{folder}/{uid}/{_FILE}", "rb") as file:
                content = orjson.loads(file.read())
            containers = {name: ContainerRecord(**each) for name, each in content["containers"].items()}
            sandbox = SandboxRecord(**content["sandbox"])
            yield uid, PodRecord(content["pod"], sandbox, containers, content["startTime"])
