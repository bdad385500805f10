"""The state of a node's pod network as its kubelet sees it: whether there is one, and what is left over in it."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Callable, Collection
from concurrent.futures import Executor

from mininetes.agents.cni.conf_dir import first_of
from mininetes.agents.cni.runtime import CONF_DIR, CniFailed, CniRuntime
from mininetes.agents.klog import AgentLog
from mininetes.errors import MininetesError
from mininetes.lab.filesystem import netns_path, node_path

STATUS_PERIOD_S = 60.0
UNAVAILABLE_PERIOD_S = 2.0
FIRST_STATUS_S = 5.0
GC_PERIOD_S = 300.0
STATE_DIR = "/var/lib/cni"
LIMITED = 51
"""STATUS: pods that there are may have no network either; any other code says that no pod can be added."""

_NOT_READY = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:"
_NO_NETWORK = f"{_NOT_READY}Network plugin returns error: cni plugin not initialized"


class PodNetwork:
    """Watches the network of one node. ``own`` gives the containers that are the kubelet's, ended ones not."""

    def __init__(
        self, runtime: CniRuntime, executor: Executor, log: AgentLog, own: Callable[[], Collection[str]]
    ) -> None:
        self._runtime = runtime
        self._executor = executor
        self._log = log
        self._own = own
        self._seen = 0
        """When the configuration's folder had changed last as there was a good one in it."""
        self._unavailable = ""

    def failure(self) -> str:
        """Why pods cannot have a network yet; "" when they can. Looks at the files anew when they have changed."""
        folder = node_path(self._runtime.node, CONF_DIR)
        try:
            changed = os.stat(folder).st_mtime_ns
            if changed != self._seen:
                first_of(folder)
                self._seen = changed
        except (MininetesError, OSError):
            self._seen = 0
            return _NO_NETWORK
        return self._unavailable

    async def run(self) -> None:
        """Have the plugins collect garbage, at first what is left from before, and ask for their status. Never ends.

        The nodes of a large cluster do it at different times.
        """
        loop = asyncio.get_running_loop()
        collected = loop.time()
        if self._has_state():
            await loop.run_in_executor(self._executor, self._collect)
        await asyncio.sleep(FIRST_STATUS_S + zlib.crc32(self._runtime.node.encode()) % 100 / 10)
        while True:
            await loop.run_in_executor(self._executor, self._ask)
            await asyncio.sleep(UNAVAILABLE_PERIOD_S if self._unavailable else STATUS_PERIOD_S)
            if loop.time() - collected >= GC_PERIOD_S:
                collected = loop.time()
                await loop.run_in_executor(self._executor, self._collect)

    def _has_state(self) -> bool:
        """Whether anything was ever kept for pods of this node."""
        folder = node_path(self._runtime.node, STATE_DIR)
        return os.path.isdir(folder) and bool(os.listdir(folder))

    def _collect(self) -> None:
        try:
            wrong = self._runtime.collect_garbage(self.valid)
        except (MininetesError, OSError) as failed:
            wrong = [str(failed)] if self._seen else []  # without a configuration there is nothing to collect by
        for each in wrong:
            self._log.warning("CNI garbage collection failed", err=each)

    def valid(self) -> set[tuple[str, str]]:
        """The attachments that are to stay: the kubelet's own, and others' whose namespaces are there.

        Others are those that were added by hand, beside it.
        """
        own = self._own()
        found = {(container, "eth0") for container in own}
        for each in self._runtime.attachments():
            is_pod = any(key == "K8S_POD_UID" for key, _ in each.args)
            if not is_pod and each.netns and os.path.exists(_as_engine(self._runtime.node, each.netns)):
                found.add((each.container_id, each.interface))
        return found

    def _ask(self) -> None:
        """Not to be able to add pods makes a node without pods unready; others would lose theirs by it."""
        said = ""
        try:
            self._runtime.check_status()
        except CniFailed as failed:
            if failed.code == LIMITED or not self._own():
                said = f"{_NOT_READY}Network plugin returns error: {failed}"
        except (MininetesError, OSError):
            pass  # a wrong configuration: `failure` says so
        if said and said != self._unavailable:
            self._log.error("Container runtime network not ready", err=said)
        self._unavailable = said


def _as_engine(node: str, netns: str) -> str:
    """A namespace's path in a node, as the engine opens it."""
    folder, _, name = netns.rpartition("/")
    return netns_path(node, name) if folder in ("/run/netns", "/var/run/netns") else node_path(node, netns)
