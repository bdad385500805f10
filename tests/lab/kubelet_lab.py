"""A node with a kubelet and an API server, in a lab of its own, for tests that run inside it.

+-------------------- lab --------------------+
|  br-lan ----- eth0  node1  192.168.1.11      |   API server :6443, kubelet :10250
|                     |                        |
|                    cni0   10.244.1.1/24      |
|                     +-- pods                 |
+----------------------------------------------+

run(scenario)     calls ``async def scenario(lab: KubeletLab)`` inside, and returns what it returned
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import os
import socket
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from unittest import mock

from mininetes.agents.agent import Placement
from mininetes.agents.cni import installation
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubelet import BuiltIn, KubeletOptions, RunningPod, StaticPod
from mininetes.agents.kubelet.kubelet import Kubelet
from mininetes.agents.serving import listening_socket
from mininetes.agents.shim.client import Shim
from mininetes.apiserver.allocators import ServiceRanges
from mininetes.apiserver.client import Client
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.pki import Pki
from mininetes.apiserver.server import ApiServer
from mininetes.apiserver.store import MemoryStore
from mininetes.kernel.netns import socket_in
from mininetes.kernel.processes import Namespaces, let_thread_enter
from mininetes.kernel.processes import run as run_process
from mininetes.lab.engine_side import InitSocket
from mininetes.lab.filesystem import node_path
from mininetes.lab.launcher import Lab
from mininetes.probes.responder_client import Responder, ServedPort

REPOSITORY = Path(__file__).parents[2]
NODE, ADDRESS, TOKEN = "node1", "192.168.1.11", "a-token-of-the-test"
SCRIPTS = REPOSITORY / "cni_scripts"
Scenario = Callable[["KubeletLab"], Awaitable[Any]]
QUICK = KubeletOptions(
    backoff_s=0.3,
    retry_s=0.2,
    lease_period_s=0.2,
    cluster_dns="10.96.0.10",
    service_host="10.96.0.1",
    zone="east",
)


def run(scenario: Scenario, *, user_namespace: bool = False, within_s: float = 90.0) -> Any:
    """Run a scenario in a new lab and return its result; what it raised fails the caller.

    A user namespace is what an ordinary user's lab has; root can have it too.
    """
    reading, writing = os.pipe()
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), before]))
    try:
        config = {"module": Path(inspect.getfile(scenario)).stem, "function": scenario.__name__}
        as_user = mock.patch("os.geteuid", return_value=1000) if user_namespace else contextlib.nullcontext()
        with as_user:
            lab = Lab.start("kubelet-test", "kubelet_lab:main", config, fds={"result": writing}, stderr=2)
    finally:
        os.close(writing)
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    with open(reading) as pipe:
        status = lab.wait(within_s)
        if status is None:
            lab.end()
        said = pipe.read()
    assert said, f"the lab said nothing within {within_s:g} s (status {status})"
    result = json.loads(said)
    assert "failure" not in result, result["failure"]
    return result["value"]


def main(config: Mapping[str, Any], channel: socket.socket) -> int:
    """In the lab: run the scenario and report."""
    scenario: Scenario = getattr(importlib.import_module(config["module"]), config["function"])
    (holder,) = InitSocket(channel).hold_nodes([NODE])
    try:
        said = {"value": asyncio.run(_main(scenario, holder))}
    except BaseException:
        log = Path(node_path(NODE, "/var/log/kubelet.log"))
        said = {"failure": traceback.format_exc() + (log.read_text()[-6000:] if log.exists() else "")}
    with os.fdopen(config["fds"]["result"], "w") as pipe:
        json.dump(said, pipe)
    return 0


async def _main(scenario: Scenario, holder: int) -> Any:
    async with KubeletLab(holder) as lab:
        return await scenario(lab)


class Ports:
    """The responder, as kubelets want it."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    async def serve(self, pod: str, *, node: str, netns: str, ports: Sequence[tuple[int, str]]) -> None:
        served = [ServedPort(port, "UDP" if protocol == "UDP" else "TCP") for port, protocol in ports]
        await self._responder.serve(pod, node=node, netns=netns, ports=served)

    async def stop(self, pod: str) -> None:
        await self._responder.stop(pod)


