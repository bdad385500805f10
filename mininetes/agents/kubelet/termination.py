"""What containers say as they end: the file at their terminationMessagePath, or the end of their log.

A pod's containers share one view of its files, so that those with the same path write to one file. It is emptied when
a container has ended: what another one wrote before that, and without ending, is taken for that container's.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mininetes.agents.kubelet.checkpoint import PODS, folder_of
from mininetes.lab.filesystem import node_path

LARGEST_BYTES = 4096
LARGEST_OF_LOG_BYTES, MOST_LINES_OF_LOG = 2048, 80
"""The limits of a kubelet (its pkg/kubelet/container)."""

_READ_BYTES = 1 << 15
"""More than the longest line of a log."""

_Bind = tuple[str, str, bool]


def _path(spec: Mapping[str, Any]) -> str:
    return os.path.normpath(str(spec.get("terminationMessagePath") or "/dev/termination-log"))


def _file(uid: str, path: str) -> str:
    return f"{folder_of(uid)}/termination{path.replace('/', '~')}"


def prepare(node: str, uid: str, specs: Iterable[Mapping[str, Any]], volumes: Collection[_Bind]) -> list[_Bind]:
    """Make the files of a pod's containers, empty, and return where they are to be mounted. Raises OSError.

    Not in a volume that is a folder of the host's, where mounting would make a file.
    """
    hosts = [f"{target}/" for source, target, _ in volumes if not source.startswith(f"{PODS}/")]
    paths = {path for spec in specs if not (path := _path(spec)).startswith(tuple(hosts))}
    for path in paths:
        file = node_path(node, _file(uid, path))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb"):
            os.chmod(file, 0o666)  # noqa: S103 (as a kubelet's: whoever the container runs as writes to it)
    return [(_file(uid, path), path, False) for path in sorted(paths)]


def message(node: str, uid: str, spec: Mapping[str, Any], status: int, log: str) -> str:
    """What a container said that has just ended; ``log`` is its log, as the engine finds it. Empties the file."""
    said = b""
    try:
        with open(node_path(node, _file(uid, _path(spec))), "r+b") as file:
            said = file.read(LARGEST_BYTES)
            file.truncate(0)
    except OSError:
        pass  # there is none where the pod has it in a folder of the host's
    if not said and status and spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        said = _end_of(log)
    return said.decode(errors="replace")


def _end_of(log: str) -> bytes:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _READ_BYTES))
            is_cut = file.tell() > 0
            lines = file.read().splitlines(keepends=True)[int(is_cut) :]
    except OSError:
        return b""
    said = b""
    for line in lines[-MOST_LINES_OF_LOG:]:
        _, _, tag, content = line.split(b" ", 3)
        said += content.removesuffix(b"\n") if tag == b"P" else content
    return said[-LARGEST_OF_LOG_BYTES:]
