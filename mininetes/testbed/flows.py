"""Packet flows played in a running lab: each one's service is made, asked as it says, and taken away again.

"here" is a worker, or for packets from outside the node to which the gateway sends them; endpoints are the lab's
own pods, under the conditions that the flow gives them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.cluster.underlay import GATEWAY
from mininetes.errors import MininetesError
from mininetes.kernel import processes
from mininetes.probes.responder_client import ResponderError
from mininetes.probes.service_asking import AskOptions
from mininetes.probes.truth_expectation import LOCALHOST, AddressKind, Expected, Outcome
from mininetes.probes.truth_questions import Path, Question, Questions, Scene
from mininetes.probes.truth_table import Line, TruthTable, measure
from mininetes.probes.vantage import Vantage
from mininetes.testbed import proxying
from mininetes.testbed.flow_checks import Flow

if TYPE_CHECKING:
    from mininetes.testbed.testbed import Testbed

BALANCER_WITHIN_S = 10.0
HOLDS_WITHIN_S = 5.0
_LOOK_S = 0.05
_AGAIN_S = 1.5
"""Before a flow is played again: the kernel sends few ICMP errors to one host in a second."""
_SLICES = "endpointslices.discovery.k8s.io"
_KINDS: dict[str, AddressKind] = {
    "clusterIP": "cluster IP",
    "nodePort": "node port",
    "localhost": "localhost",
    "externalIP": "external IP",
    "loadBalancerIP": "load balancer",
}
_COPIED = ("type", "externalTrafficPolicy", "internalTrafficPolicy", "sessionAffinity", "healthCheckNodePort")
_EXTERNAL_IP = "203.0.113.200"
_SETTINGS = {"localhostNodePorts": True, "masqueradeAll": False}
"""kube-proxy's settings that flows name, with their defaults."""
_ZONE = "topology.kubernetes.io/zone"


class CannotPlay(Exception):
    """Why a flow cannot be played in this lab."""


@dataclass(frozen=True)
class Stage:
    """A flow's places in the lab: the node that is "here", and the pod behind each endpoint."""

    here: str
    pods: Mapping[str, Vantage]


async def play(
    testbed: Testbed, client: Client, scene: Scene, flows: Sequence[Flow], options: AskOptions
) -> TruthTable:
    """Play the (checked) flows of the scene's mode one after the other; those that this lab cannot play are named."""
    lines: list[Line] = []
    skipped: list[str] = []
    for flow in flows:
        if scene.mode not in flow["modes"]:
            continue
        try:
            player = _Player(testbed, client, scene, flow)
            async with player.service() as balancers:
                table = await player.measured(balancers, options)
            lines += table.lines
        except CannotPlay as why:
            skipped.append(f"{flow['id']}: {why}")
    return TruthTable(tuple(lines), tuple(skipped))


def _target(port: Mapping[str, Any]) -> int:
    return int(port.get("targetPort", port["port"]))


