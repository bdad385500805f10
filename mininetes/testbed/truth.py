"""The truth table of a running lab: its services and nodes as the API and the kernel have them.

Asked with kube-proxy in each mode, and with outside programs in its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from mininetes.agents.dns.manifests import IMAGE as DNS_IMAGE
from mininetes.agents.kubeproxy.compiling import mode_like, mode_title, placed
from mininetes.agents.kubeproxy.configuration import MODES, Mode
from mininetes.agents.kubeproxy.conntrack import forget_unanswered
from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.agents.kubeproxy.services import is_watched, key_of
from mininetes.agents.kubeproxy.view_builder import ViewBuilder, node_facts
from mininetes.errors import BadInput
from mininetes.kernel import applier
from mininetes.kernel.netstate import Route
from mininetes.probes.service_asking import AskOptions, ask_all
from mininetes.probes.truth_expectation import Outcome
from mininetes.probes.truth_questions import Questions, Scene, questions
from mininetes.probes.truth_table import TruthTable, asking_of, measure, together
from mininetes.testbed import proxying
from mininetes.testbed.control_plane import READY_WITHIN_S, ControlPlane
from mininetes.testbed.credentials import ADMIN
from mininetes.testbed.expectation import MOST_HOPS
from mininetes.testbed.flow_checks import Flow
from mininetes.testbed.flows import play
from mininetes.testbed.proxy_trial import Trial, tried
from mininetes.testbed.proxying import ProxyProgram

if TYPE_CHECKING:
    from mininetes.testbed.testbed import Testbed

log = logging.getLogger("mininetes")

SETTLE_WITHIN_S = 10.0
_LISTS = ("services", "endpointslices.discovery.k8s.io", "nodes", "pods")


@dataclass(frozen=True)
class Wanted:
    """What to measure: services by ``name`` or ``namespace/name`` (none: all), in which modes, with which programs.

    Without a mode and a program it is the lab's own proxy.
    """

    services: Sequence[str] = ()
    modes: Sequence[str] = ()
    programs: Sequence[ProxyProgram] = ()
    options: AskOptions = field(default_factory=AskOptions)
    flows: Sequence[Flow] = ()
    """Packet flows to play instead of asking the services that there are."""


def known_modes(names: Iterable[str], own: str = "") -> list[str]:
    """Modes of kube-proxy by their names, others as their files' full paths, each once. Raises BadInput.

    ``own``: the mode of the lab, which is known by its file's name too.
    """
    found = [own if name == mode_title(own) and name not in MODES else placed(name) for name in names]
    for mode in found:
        mode_like(mode)
    return list(dict.fromkeys(found))


async def truth_table(testbed: Testbed, wanted: Wanted) -> TruthTable:
    """Ask the services of a running lab, in each mode in turn, then with each program in kube-proxy's place.

    The lab has its own proxies again afterwards. Raises BadInput for a lab without a control plane, an unknown
    service, or modes where the proxy is an outside program; MininetesError or ApiError when the API does not answer,
    or a program ends.
    """
    plane = testbed.control_plane
    if plane is None:
        raise BadInput("spec.controlPlane.store", testbed.spec.control_plane.store, "memory or etcd, to have services")
    async with plane.proxy_seats.in_use:
        tables = await _with_kube_proxy(testbed, plane, wanted) if wanted.modes or not wanted.programs else []
        if wanted.programs:
            tables += await _with_programs(testbed, plane, wanted)
    return together(tables)


async def _with_kube_proxy(testbed: Testbed, plane: ControlPlane, wanted: Wanted) -> list[TruthTable]:
    seats = plane.proxy_seats
    if seats.is_outside and not wanted.modes:
        expected = proxying.program_mode(testbed.spec.proxy.exec, next(iter(plane.places)))
        table = await _measured(testbed, plane, await _scene(testbed, plane, expected), wanted)
        return [table.of(seats.title)]
    own, tables = seats.mode, []
    try:
        for mode in wanted.modes or [own]:
            if mode != own or wanted.modes:
                await plane.switch_proxies(mode)
            table = await _measured(testbed, plane, await _scene(testbed, plane, mode_like(mode)), wanted)
            tables.append(table.of(mode_title(mode)))
    finally:
        if seats.mode != own:
            await plane.switch_proxies(own)
    return tables


async def _with_programs(testbed: Testbed, plane: ControlPlane, wanted: Wanted) -> list[TruthTable]:
    tables = []
    async with plane.proxy_seats.away(plane.places, within_s=READY_WITHIN_S):
        for number, program in enumerate(wanted.programs, start=1):
            async with tried(plane, program, number) as trial:
                measured = await trial.during(_with_program(testbed, plane, wanted, trial))
            tables.append(measured.of(program.title))
    return tables


async def _with_program(testbed: Testbed, plane: ControlPlane, wanted: Wanted, trial: Trial) -> TruthTable:
    mode = proxying.program_mode(trial.program.argv, next(iter(plane.places)))
    scene = await _scene(testbed, plane, mode)
    await trial.settle(lambda: _mute_nodes(scene))
    scene = await _scene(testbed, plane, mode)  # with the addresses that the program gave the nodes
    return await _measured(testbed, plane, scene, wanted)


async def _mute_nodes(scene: Scene) -> set[str]:
    """The nodes that get no answer at the cluster IP of a service which must answer them."""
    asked = [
        each
        for each in questions(scene).asked
        if each.source.kind == "node"
        and each.to == "cluster IP"
        and all(path.expected.outcome is Outcome.DNAT for path in each.paths)
    ]
    options = AskOptions(timeout_s=0.5)
    heard = await ask_all([asking_of(each, options)._replace(times=1, patience=1) for each in asked], options)
    return {each.source.node for each, said in zip(asked, heard, strict=True) if not set(said.replies) & _ANSWERS}


_ANSWERS = {"answered", "connected"}


async def _measured(testbed: Testbed, plane: ControlPlane, scene: Scene, wanted: Wanted) -> TruthTable:
    # An attempt that one subject let go unanswered would have its fate again under the next, from the same port.
    await _forget_unanswered(plane)
    try:
        return await _asked(testbed, plane, scene, wanted)
    finally:
        await _forget_unanswered(plane)


async def _forget_unanswered(plane: ControlPlane) -> None:
    nodes = [NodeTools(each.namespaces) for each in plane.places.values()]
    await plane.blocking([lambda node=node: forget_unanswered(node) for node in nodes])  # type: ignore[misc]


async def _asked(testbed: Testbed, plane: ControlPlane, scene: Scene, wanted: Wanted) -> TruthTable:
    if not wanted.flows:
        return await measure(_questions(scene, wanted.services), wanted.options)
    client = plane.client(plane.api_servers.masters[0], ADMIN)
    try:
        return await play(testbed, client, scene, wanted.flows, wanted.options)
    finally:
        await client.close()


def _questions(scene: Scene, services: Sequence[str]) -> Questions:
    names = {name if "/" in name else f"default/{name}" for name in services}
    known = {f"{each.port.namespace}/{each.port.service}" for view in scene.views.values() for each in view.ports}
    for name in sorted(names - known):
        raise BadInput("service", name, f"one that has rules: {', '.join(sorted(known)) or 'there is none'}")
    return questions(scene, lambda name: not names or name in names)


async def _scene(testbed: Testbed, plane: ControlPlane, mode: Mode) -> Scene:
    client = plane.client(plane.api_servers.masters[0], ADMIN)
    try:
        lists = [(await client.list(resource))["items"] for resource in _LISTS]
    finally:
        await client.close()
    services, slices, nodes, pods = lists
    if not await plane.proxy_seats.settled(plane.places, within_s=SETTLE_WITHIN_S):
        log.warning("the truth table is measured while kube-proxies still have changes to write")
    vantages = testbed.vantages()
    net = testbed.net
    assert net is not None
    hosts = {name: net.netns(name) for name in testbed.blueprint.underlay.hosts}
    kernel = await asyncio.to_thread(lambda: {name: applier.read(netns) for name, netns in hosts.items()})
    addresses = {
        name: frozenset(str(address.ip) for _, address in found.addresses if not address.ip.is_loopback)
        for name, found in kernel.items()
    }
    config = proxying.proxy_config(testbed.spec)
    views = {}
    for node in nodes:
        name = node["metadata"]["name"]
        if name not in addresses:
            continue
        builder = ViewBuilder(node_facts(node, sorted(addresses[name])), mode, config)
        for service in services:
            builder.set_service(key_of(service), service)
        for each in filter(is_watched, slices):
            builder.set_slice(key_of(each), each)
        builder.refresh()
        views[name] = builder.view()
    basis = await asyncio.to_thread(testbed.basis)
    return Scene(
        mode=mode,
        views=views,
        addresses=addresses,
        vantages=vantages,
        responders=responders(pods, {pod.title for pod in testbed.pods()}),
        entries=_entries({name: found.routes for name, found in kernel.items()}, addresses, set(views)),
        masquerades=basis.masquerades_to_nodes,
    )


def responders(pods: Iterable[Mapping[str, Any]], running: set[str]) -> dict[str, str]:
    """Where the built-in responder answers as which pod, by ``address:port/protocol``: not where a command runs."""
    found = {}
    for pod in pods:
        metadata, address = pod["metadata"], pod.get("status", {}).get("podIP")
        namespace, name = metadata["namespace"], metadata["name"]
        title = name if namespace == "default" else f"{namespace}/{name}"
        if not address or title not in running or pod["spec"].get("hostNetwork"):
            continue
        for container in pod["spec"]["containers"]:
            if container.get("command") or container.get("args") or container.get("image") == DNS_IMAGE:
                continue
            for port in container.get("ports") or ():
                protocol = (port.get("protocol") or "TCP").lower()
                found[f"{address}:{port['containerPort']}/{protocol}"] = title
    return found


def _entries(
    routes: Mapping[str, Iterable[Route]], addresses: Mapping[str, frozenset[str]], nodes: set[str]
) -> Callable[[str, str], Sequence[str]]:
    """To which nodes packets that a host sends are led, as the kernels' main tables have it."""
    owner = {address: host for host, own in addresses.items() for address in own}

    def entries(host: str, address: str) -> Sequence[str]:
        wanted, found = IPv4Address(address), set()
        here = {host}
        for _ in range(MOST_HOPS):
            following = set()
            for each in here:
                fitting = [route for route in routes.get(each, ()) if wanted in route.destination]
                best = max(fitting, key=lambda route: route.destination.prefixlen, default=None)
                hops = best.hops if best is not None else ()
                following |= {owner.get(str(hop.gateway), "") for hop in hops}
            found |= following & nodes
            here = following - nodes - {""}
        return sorted(found)

    return entries
