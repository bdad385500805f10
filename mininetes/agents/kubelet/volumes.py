"""Volumes of pods, as far as files do: configMap, secret, emptyDir, hostPath. They lie below the pod's folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from mininetes.agents.kubelet.checkpoint import folder_of
from mininetes.agents.kubelet.environment import ConfigError, data_of
from mininetes.agents.kubelet.pod_spec import Pod, containers, init_containers, uid_of
from mininetes.lab.filesystem import HOST, LINKED, PRIVATE_DIRECTORIES, PRIVATE_FILES, is_below, node_path

Objects = Mapping[tuple[str, str], Mapping[str, Any] | None]
Bind = tuple[str, str, bool]

_KINDS = {"configMap": "configmaps", "secret": "secrets"}
_MODE = 0o644
_PRIVATE = ("/run", *PRIVATE_DIRECTORIES, *PRIVATE_FILES)

_Check = tuple[Callable[[int], bool], str]
_CHECKS: Mapping[str, _Check] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}
"""The types of hostPath volumes, as a kubelet checks and names them (its pkg/volume/hostpath)."""

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

    Sources in the node's /run are paths of the lab: pods have nothing of it.
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
            _make(node, name, source)
        if is_below(os.path.realpath(source), ("/run",)):
            source = _found(node, source)
        bind = (source, target, bool(mount.get("readOnly")) or any(kind in known[name] for kind in _KINDS))
        if binds.setdefault(target, bind)[0] != source:
            raise ConfigError(
                f'volumeMounts: two volumes for "{target}": containers of a pod share its file system here'
            )
    return [binds[target] for target in sorted(binds)]


def _source(node: str, pod: Pod, volume: Mapping[str, Any], objects: Objects) -> str:
    """Where a volume's content lies in the node; written on the way."""
    if "hostPath" in volume:
        return _of_the_node(node, str(volume["name"]), volume["hostPath"])
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


def _of_the_node(node: str, name: str, wanted: Mapping[str, Any]) -> str:
    """Check a hostPath volume's path, or make what it lacks, as kubelet and container runtime do together."""
    path, kind = os.path.normpath(str(wanted["path"])), str(wanted.get("type") or "")
    if kind in ("", "DirectoryOrCreate", "FileOrCreate"):
        _make(node, name, path, is_folder=kind != "FileOrCreate")
    kind = kind.removesuffix("OrCreate")
    if not kind:
        return path
    if kind not in _CHECKS:
        raise _not_set_up(name, f"{kind} is an invalid volume type")
    is_so, what = _CHECKS[kind]
    found = _found(node, path)
    if not (os.path.exists(found) and is_so(os.stat(found).st_mode)):
        raise _not_set_up(name, f"hostPath type check failed: {path} is not {what}")
    return path


def _make(node: str, name: str, path: str, *, is_folder: bool = True) -> None:
    """Make a folder or file that a volume lacks; not on the host. Raises ConfigError."""
    found = _found(node, path)
    if os.path.exists(found):
        return
    is_private = found.startswith(node_path(node, "/"))
    if not is_private and (not is_below(found, LINKED) or is_below(found, (HOST,))):
        raise _not_set_up(
            name,
            f"{path} does not exist, and is not made: it would be on the host, whose files the nodes have except for"
            f" {', '.join(('/run', *LINKED, '/var/log'))}",
        )
    try:
        if is_folder:
            os.makedirs(found, 0o755)
        else:
            os.close(os.open(found, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, _MODE))
    except OSError as failed:
        raise _not_set_up(name, f"{path}: {(failed.strerror or '').lower()}") from None


def _found(node: str, path: str) -> str:
    """Where the engine finds any path of a node."""
    real = os.path.realpath(path)
    return node_path(node, real) if is_below(real, _PRIVATE) else real


def _not_set_up(volume: str, why: str) -> ConfigError:
    """What the event FailedMount says of a volume."""
    return ConfigError(f'MountVolume.SetUp failed for volume "{volume}" : {why}')


def _written(node: str, pod: Pod, volume: Mapping[str, Any], field: str, kind: str, objects: Objects) -> str:
    """Write a ConfigMap's or Secret's entries as files and return their folder."""
    wanted = volume[field]
    name = str(wanted.get("secretName" if field == "secret" else "name", ""))
    obj = objects.get((kind, name))
    if obj is None and not wanted.get("optional"):
        raise _not_set_up(volume["name"], f'{kind[:-1]} "{name}" not found')
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
        mode = item.get("mode")
        os.chmod(path, int(wanted.get("defaultMode") or _MODE) if mode is None else int(mode))
    return folder
