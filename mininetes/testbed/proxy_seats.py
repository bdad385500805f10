"""Where the services' proxies sit: kube-proxy on each node, in a mode that can be switched, or an outside program."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubeproxy.agent import KubeProxy
from mininetes.agents.kubeproxy.compiling import mode_sha256, mode_title
from mininetes.agents.node_files import PROXY_KUBECONFIG
from mininetes.agents.outside_program import OutsideProgram
from mininetes.apiserver.client import Client
from mininetes.errors import BadInput, MininetesError
from mininetes.spec import ClusterSpec
from mininetes.testbed import proxying
from mininetes.testbed.agent_tasks import AgentTasks, Maker, Runs
from mininetes.testbed.cluster_watch import TROUBLES_EVERY_S

_LOOK_S = 0.005
_MOST_NAMED = 8


class ProxySeats:
    """Says what proxy a node has, and makes it. ``name`` is that of its seat and of its log."""

    def __init__(self, spec: ClusterSpec, tasks: AgentTasks, executor: Executor) -> None:
        self._spec = spec
        self._tasks = tasks
        self._executor = executor
        self.name = spec.proxy.title
        self.mode = proxying.proxy_mode(spec)
        """The mode that kube-proxies are made with from now on; means nothing with an outside program."""
        self._replaced: dict[str, Runs | None] = {}
        """Each node's kube-proxy of before the last `switch`, until when the next one may not be there yet."""
        self.in_use = asyncio.Lock()
        """Held by whoever has other proxies work for a while."""

    @property
    def is_outside(self) -> bool:
        """Whether an outside program runs instead of our kube-proxy: nobody knows then when its rules are in force."""
        return bool(self._spec.proxy.exec)

    @property
    def title(self) -> str:
        """For people: the mode, or the program."""
        return self.name if self.is_outside else mode_title(self.mode)

    def agent(self, place: Placement, client: Client, log: AgentLog) -> Runs:
        """A node's kube-proxy, in the mode of the moment."""
        return KubeProxy(
            place,
            client,
            log,
            mode=self.mode,
            config=proxying.proxy_config(self._spec),
            backend=self._spec.proxy.backend,
            executor=self._executor,
        )

    def program(self, place: Placement, log: AgentLog, argv: Sequence[str]) -> OutsideProgram:
        """An outside program for a node, with the kubeconfig that kube-proxy would have."""
        environment = {"KUBECONFIG": PROXY_KUBECONFIG}
        return OutsideProgram(place, log, argv, executor=self._executor, environment=environment)

    def program_maker(self, place: Placement, log: AgentLog) -> Maker:
        """What makes the outside program of a node; its kubeconfig is the one that kube-proxy would have."""
        program = self.program(place, log, self._spec.proxy.exec)

        @contextlib.asynccontextmanager
        async def made() -> AsyncIterator[Runs]:
            own = Path(log.path)
            usual = own.with_name(f"{KubeProxy.name}.log")
            if usual != own:  # people look for it under the name of what it stands for
                with contextlib.suppress(FileExistsError):
                    usual.symlink_to(own.name)
            yield program

        return made

    async def synced(
        self, nodes: Iterable[str], *, within_s: float, trouble: Callable[[str], None] = lambda _: None
    ) -> None:
        """Wait until these nodes' rules are in force. Raises MininetesError that names those where they are not.

        That is after ``within_s``, or as soon as a mistake in a mode's file keeps all that are waited for.
        ``trouble`` hears what keeps them when that takes long, and what else later. With an outside program
        nothing is waited for.
        """
        if self.is_outside:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        look = loop.time() + TROUBLES_EVERY_S
        found: dict[str, str] = {}
        told: set[str] = set()
        wanted = list(nodes)
        while waiting := [node for node in wanted if not self._is_synced(node)]:
            hopeless = all(self._is_hopeless(node) for node in waiting)
            if hopeless or loop.time() > end:
                found |= self._troubles(waiting)
                why = self._said({node: found[node] for node in waiting if node in found})
                if silent := [node for node in waiting if node not in found]:
                    log = f"{self._spec.logging.directory}/{self.name}.log"
                    why.append(f"{self.name} on {_named(silent)}: see {log} there")
                raise MininetesError(
                    f"no rules of services{'' if hopeless else f' within {within_s:g} s'}: {'; '.join(why)}"
                )
            if loop.time() > look:
                look = loop.time() + TROUBLES_EVERY_S
                found |= self._troubles(waiting)  # one that is just starting anew says nothing for a moment
                for each in self._said({node: found[node] for node in waiting if node in found}):
                    if each not in told:
                        trouble(each)
                    told.add(each)
            await asyncio.sleep(_LOOK_S)

    def _is_hopeless(self, node: str) -> bool:
        proxy = self._tasks.agent(node, self.name)
        return isinstance(proxy, KubeProxy) and proxy.mode == self.mode and proxy.is_hopeless

    def _troubles(self, nodes: Iterable[str]) -> dict[str, str]:
        """What keeps these nodes' proxies, as their last errors say."""
        found: dict[str, str] = {}
        for node in nodes:
            proxy = self._tasks.agent(node, self.name)
            why = self._tasks.failure(node, self.name) or (proxy.trouble if isinstance(proxy, KubeProxy) else "")
            if why:
                found[node] = why
        return found

    def _said(self, troubles: Mapping[str, str]) -> list[str]:
        """Nodes' troubles for people: those with the same one together."""
        found: dict[str, list[str]] = {}
        for node, why in troubles.items():
            found.setdefault(why, []).append(node)
        return [f"{self.name} on {_named(which)}: {why}" for why, which in found.items()]

    def _is_synced(self, node: str) -> bool:
        proxy = self._tasks.agent(node, self.name)
        if not isinstance(proxy, KubeProxy) or proxy is self._replaced.get(node):
            return False
        return proxy.mode == self.mode and bool(proxy.metrics.last_synced)

    def _is_outdated(self, mode: str, nodes: Iterable[str]) -> bool:
        now = mode_sha256(mode)
        proxies = [self._tasks.agent(node, self.name) for node in nodes]
        return any(isinstance(each, KubeProxy) and each.mode_sha256 != now for each in proxies)

    async def settled(
        self, nodes: Iterable[str], *, services: Sequence[str] = (), slices: Sequence[str] = (), within_s: float
    ) -> bool:
        """Wait until these nodes' kube-proxies have written all changes, those of the objects named among them.

        False when one has not in time; an outside program, or an agent that was stopped, is not waited for.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        wanted = [node for node in nodes if self._tasks.is_alive(node, self.name)]
        proxies = [self._tasks.agent(node, self.name) for node in wanted]
        await asyncio.sleep(_LOOK_S)  # what the API has just told has come by then
        while any(isinstance(each, KubeProxy) and not each.is_settled(services, slices) for each in proxies):
            if loop.time() > end:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    @contextlib.asynccontextmanager
    async def away(self, nodes: Iterable[str], *, within_s: float) -> AsyncIterator[None]:
        """Without the nodes' proxies for as long as the block runs; their rules stay where they are.

        Those that worked are started anew afterwards, and their rules are in force again. Raises MininetesError
        when they are not in time.
        """
        worked = [node for node in nodes if self._tasks.is_working(node, self.name)]
        before = {node: self._tasks.agent(node, self.name) for node in worked}
        try:
            for node in worked:
                await self._tasks.stop(node, self.name)
            yield
        finally:
            for node in worked:
                self._tasks.start(node, self.name)
            while any(self._tasks.agent(node, self.name) is before[node] for node in worked) and not self.is_outside:
                await asyncio.sleep(_LOOK_S)
            await self.synced(worked, within_s=within_s)

    async def switch(self, mode: str, nodes: Iterable[str], *, within_s: float) -> None:
        """Start every node's kube-proxy anew in another mode; returns when its rules are in force.

        So too in the mode of now when its file has changed.

        Raises BadInput with an outside program, MininetesError when a node does not get its rules in time.
        """
        if self.is_outside:
            raise BadInput(
                "mode", mode, f"left out: the services' proxy of this lab is {' '.join(self._spec.proxy.exec)}"
            )
        wanted = list(nodes)
        if mode == self.mode and not self._is_outdated(mode, wanted):
            return
        self.mode = mode
        for node in wanted:
            await self._tasks.stop(node, self.name)
            self._replaced[node] = self._tasks.agent(node, self.name)
            self._tasks.start(node, self.name)
        await self.synced(wanted, within_s=within_s)


def _named(nodes: Sequence[str]) -> str:
    more = f" and {len(nodes) - _MOST_NAMED} more" if len(nodes) > _MOST_NAMED else ""
    return ", ".join(nodes[:_MOST_NAMED]) + more
