"""The commands that put a process into a running lab, one of its nodes or one of its pods."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mininetes.kernel.processes import Namespaces


def enter_lab(pid: int, *, as_root: bool | None = None) -> list[str]:
    """The argv prefix that enters the lab whose PID 1 has ``pid`` (in the caller's PID namespace)."""
    root = os.geteuid() == 0 if as_root is None else as_root
    user = [] if root else ["--user", "--preserve-credentials"]
    return ["nsenter", "--target", str(pid), *user, "--mount", "--net", "--pid", "--uts", "--ipc", "--"]


def enter_node(
    lab_pid: int,
    holder_pid: int,
    command: Sequence[str],
    *,
    pod_netns: str | None = None,
    pause_pid: int | None = None,
) -> list[str]:
    """The argv that runs ``command`` in a node, or in a pod of it when ``pod_netns`` is given.

    ``holder_pid`` is the node's, inside the lab; ``pod_netns`` a path inside the lab. A pod's pause
    process holds its other namespaces as well; without one, the command sees the node's files.
    """
    if pause_pid is not None:
        namespaces = ["--mount", "--net", "--uts", "--ipc", "--pid"]
        return [*enter_lab(lab_pid), "nsenter", "--target", str(pause_pid), *namespaces, "--", *command]
    inner = Namespaces(of_pid=holder_pid, net=pod_netns)
    return [*enter_lab(lab_pid), *inner.prefix(), *command]
