"""The sandbox of one pod: its network namespace with the CNI plugins' work, and its pause process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from collections.abc import Callable
from typing import TypeVar

from mininetes.agents.cni.runtime import Attachment
from mininetes.agents.dns.resolv_conf import resolv_conf
from mininetes.agents.kubelet import checkpoint, sandbox, termination, volumes
from mininetes.agents.kubelet.capabilities import capabilities_of
from mininetes.agents.kubelet.checkpoint import SandboxRecord
from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.environment import hostname, hosts_file
from mininetes.agents.kubelet.pod_spec import (
    Pod,
    containers,
    init_containers,
    is_host_network,
    kind_of,
    netns_name,
    uid_of,
)
from mininetes.agents.running import in_thread
from mininetes.agents.shim.client import ShimError
from mininetes.errors import MininetesError
from mininetes.lab.filesystem import netns_path, node_path

_T = TypeVar("_T")


class PodSandbox:
    """Makes and unmakes what holds a pod; ``record`` is what is known of it."""

    def __init__(self, context: Context, pod: Pod, record: SandboxRecord) -> None:
        self._context = context
        self._pod = pod
        self.record = record

    @property
    def netns(self) -> str:
        """The pod's network namespace, as the engine opens it."""
        if is_host_network(self._pod):
            return self._context.place.netns
        return netns_path(self._context.node, self.record.netns)

    @property
    def needs_pause(self) -> bool:
        """Whether there is to be a pause process: not for responders alone, when only mounts hold pods."""
        if self._context.options.hold == "process":
            return True
        specs = (*init_containers(self._pod), *containers(self._pod))
        return any(kind_of(spec, self._context.builtins) == "command" for spec in specs)

    async def make(self, save: Callable[[], None]) -> None:
        """Make all of it. ``save`` is called before the first trace of it. Leaves nothing behind when it fails.

        Raises ConfigError for volumes, MininetesError or OSError for the rest.
        """
        context, record = self._context, self.record
        objects = await context.objects_of(self._pod)
        binds: list[volumes.Bind] = []
        if volumes.are_wanted(self._pod):
            binds = await self._in_thread(lambda: volumes.prepare(context.node, self._pod, objects))
        if record.netns:  # what is left of an attempt that was broken off
            await self._detach()
        record.attempts += 1
        record.container_id = hashlib.sha256(f"{uid_of(self._pod)}/{record.attempts}".encode()).hexdigest()
        if is_host_network(self._pod):
            record.address = context.place.address
        else:
            record.netns = netns_name(self._pod)
        save()
        if not is_host_network(self._pod):
            await self._attach()
        try:
            if self.needs_pause:
                await self._start_pause([*self._write_names(), *self._messages(binds), *binds])
        except Exception:
            record.address = ""  # the next attempt gets another; shown, each would be a change that is acted on
            await self._detach()
            raise
        record.made = True

    async def remove(self) -> None:
        """Kill all of the pod's processes and let its network go. May be called twice. Raises CniFailed."""
        record = self.record
        if pause := record.pause:
            record.pause, record.pause_pid = "", 0  # before its end is heard of: it is not one to be made good
            with contextlib.suppress(ShimError):  # without the shim there is no such process either
                await self._context.shim.kill(pause, signal.SIGKILL)
                await self._context.shim.forget(pause)
        record.made = False
        await self._detach()

    async def is_lost(self) -> bool:
        """Whether it was made, and what holds it is not there any more."""
        record = self.record
        if not record.made:
            return False
        if not os.path.exists(self.netns):
            return True
        if not record.pause:
            return False
        known = await self._context.shim.processes(record.pause)
        return record.pause not in known or known[record.pause].status is not None

    def _attachment(self, *, new: bool = False) -> Attachment:
        """How the plugins know it; what they are told of a ``new`` one besides, the runtime keeps for later."""
        metadata = self._pod["metadata"]
        capabilities = capabilities_of(self._pod, self._resolver()) if new else {}
        return sandbox.attachment(
            self.record.container_id,
            self.record.netns,
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            capabilities=capabilities,
        )

    async def _attach(self) -> None:
        record, netns = self.record, self.record.netns
        try:
            what = self._attachment(new=True)
            record.result = await self._in_thread(lambda: sandbox.attach(self._context.cni, netns, what))
        except Exception:
            record.netns = ""  # it has cleaned up after itself
            raise
        record.address = sandbox.address_of(record.result)

    async def _detach(self) -> None:
        if not self.record.netns:
            return
        what, netns = self._attachment(), self.record.netns
        await self._in_thread(lambda: sandbox.detach(self._context.cni, netns, what))
        self.record.netns = ""

    async def _start_pause(self, binds: list[volumes.Bind]) -> None:
        context, record = self._context, self.record
        name = f"{context.node}/{uid_of(self._pod)}/pause/{record.attempts}"
        record.pause_pid = await context.shim.make_sandbox(
            name,
            holder_pid=context.place.holder_pid,
            netns=self.netns,
            hostname=hostname(self._pod, context.node),
            binds=binds,
        )
        record.pause = name

    def _write_names(self) -> list[volumes.Bind]:
        """Write the pod's own resolv.conf, hosts and hostname; returns where they are to be mounted."""
        context, options = self._context, self._context.options
        folder = checkpoint.folder_of(uid_of(self._pod))
        root = node_path(context.node, folder)
        os.makedirs(root, exist_ok=True)
        texts = {"resolv.conf": self._resolver()}
        if not is_host_network(self._pod):
            address = self.record.address
            texts["hosts"] = hosts_file(self._pod, address, context.node, options.cluster_domain)
            texts["hostname"] = hostname(self._pod, context.node) + "\n"
        for name, text in texts.items():
            with open(f"{root}/etc-{name}", "w") as file:
                file.write(text)
        return [(f"{folder}/etc-{name}", f"/etc/{name}", False) for name in texts]

    def _messages(self, binds: list[volumes.Bind]) -> list[volumes.Bind]:
        """Where the files of termination messages are to be mounted."""
        specs = (*init_containers(self._pod), *containers(self._pod))
        return termination.prepare(self._context.node, uid_of(self._pod), specs, binds)

    def _resolver(self) -> str:
        """The text of the pod's resolv.conf. Raises BadInput."""
        options = self._context.options
        try:
            with open(node_path(self._context.node, "/etc/resolv.conf")) as file:
                nodes = file.read()
        except OSError:
            nodes = ""
        return resolv_conf(self._pod, cluster_dns=options.cluster_dns, domain=options.cluster_domain, node=nodes)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await in_thread(self._context.executor, work)


def describe_failure(record: SandboxRecord, failed: BaseException) -> str:
    """The message of an event about a sandbox that could not be made, as container runtimes word it."""
    text = str(failed) or type(failed).__name__
    if isinstance(failed, MininetesError) and not isinstance(failed, ShimError):
        return f'Failed to create pod sandbox: failed to setup network for sandbox "{record.container_id}": {text}'
    return f"Failed to create pod sandbox: {text}"