class _Player:
    """Plays one flow."""

    def __init__(self, testbed: Testbed, client: Client, scene: Scene, flow: Flow) -> None:
        self._testbed, self._client, self._scene, self._flow = testbed, client, scene, flow
        self._name = f"flow-{flow['id']}".lower()
        self._check_settings()
        said = flow.get("in_mode", {}).get(scene.mode, flow["expect"])
        if said["outcome"] == "ACCEPT":
            raise CannotPlay("the node itself answers, which is not asked here")
        if flow["to"]["address"] not in _KINDS:
            raise CannotPlay(f"{flow['to']['address']} is no address of a service that is asked here")
        if flow["service"].get("loadBalancerIPs", 0) > 1:
            self._flow = {**flow, "service": {**flow["service"], "loadBalancerIPs": 1}}
        self.kind = _KINDS[flow["to"]["address"]]

    def _check_settings(self) -> None:
        """See that the lab's kube-proxies are set as the flow has it. Raises CannotPlay, which says how it would be."""
        config = proxying.proxy_config(self._testbed.spec)
        there = {
            "localhostNodePorts": config.iptables.localhost_node_ports,
            "masqueradeAll": config.masquerade_all(self._scene.mode),
        }
        wanted = {**_SETTINGS, **(self._flow.get("proxy") or {})}
        for key, value in wanted.items():
            if key not in there:
                raise CannotPlay(f"kube-proxy's {key} is not told apart here")
            if there[key] != value:
                section = "nftables" if self._scene.mode == "nftables" else "iptables"
                setting = f"{{config: {{{section}: {{{key}: {str(value).lower()}}}}}}}"
                raise CannotPlay(f"kube-proxy would need other settings: a lab with proxy: {setting} plays it")

    def _check_zone(self, here: str) -> None:
        zone = self._flow.get("nodeZone") or ""
        there = next(
            (node.zone or node.labels.get(_ZONE, "") for node in self._testbed.spec.nodes if node.name == here), ""
        )
        if zone and zone != there:
            raise CannotPlay(f"{here} would need a zone: a lab where it has zone: {zone} plays it")

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[list[str]]:
        """The flow's service, without endpoints, for as long as the block runs; its load balancer's addresses."""
        wanted = self._flow["service"]
        spec: dict[str, Any] = {key: wanted[key] for key in _COPIED if key in wanted}
        if wanted.get("externalTrafficPolicy") != "Local":
            spec.pop("healthCheckNodePort", None)  # the API has it with policy Local only
        spec["ports"] = [dict(port) for port in wanted["ports"]]
        if wanted.get("externalIPs"):
            spec["externalIPs"] = [_EXTERNAL_IP]
        if wanted.get("loadBalancerSourceRanges"):
            ranges = {"nodes": str(self._testbed.spec.network.nodes), "outside": "203.0.113.0/25"}
            spec["loadBalancerSourceRanges"] = [ranges[each] for each in wanted["loadBalancerSourceRanges"]]
        if "sessionAffinityTimeoutSeconds" in wanted:
            timeout = {"timeoutSeconds": wanted["sessionAffinityTimeoutSeconds"]}
            spec["sessionAffinityConfig"] = {"clientIP": timeout}
        metadata = {"name": self._name, "namespace": "default", "annotations": wanted.get("annotations", {})}
        made = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        try:
            self._made = await self._client.create("services", made)
        except ApiError as refused:
            raise CannotPlay(f"the API refuses its service: {refused}") from None
        try:
            yield await self._balancers() if wanted["type"] == "LoadBalancer" else []
        finally:
            for resource in ("services", _SLICES):
                with contextlib.suppress(ApiError):
                    await self._client.delete(resource, self._name, "default")

    async def _balancers(self) -> list[str]:
        loop = asyncio.get_running_loop()
        end = loop.time() + BALANCER_WITHIN_S
        while loop.time() < end:
            service = await self._client.get("services", self._name, "default")
            ingress = (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
            if ingress:
                return [str(each["ip"]) for each in ingress]
            await asyncio.sleep(_LOOK_S)
        raise MininetesError(f"{self._name}: no address of a load balancer within {BALANCER_WITHIN_S:g} s")

    async def measured(self, balancers: Sequence[str], options: AskOptions) -> TruthTable:
        """Give the service its endpoints and ask, again until it is as it must be or time is up."""
        flow = self._flow
        address = {
            "cluster IP": self._made["spec"]["clusterIP"],
            "external IP": _EXTERNAL_IP,
            "load balancer": (*balancers, "")[0],
            "localhost": LOCALHOST,
        }.get(self.kind, "")
        outside = flow["from"] in ("outside", "blocked")
        here = await asyncio.to_thread(self._entry, address) if outside and address else self._worker()
        self._check_zone(here)
        stage = Stage(here, self._places(here))
        async with self._answering(stage):
            return await self._asked(stage, address, options)

    async def _asked(self, stage: Stage, address: str, options: AskOptions) -> TruthTable:
        flow = self._flow
        if flow["endpoints"]:
            await self._client.create(_SLICES, self._slice(stage))
        plane = self._testbed.control_plane
        assert plane is not None
        mine = [f"default/{self._name}"]
        slices = mine if flow["endpoints"] else []
        await plane.proxy_seats.settled(plane.places, services=mine, slices=slices, within_s=HOLDS_WITHIN_S)
        question = self._question(stage, address or self._scene.views[stage.here].address)
        loop = asyncio.get_running_loop()
        end = loop.time() + HOLDS_WITHIN_S
        while True:
            table = await measure(Questions((question,), ()), options)
            if table.holds or loop.time() > end:
                return table
            await asyncio.sleep(_AGAIN_S)

    def _worker(self) -> str:
        workers = [node.name for node in self._testbed.spec.nodes if node.role == "worker"]
        return next(name for name in (*workers, *self._scene.views) if name in self._scene.views)

    def _entry(self, address: str) -> str:
        """The node to which the gateway sends what a client outside sends to that address. Blocks."""
        if not self._scene.entries(GATEWAY, address):
            node = next(iter(self._scene.views.values())).address
            route = f"mininetes exec {GATEWAY} -- ip route add {address} via {node}"
            raise CannotPlay(f"the network does not lead to {address} from outside: a lab with a route there, as by "
                             f"`{route}`, plays it")  # fmt: skip
        client, device = (
            ("203.0.113.130", "outside2") if self._flow["from"] == "blocked" else ("203.0.113.2", "outside1")
        )
        net = self._testbed.net
        assert net is not None
        argv = ["ip", "route", "get", address, "from", client, "iif", device]
        words = processes.run(argv, namespaces=processes.Namespaces(net=net.netns(GATEWAY))).stdout.split()
        via = words[words.index("via") + 1] if "via" in words else ""
        for node, view in self._scene.views.items():
            if view.address == via:
                return node
        raise CannotPlay(f"the gateway sends {address} to {via or 'nobody'}, which is no node")

    def _places(self, here: str) -> dict[str, Vantage]:
        pods = [each for each in self._scene.vantages if each.kind == "pod" and self._title(each)]
        near = iter([each for each in pods if each.node == here][:-1])  # the last one is who asks
        far = iter([each for each in pods if each.node != here])
        found = {}
        for each in self._flow["endpoints"]:
            pod = next(near if each["node"] == "here" else far, None)
            if pod is None:
                raise CannotPlay(f"there are too few pods {each['node']} for its endpoints and who asks")
            found[each["name"]] = pod
        return found

    def _title(self, pod: Vantage) -> str:
        return self._scene.responders.get(f"{pod.address}:{self._testbed.spec.pods.port}/tcp", "")

    def _slice(self, stage: Stage) -> dict[str, Any]:
        ends = []
        for each in self._flow["endpoints"]:
            pod = stage.pods[each["name"]]
            conditions = {key: each[key] for key in ("ready", "serving", "terminating") if key in each}
            hints = {"hints": {"forZones": [{"name": each["zoneHint"]}]}} if each.get("zoneHint") else {}
            ends.append({"addresses": [pod.address], "nodeName": pod.node, "conditions": conditions, **hints})
        ports = [
            {"name": port.get("name", ""), "port": _target(port), "protocol": port.get("protocol", "TCP")}
            for port in self._flow["service"]["ports"]
        ]
        labels = {"kubernetes.io/service-name": self._name}
        metadata = {"name": self._name, "namespace": "default", "labels": labels}
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": ends,
        }

    def _asked_port(self) -> Mapping[str, Any] | None:
        """The service's port that the flow asks; None when the service has none such."""
        to, key = self._flow["to"], "nodePort" if self.kind in ("node port", "localhost") else "port"
        asked = (to["port"], to["protocol"])
        ports = self._flow["service"]["ports"]
        return next((port for port in ports if (port.get(key), port.get("protocol", "TCP")) == asked), None)

    @contextlib.asynccontextmanager
    async def _answering(self, stage: Stage) -> AsyncIterator[None]:
        """Have each endpoint answer at the target port that is asked, and at no other of the service's."""
        asked = self._asked_port()
        ports = [asked] if asked is not None else self._flow["service"]["ports"]
        served = sorted({(_target(port), port.get("protocol", "TCP")) for port in ports})
        begun = []
        try:
            for name, pod in stage.pods.items():
                more = [each for each in served if not self._answers_by_itself(pod, *each)]
                if not more:
                    continue
                begun.append(self._speaker(name))
                try:
                    await self._testbed.port_server.serve(begun[-1], node=pod.node, netns=pod.netns, ports=more)
                except ResponderError as taken:
                    raise CannotPlay(f"an endpoint cannot answer at its target port: {taken}") from None
            yield
        finally:
            for speaker in begun:
                await self._testbed.port_server.stop(speaker)

    def _answers_by_itself(self, pod: Vantage, port: int, protocol: str) -> bool:
        return f"{pod.address}:{port}/{protocol.lower()}" in self._scene.responders

    def _speaker(self, endpoint: str) -> str:
        """How an endpoint calls itself where it answers for the flow alone."""
        return f"{self._name}/{endpoint}"

    def _source(self, stage: Stage) -> Vantage:
        sender = self._flow["from"]
        if sender.startswith("endpoint "):
            return stage.pods[sender.removeprefix("endpoint ")]
        of_kind = {"pod": "pod", "node": "node", "localhost": "node", "outside": "outside", "blocked": "outside"}
        wanted = of_kind.get(sender)
        if wanted is None:
            raise CannotPlay(f"nobody here asks from {sender!r}")
        found = [each for each in self._scene.vantages if each.kind == wanted]
        if wanted == "outside":
            found = [each for each in found if each.name.startswith("blocked" if sender == "blocked" else "client")]
        else:
            found = [each for each in found if each.node == stage.here]
        if not found:
            raise CannotPlay(f"there is no {sender} to ask from")
        return found[-1]

    def _question(self, stage: Stage, address: str) -> Question:
        flow, scene = self._flow, self._scene
        said = flow.get("in_mode", {}).get(scene.mode, flow["expect"])
        port = self._asked_port() or flow["service"]["ports"][0]
        ends = {name: f"{pod.address}:{_target(port)}" for name, pod in stage.pods.items()}
        source = self._source(stage)
        told = [ends[name] for name in said.get("endpoints", ())]
        expected = Expected(
            Outcome(said["outcome"]),
            tuple(sorted(told)),
            said.get("masquerade", False),
            said.get("sticky", False),
            differs=f"the flow has it so in mode {scene.mode}" if scene.mode in flow.get("in_mode", {}) else "",
        )
        node = scene.addresses[stage.here]
        unchanged = frozenset({source.address}) if "masquerade" in said else node | {source.address}
        led_on = self.kind in ("external IP", "load balancer")
        path = Path(stage.here, expected, node, unchanged, led_on)
        at = stage.here if self.kind in ("node port", "localhost") else ""
        endpoints = {self._title(pod): ends[name] for name, pod in stage.pods.items()}
        endpoints |= {self._speaker(name): end for name, end in ends.items()}
        to = flow["to"]
        where = (self.kind, at, address, to["port"], to["protocol"].lower())
        return Question(scene.mode, str(flow["id"]), source, flow["from"], *where, (path,), endpoints)
