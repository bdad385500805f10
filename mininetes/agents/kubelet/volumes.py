"""Volumes of pods, as far as files do: configMap, secret, emptyDir, hostPath. They lie below the pod's folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mininetes.agents.kubelet.checkpoint import folder_of
from mininetes.agents.kubelet.environment import ConfigError, data_of
from mininetes.agents.kubelet.pod_spec import Pod, containers, init_containers, uid_of
from mininetes.lab.filesystem import node_path

Objects = Mapping[tuple[str, str], Mapping[str, Any] | None]
Bind = tuple[str, str, bool]

_KINDS = {"configMap": "configmaps", "secret": "secrets"}
_CREDENTIALS = "kube-api-access-"
"""The volume that Kubernetes adds for service accounts; there are none here, and no container needs it to start."""


def are_wanted(pod: Pod) -> bool:
    """Whether any container of the pod mounts a volume."""
    return bool(_mounts(pod))


def _mounts(pod: Pod) -> list[Mapping[str, Any]]:
    found = [mount for each in (*init_containers(pod), *containers(pod)) for mount in each.get("volumeMounts") or []]
    return [mount for mount in found if not str(mount["name"]).startswith(_CREDENTIALS)]


def prepare(node: str, pod: Pod, objects: Objects) -> list[Bind]:
    """Write the pod's volumes and return what is to be mounted where: (source, target, read-only), paths of the node.

    A pod's containers share one view of the file system, so each path can have one volume.
    Raises ConfigError for a volume that cannot be had, and OSError.
    """
    known = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    binds: dict[str, Bind] = {}
    for mount in _mounts(pod):
        name, target = str(mount["name"]), os.path.normpath(str(mount["mountPath"]))
        if name not in known:
            raise ConfigError(f'volumeMounts: there is no volume "{name}"')
        source = _source(node, pod, known[name], objects)
        if mount.get("subPath"):
            if ".." in mount["subPath"].split("/"):
                raise ConfigError(f'volumeMounts: subPath "{mount["subPath"]}" leads out of volume "{name}"')
            source = os.path.normpath(f"{source}/{mount['subPath']}")
        bind = (source, target, bool(mount.get("readOnly")) or any(kind in known[name] for kind in _KINDS))
        if binds.setdefault(target, bind)[0] != source:
            raise ConfigError(
                f'volumeMounts: two volumes for "{target}": containers of a pod share its file system here'
            )
    return [binds[target] for target in sorted(binds)]


def _source(node: str, pod: Pod, volume: Mapping[str, Any], objects: Objects) -> str:
    """Where a volume's content lies in the node; written on the way."""
    if "hostPath" in volume:
        return str(volume["hostPath"]["path"])
    for field, kind in _KINDS.items():
        if field in volume:
            return _written(node, pod, volume, field, kind, objects)
    if "emptyDir" in volume:
        folder = f"{folder_of(uid_of(pod))}/volumes/kubernetes.io~empty-dir/{volume['name']}"
        os.makedirs(node_path(node, folder), exist_ok=True)
        return folder
    kind = next((key for key in volume if key != "name"), "nothing")
    raise ConfigError(
        f'volume "{volume["name"]}" is {kind}: the volumes known here are configMap, secret, emptyDir, hostPath'
    )


def _written(node: str, pod: Pod, volume: Mapping[str, Any], field: str, kind: str, objects: Objects) -> str:
    """Write a ConfigMap's or Secret's entries as files and return their folder."""
    wanted = volume[field]
    name = str(wanted.get("secretName" if field == "secret" else "name", ""))
    obj = objects.get((kind, name))
    if obj is None and not wanted.get("optional"):
        raise ConfigError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {kind[:-1]} "{name}" not found')
    data = data_of(kind, obj or {})
    folder = f"{folder_of(uid_of(pod))}/volumes/kubernetes.io~{field.lower()}/{volume['name']}"
    root = node_path(node, folder)
    os.makedirs(root, exist_ok=True)
    items = wanted.get("items") or [{"key": key, "path": key} for key in data]
    for item in items:
        if item["key"] not in data:
            if wanted.get("optional"):
                continue
            raise ConfigError(f'volume "{volume["name"]}": {kind[:-1]} "{name}" has no key "{item["key"]}"')
        path = os.path.normpath(f"{root}/{item['path']}")
        if not path.startswith(root + "/"):
            raise ConfigError(f'volume "{volume["name"]}": path "{item["path"]}" leads out of the volume')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data[item["key"]])
    return folder