class KubeletLab:
    """What a scenario works with."""

    def __init__(self, holder: int) -> None:
        self.holder = holder
        self.place = Placement(NODE, ADDRESS, f"/proc/{holder}/ns/net", holder)
        self.pki = Pki()
        self.store = MemoryStore()
        self.static_pods: list[StaticPod] = []
        self.builtins: dict[str, BuiltIn] = {}
        self._undo = contextlib.AsyncExitStack()
        self._server: ApiServer | None = None
        self._task: asyncio.Task[None] | None = None
        self.kubelet: Kubelet | None = None

    async def __aenter__(self) -> KubeletLab:
        self._wire()
        self.log = AgentLog(node_path(NODE, "/var/log/kubelet.log"), verbosity=4)
        self.executor = ThreadPoolExecutor(2, initializer=let_thread_enter)
        self._undo.callback(self.executor.shutdown)
        self.shim = await self._undo.enter_async_context(await Shim.start())
        self.ports = Ports(await self._undo.enter_async_context(await Responder.start()))
        self.client = self.new_client()
        self._undo.push_async_callback(self.client.close)
        self._undo.push_async_callback(self.stop_api)
        self._undo.push_async_callback(self.stop_kubelet)
        await self.start_api()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()

    def _wire(self) -> None:
        lines = ["link set lo up", "link add br-lan type bridge", "link set br-lan up"]
        lines.append(f"link add lan1 type veth peer name eth0 netns {self.holder}")
        run_process(["ip", "-batch", "-"], stdin="\n".join([*lines, "link set lan1 master br-lan up"]) + "\n")
        lines = ["link set lo up", "link set eth0 up", f"address add {ADDRESS}/24 dev eth0"]
        self.in_node("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        self.in_node("sysctl", "-qw", "net.ipv4.ip_forward=1")
        Path(node_path(NODE, "/etc/resolv.conf")).write_text("nameserver 192.168.1.1\n")

    def in_node(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """What a program prints in the node."""
        return run_process(argv, namespaces=Namespaces(of_pid=self.holder), stdin=stdin, check=check).stdout

    def install_network(self) -> None:
        """Give the node a CNI configuration."""
        values = {**installation.EXAMPLE_VALUES, "NODE_NAME": NODE}
        plugins = installation.find_plugins([SCRIPTS])
        template = (SCRIPTS / "bash-bridge.conflist").read_text()
        installation.install(NODE, "bash-bridge.conflist", template, values, plugins)

    def new_client(self) -> Client:
        """Another client of the API, from the node."""
        return Client([f"https://{ADDRESS}:6443"], token=TOKEN, ca_pem=self.pki.ca_pem, netns=self.place.netns)

    async def start_api(self) -> None:
        """Start an API server on the store that stays."""
        self._server = ApiServer(
            self.store,
            network=ServiceRanges(IPv4Network("10.96.0.0/12"), range(30000, 32768)),
            pki=self.pki,
            tokens={TOKEN: "admin"},
            node=NODE,
            address=ADDRESS,
            servers=[ADDRESS],
            log=self.log,
            netns=self.place.netns,
            kubelet_token=TOKEN,
        )
        await self._server.start([listening_socket(self.place.netns, 6443)])

        async def is_ready() -> bool:
            with contextlib.suppress(Exception):
                return bool(await self.client.request("GET", "/readyz") == "ok")
            return False

        await until(is_ready, "the API server is ready")

    async def stop_api(self) -> None:
        """Stop the API server. May be called twice."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()

    async def start_kubelet(self, options: KubeletOptions = QUICK) -> Kubelet:
        """Start a kubelet, with a client of its own."""
        self.kubelet = Kubelet(
            self.place,
            self.new_client(),
            self.log,
            shim=self.shim,
            executor=self.executor,
            port_server=self.ports,
            builtins=self.builtins,
            static_pods=self.static_pods,
            options=options,
            tls=self.pki.issue_kubelet(NODE, ADDRESS).server_context(),
            is_known=lambda token: token == TOKEN,
        )
        self._task = asyncio.create_task(self.kubelet.run())
        return self.kubelet

    async def stop_kubelet(self) -> None:
        """Cancel the kubelet; raises what ended it before."""
        if self._task is not None and self.kubelet is not None:
            task, self._task = self._task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.kubelet.client.close()

    async def create(self, name: str, *containers: Mapping[str, Any], namespace: str = "default", **spec: Any) -> str:
        """Create a pod on the node; its uid."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": {"nodeName": NODE, "containers": list(containers), "terminationGracePeriodSeconds": 1, **spec},
        }
        made = await self.client.create("pods", manifest)
        return str(made["metadata"]["uid"])

    async def pod(self, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """A pod as the API has it; None when it has none."""
        try:
            return await self.client.get("pods", name, namespace)
        except ApiError as refused:
            if refused.code == 404:
                return None
            raise

    async def ready(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """Wait until a pod is ready; the pod."""
        return await self.when(name, lambda pod: condition(pod, "Ready") == "True", "Ready", namespace)

    async def when(
        self, name: str, holds: Callable[[dict[str, Any]], Any], what: str, namespace: str = "default"
    ) -> dict[str, Any]:
        """Wait until something holds of a pod; the pod."""
        seen: dict[str, Any] | None = None

        async def is_so() -> bool:
            nonlocal seen
            seen = await self.pod(name, namespace)
            return seen is not None and bool(holds(seen))

        await until(is_so, lambda: f"{name}: {what}: {json.dumps((seen or {}).get('status'))}")
        assert seen is not None
        return seen

    async def gone(self, name: str, namespace: str = "default") -> None:
        """Wait until the API has no such pod."""

        async def is_gone() -> bool:
            return await self.pod(name, namespace) is None

        await until(is_gone, f"{name} is gone")

    async def events(self, name: str) -> dict[str, str]:
        """Messages of the events about a pod, by reason; the last of each."""
        found = await self.client.list("events", "default", fields=f"involvedObject.name={name}")
        return {each["reason"]: each["message"] for each in found["items"]}

    async def event(self, name: str, reason: str) -> str:
        """Wait for an event about a pod; its message."""

        async def is_there() -> bool:
            return reason in await self.events(name)

        await until(is_there, f"an event {reason} about {name}")
        return (await self.events(name))[reason]

    async def logs(self, name: str, container: str = "main", query: str = "", namespace: str = "default") -> str:
        """What `kubectl logs` gets."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}{query}"
        return str(await self.client.request("GET", path))

    def shown(self, name: str) -> RunningPod:
        """The pod as the kubelet shows it to the testbed."""
        assert self.kubelet is not None
        return next(pod for pod in self.kubelet.pods() if pod.name == name)

    def namespaces(self) -> set[str]:
        """What `ip netns` says in the node."""
        return {line.split()[0] for line in self.in_node("ip", "netns").splitlines()}


def condition(pod: Mapping[str, Any], kind: str) -> str:
    """The status of one of a pod's conditions; "" without it."""
    found = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions") or []}
    return str(found.get(kind, ""))


def container(pod: Mapping[str, Any], name: str = "main") -> dict[str, Any]:
    """The status of one of a pod's containers; empty without it."""
    status = pod["status"]
    both = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    return next((each for each in both if each["name"] == name), {})


async def until(holds: Callable[[], Awaitable[bool]], what: str | Callable[[], str], within_s: float = 20.0) -> None:
    """Wait for a condition with a deadline."""
    deadline = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what if isinstance(what, str) else what()}"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def connected(lab: KubeletLab, address: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, Any]]:
    """A TCP connection from the node."""
    sock = socket_in(lab.place.netns, socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (address, port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        yield reader, writer
    finally:
        writer.close()
