"""The mounts that a pod has for itself: /proc, /sys, /run, its names in /etc, and its volumes.

    place of a mount                       where a mount point that it lacks is made
    in a volume of the pod                 in the volume, as container runtimes do (not when it is read-only)
    in a folder of the lab or the pod      there
    in a folder of the host                in a tmpfs over it, with links to what the host has there

Runs in a child of the shim that is about to become the pod's pause process.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence

from mininetes.kernel.netns import (
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    umount,
)
from mininetes.lab.filesystem import HOST, LINKED, NODES, attach_tree, detached_tree, is_below

Bind = tuple[str, str, bool]

_OF_THE_LAB = (*LINKED, "/run", "/var/log")
_UNDER = ".under"
_WRITTEN_HERE = "/var/lib/kubelet/pods"
"""In a node: volumes that the kubelet made, so that mount points in them may be made before they are read-only."""


def lay_over_devices() -> None:
    """Have /dev take the files that pods' termination messages are mounted on. For the base of all pods of a node."""
    _lay_over("/dev")
    os.close(os.open("/dev/termination-log", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))


def copies_of_run(binds: Sequence[Bind]) -> dict[str, int]:
    """Copies of the sources that lie in a node's /run, as the lab has it: target -> descriptor. Raises OSError.

    Called in the lab's mount namespace: pods' have nothing of the node's /run, see `make_base`. The copies lack what
    is mounted below, which is the network namespaces of all pods.
    """
    found = {target: source for source, target, _ in binds if is_below(source, (NODES,))}
    return {target: detached_tree(source, recursive=False) for target, source in found.items()}


def mount_pod(binds: Sequence[Bind], copies: Mapping[str, int]) -> None:
    """Mount what a pod has for itself. Of two binds at one path the later one counts. Raises OSError.

    ``copies`` are the `copies_of_run` of the binds.
    """
    umount("/sys", detach=True)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    os.mkdir("/run/lock")
    # all sources are found before the first mount hides one; containerd mounts in this order, too
    wanted = sorted({bind[1]: bind for bind in binds}.values(), key=lambda bind: bind[1].count("/"))
    trees = [copies.get(target) or detached_tree(source, recursive=True) for source, target, _ in wanted]
    own = {os.stat("/dev").st_dev}
    if not all(os.path.exists(f"/{os.path.realpath(target).split('/')[1]}") for _, target, _ in wanted):
        _lay_over_root()
        own.add(os.stat("/").st_dev)
    volumes = _Volumes(own)
    for tree, (source, target, read_only) in zip(trees, wanted, strict=True):
        volumes.mount(tree, target, read_only, delay=is_below(source, (_WRITTEN_HERE,)))
        os.close(tree)
    volumes.finish()


class _Volumes:
    """What is mounted so far of a pod's volumes."""

    def __init__(self, own: set[int]) -> None:
        self._places: dict[str, bool] = {}
        """Where one is mounted -> whether it is to become read-only at the end."""
        self._under = [f"/dev/{_UNDER}"]
        """Where the host's folders are that are laid over."""
        self._own = own
        """The device numbers of what is laid over them."""

    def mount(self, tree: int, target: str, read_only: bool, *, delay: bool) -> None:
        """Mount one. With ``delay`` it becomes read-only at the end only. Raises OSError."""
        place = os.path.realpath(target)
        if not os.path.exists(place):
            self._make_mount_point(place, stat.S_ISDIR(os.fstat(tree).st_mode))
        attach_tree(tree, place)
        mount("", place, flags=MS_REC | MS_PRIVATE)
        self._places[place] = read_only and delay
        if read_only and not delay:
            _make_read_only(place)

    def finish(self) -> None:
        """Make those read-only that were left for the end. Raises OSError."""
        for place, read_only in self._places.items():
            if read_only:
                _make_read_only(place)

    def _make_mount_point(self, place: str, is_folder: bool) -> None:
        ancestor = os.path.dirname(place)
        while not os.path.isdir(ancestor):
            ancestor = os.path.dirname(ancestor)
        if self._is_of_the_host(ancestor):
            self._lay_over(ancestor)
        os.makedirs(place if is_folder else os.path.dirname(place), exist_ok=True)
        if not is_folder:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))

    def _is_of_the_host(self, folder: str) -> bool:
        if os.stat(folder).st_dev in self._own or is_below(folder, self._places):
            return False
        return is_below(folder, self._under) or not _is_of_the_lab(folder)

    def _lay_over(self, folder: str) -> None:
        if folder == "/":
            raise OSError(errno.EROFS, "a link leads to a new folder in the root", folder)
        under = _lay_over(folder)
        self._under.append(under)
        self._own.add(os.stat(folder).st_dev)
        self._places = {
            under + place[len(folder) :] if is_below(place, (folder,)) else place: read_only
            for place, read_only in self._places.items()
        }


def _lay_over(folder: str) -> str:
    """Lay a tmpfs of links over a folder of the host, which is not to be written to; where the folder is now."""
    under = f"{folder}/{_UNDER}"
    entries = os.listdir(folder)
    tree = detached_tree(folder, recursive=True)
    mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    os.mkdir(under)
    attach_tree(tree, under)
    os.close(tree)
    for entry in entries:
        os.symlink(f"{_UNDER}/{entry}", f"{folder}/{entry}")
    return under


def _make_read_only(place: str) -> None:
    mount("", place, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def _is_of_the_lab(folder: str) -> bool:
    """Whether a folder (a real path) is one that the lab has laid over the host's."""
    return is_below(folder, _OF_THE_LAB) and not is_below(folder, (HOST,))


def _lay_over_root() -> None:
    """Give the pod a root folder of its own, for new entries: with all that was there mounted in it.

    The pod's processes get there by setns(2), which goes to what is mounted last on the root.
    """
    new = "/run/.root"
    os.mkdir(new)
    mount("tmpfs", new, "tmpfs", MS_NODEV, "mode=0755")
    for entry in os.scandir("/"):
        there = f"{new}/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), there)
            continue
        if entry.is_dir():
            os.mkdir(there)
        else:
            os.close(os.open(there, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        mount(entry.path, there, flags=MS_BIND | (0 if entry.name == "run" else MS_REC))
    os.chdir(new)
    mount(new, "/", flags=MS_MOVE)
    os.chroot(".")
    os.chdir("/")
    os.rmdir(new)
