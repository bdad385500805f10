"""The private file systems of the lab and of its nodes.

    lab                       /run, /etc, /opt, /var/lib: tmpfs with links to the host's entries
    lab /run/mininetes/nodes/NODE/...   what is private to a node, seen from the engine
    node /run, /etc/cni/net.d, ...      the same, bound to where a node has it

Used by PID 1 of the lab alone, so that it imports little.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterable

from mininetes.kernel.netns import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    mount,
    umount,
)

NODES = "/run/mininetes/nodes"
"""In the lab: one folder for each node, with its private paths below."""

HOST = "/opt/.host"
"""In the lab: the host's /etc, /opt and /var/lib, which the tmpfs over them link to."""

LINKED = ("/etc", "/opt", "/var/lib")
"""What the lab has of its own, for all nodes, with links to what the host has there."""

PRIVATE_DIRECTORIES = (
    "/etc/cni/net.d",
    "/etc/kubernetes",
    "/etc/systemd/system/kubelet.service.d",
    "/opt/cni/bin",
    "/var/lib/cni",
    "/var/lib/etcd",
    "/var/lib/kube-proxy",
    "/var/lib/kubelet",
    "/var/log",
)
"""Besides /run. What a node has for itself alone."""

PRIVATE_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/systemd/system/kubelet.service")

_AT_FDCWD = -100
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_AT_RECURSIVE = 0x8000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_libc = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def detached_tree(path: str, *, recursive: bool) -> int:
    """A copy of the mount at ``path``, from there on, that is mounted nowhere: its descriptor. Raises OSError."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    where = ctypes.c_int(_AT_FDCWD), ctypes.c_char_p(path.encode())
    return _syscall(_SYS_OPEN_TREE, *where, ctypes.c_uint(flags))


def attach_tree(tree: int, target: str) -> None:
    """Mount a `detached_tree` at ``target``, also in another mount namespace than its own. Raises OSError."""
    origin = ctypes.c_int(tree), ctypes.c_char_p(b"")
    place = ctypes.c_int(_AT_FDCWD), ctypes.c_char_p(target.encode())
    _syscall(_SYS_MOVE_MOUNT, *origin, *place, ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH))


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders or lies in it."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def node_path(node: str, path: str) -> str:
    """Where the engine finds ``path`` of a node (a path below /run or one of the private ones)."""
    return f"{NODES}/{node}{path}"


def netns_path(node: str, name: str) -> str:
    """Where the engine finds the network namespace which the node knows as /run/netns/NAME."""
    return node_path(node, f"/run/netns/{name}")


def mount_lab() -> None:
    """Lay the lab's file systems over the host's, in a mount namespace of our own. Raises OSError."""
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    stage = "/run/.host"
    for path in LINKED:
        os.makedirs(stage + path)
        mount(path, stage + path, flags=MS_BIND | MS_REC)
    for path in ("/opt", "/etc", "/var/lib"):  # /opt first: the others' originals are kept below it
        mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
        if path == "/opt":
            for each in LINKED:
                os.makedirs(HOST + each)
                mount(stage + each, HOST + each, flags=MS_BIND | MS_REC)
        for entry in os.listdir(HOST + path):
            if path + "/" + entry != "/opt/cni":
                os.symlink(f"{HOST}{path}/{entry}", f"{path}/{entry}")
    for path in LINKED:
        umount(stage + path, detach=True)
    shutil.rmtree(stage)
    for path in PRIVATE_DIRECTORIES:
        if not path.startswith("/var/log"):
            _make_real(path)
    for path in PRIVATE_FILES:
        _make_real_file(path)
    os.makedirs("/run/netns")
    os.makedirs(NODES)


def _make_real(path: str) -> None:
    """Make ``path`` a directory of the lab's own where a link leads to the host's, keeping the entries beside it."""
    done = ""
    for part in path.strip("/").split("/"):
        done += "/" + part
        if os.path.islink(done):
            old = os.readlink(done)
            os.unlink(done)
            os.mkdir(done)
            if done != path and os.path.isdir(old):
                for entry in os.listdir(old):
                    os.symlink(f"{old}/{entry}", f"{done}/{entry}")
        elif not os.path.isdir(done):
            os.mkdir(done)


def _make_real_file(path: str) -> None:
    """Make ``path`` a file of the lab's own, so that a node's can be bound over it."""
    try:
        with open(path, "rb") as old:
            content = old.read()
    except OSError:
        content = b""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "wb") as new:
        new.write(content)


def prepare_node(node: str) -> None:
    """Make a node's private tree below NODES, in the lab's mount namespace. Raises FileExistsError."""
    os.mkdir(f"{NODES}/{node}")
    for path in (*PRIVATE_DIRECTORIES, "/run/netns", "/run/lock", "/run/flannel"):
        os.makedirs(node_path(node, path))
    for path in PRIVATE_FILES:
        os.makedirs(os.path.dirname(node_path(node, path)), exist_ok=True)
        with open(path, "rb") as old, open(node_path(node, path), "wb") as new:
            new.write(old.read())
    with open(node_path(node, "/etc/hostname"), "w") as hostname:
        hostname.write(node + "\n")
    # shared, so that a namespace which the engine or the node mounts there is seen by both
    netns = node_path(node, "/run/netns")
    mount(netns, netns, flags=MS_BIND)
    mount("", netns, flags=MS_SHARED)


def remove_node(node: str) -> None:
    """Undo `prepare_node` once nothing of the node runs any more, with all pods' namespaces that it still holds.

    In the lab's mount namespace. Does nothing when it is gone. Raises OSError.
    """
    netns = node_path(node, "/run/netns")
    if os.path.isdir(netns):
        for name in os.listdir(netns):
            with contextlib.suppress(OSError):  # a file on which nothing is mounted
                umount(f"{netns}/{name}", detach=True)
        umount(netns, detach=True)
    shutil.rmtree(f"{NODES}/{node}", ignore_errors=True)


def mount_node(node: str) -> None:
    """Put a node's private tree into place, in the node's own mount, network and UTS namespace. Raises OSError."""
    for path in (*PRIVATE_DIRECTORIES, *PRIVATE_FILES):
        mount(node_path(node, path), path, flags=MS_BIND)
    # The lab's /run goes from this namespace altogether: a copy of the other nodes'
    # shared /run/netns in it would have each pod's mount passed on to every node.
    tree = detached_tree(node_path(node, "/run"), recursive=True)
    try:
        # private first: or pods' mounts in the other nodes' shared /run/netns would go for everybody
        mount("", "/run", flags=MS_REC | MS_PRIVATE)
        umount("/run", detach=True)
        attach_tree(tree, "/run")
    finally:
        os.close(tree)
    umount("/sys", detach=True)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
