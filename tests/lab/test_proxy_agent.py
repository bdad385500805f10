"""The agent against a real API server: follows it, outlives it, and says how it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import netbox
import pytest

MODES = [("iptables", "nft"), ("iptables", "legacy"), ("nftables", None), ("userspace", None)]
PORTS = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
ENDS = [{"name": "http", "port": 8080, "protocol": "TCP"}]
TOKEN = "a-token-for-tests"


class Control:
    """An API server on the node (its namespace, 6443), a client, and the agent; all in one loop."""

    def __init__(self, mode: Any, backend: str | None, **config: Any) -> None:
        import proxy_net as net  # noqa: PLC0415 - in the sandbox

        from mininetes.apiserver.pki import Pki  # noqa: PLC0415
        from mininetes.apiserver.store import MemoryStore  # noqa: PLC0415

        self.net, self.mode, self.backend = net, mode, backend
        self.config = {"clusterCIDR": net.CLUSTER_CIDR, "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
                       "nftables": {"minSyncPeriod": "0s", "syncPeriod": "30s"}, **config}  # fmt: skip
        self._pki, self._store = Pki(), MemoryStore()

    async def __aenter__(self) -> Control:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        from mininetes.agents.klog import AgentLog  # noqa: PLC0415
        from mininetes.kernel.processes import let_thread_enter  # noqa: PLC0415

        self._executor = ThreadPoolExecutor(2, initializer=let_thread_enter)
        self.log = AgentLog("/run/kube-proxy.log", verbosity=2)
        await self.start_server()
        self.client = self._client()
        node = {"metadata": {"name": "node1"}, "spec": {"podCIDR": "10.244.1.0/24"}}
        made = await self.client.create("nodes", node)
        made["status"] = {"addresses": [{"type": "InternalIP", "address": self.net.NODE}]}
        await self.client.update("nodes", made, subresource="status")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.server.stop()
        await self._store.close()
        self._executor.shutdown()

    def _client(self) -> Any:
        from mininetes.apiserver.client import Client  # noqa: PLC0415

        servers = [f"https://{self.net.NODE}:6443"]
        return Client(servers, token=TOKEN, ca_pem=self._pki.ca_pem, netns=self.net.path("node"))

    async def start_server(self) -> None:
        from ipaddress import IPv4Network  # noqa: PLC0415

        from mininetes.agents.klog import AgentLog  # noqa: PLC0415
        from mininetes.agents.serving import listening_socket  # noqa: PLC0415
        from mininetes.apiserver.allocators import ServiceRanges  # noqa: PLC0415
        from mininetes.apiserver.server import ApiServer  # noqa: PLC0415

        self.server = ApiServer(
            self._store,
            network=ServiceRanges(IPv4Network("10.96.0.0/12"), range(30000, 32768)),
            pki=self._pki,
            tokens={TOKEN: "system:admin"},
            node="node1",
            address=self.net.NODE,
            servers=[self.net.NODE],
            log=AgentLog("/run/kube-apiserver.log"),
        )
        await self.server.start([listening_socket(self.net.path("node"), 6443)])

    async def start_agent(self) -> None:
        from mininetes.agents.agent import Placement  # noqa: PLC0415
        from mininetes.agents.kubeproxy.agent import KubeProxy  # noqa: PLC0415
        from mininetes.agents.kubeproxy.configuration import kube_proxy_config  # noqa: PLC0415

        place = Placement("node1", self.net.NODE, self.net.path("node"), 0)
        self._agents_client = self._client()
        self.agent = KubeProxy(place, self._agents_client, self.log, mode=self.mode, backend=self.backend,
                               config=kube_proxy_config(self.config), executor=self._executor)  # fmt: skip
        self._task = asyncio.create_task(self.agent.run())

    async def stop_agent(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._agents_client.close()

    async def ask(self, netns: str, address: str, port: int, **more: Any) -> Any:
        return await asyncio.to_thread(lambda: self.net.ask(netns, address, port, **more))

    async def until(self, holds: Callable[[], Any], what: str, within_s: float = 10.0) -> float:
        """Wait for a coroutine's answer to be true; returns how long it took."""
        started = time.monotonic()
        while not await holds():
            assert not self._task.done(), f"the agent ended: {self._task}"
            said = "\n".join(self.net.lines()[-20:])
            assert time.monotonic() - started < within_s, f"not within {within_s:g} s: {what}\n{said}"
            await asyncio.sleep(0.01)
        return time.monotonic() - started

    async def answers(self, address: str, port: int, endpoint: str, netns: str = "pod") -> float:
        async def holds() -> bool:
            return (await self.ask(netns, address, port)).endpoint == endpoint

        return await self.until(holds, f"{address}:{port} answers as {endpoint}")

    async def refuses(self, address: str, port: int) -> float:
        async def holds() -> bool:
            return (await self.ask("pod", address, port)).outcome != "answered"

        return await self.until(holds, f"{address}:{port} refuses")

    async def http(self, path: str, port: int, netns: str = "node", address: str = "127.0.0.1") -> tuple[int, str]:
        """GET from a namespace; status and body."""

        def get() -> tuple[int, str]:
            import socket  # noqa: PLC0415

            with self.net.in_netns(self.net.path(netns)):
                sock = socket.create_connection((address, port), timeout=3)
            with sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b""
                while data := sock.recv(65536):
                    answer += data
            head, _, body = answer.decode().partition("\r\n\r\n")
            return int(head.split()[1]), body

        return await asyncio.to_thread(get)

    async def service(self, name: str = "web", **spec: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.client.create("services", {
            "metadata": {"name": name, "namespace": "default"}, "spec": {"ports": PORTS, **spec}})  # fmt: skip
        return made

    async def slice(self, name: str, *addresses: str, **conditions: bool) -> None:
        """Create or replace a service's slice."""
        obj = self.net.endpoint_slice(name, ENDS, [self.net.endpoint(ip, **conditions) for ip in addresses])
        resource = "endpointslices.discovery.k8s.io"
        found = await self.client.list(resource, "default")
        there = [each for each in found["items"] if each["metadata"]["name"] == obj["metadata"]["name"]]
        if there:
            obj["metadata"]["resourceVersion"] = there[0]["metadata"]["resourceVersion"]
            await self.client.update(resource, obj)
        else:
            await self.client.create(resource, obj)


def serving(net: Any) -> None:
    net.build()
    servers = net.Servers()
    for number in range(1, 5):
        servers.serve(f"here{number}", f"here{number}", net.HERE[number - 1], 8080)
        servers.serve(f"far{number}", "far", net.FAR[number - 1], 8080)


def followed(mode: Any, backend: str | None) -> dict[str, Any]:
    """In the sandbox: a service's life, with the agent and the API server away for parts of it."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    serving(net)
    found: dict[str, Any] = {"took_s": []}

    async def story() -> None:
        async with Control(mode, backend) as control:
            await control.start_agent()
            web = await control.service(type="NodePort")
            address, node_port = web["spec"]["clusterIP"], web["spec"]["ports"][0]["nodePort"]
            await control.slice("web", net.HERE[0])
            await control.answers(address, 80, "here1")
            for ip, name in ((net.HERE[1], "here2"), (net.FAR[0], "far1"), (net.HERE[2], "here3")):
                await control.slice("web", ip)
                found["took_s"].append(await control.answers(address, 80, name))
            await control.answers(net.NODE, node_port, "here3", netns="outside")

            await control.stop_agent()
            if mode != "userspace":
                await control.answers(address, 80, "here3")
            await control.slice("web", net.FAR[1])
            await control.start_agent()
            await control.answers(address, 80, "far2")

            await control.server.stop()
            await control.answers(address, 80, "far2")
            await control.start_server()
            await control.slice("web", net.FAR[2])
            await control.answers(address, 80, "far3")

            await control.client.patch("services", "web", {"spec": {"ports": [{**PORTS[0], "port": 81}]}}, "default")
            await control.answers(address, 81, "far3")
            await control.refuses(address, 80)
            await control.client.delete("services", "web", "default")
            await control.refuses(address, 81)
            await control.stop_agent()
            found["log"] = net.lines()

    asyncio.run(story())
    return found


@pytest.mark.parametrize(("mode", "backend"), MODES)
def test_rules_follow_the_api_server_through_restarts_of_both(mode: str, backend: str | None) -> None:
    found = netbox.run(followed, mode, backend)
    assert max(found["took_s"]) < 1.0
    log = "\n".join(found["log"])
    assert f'"Using {mode} Proxier"' in log
    assert '"Adding new service port" portName="default/web:http"' in log
    assert '"Removing service port" portName="default/web:http"' in log
    assert " E" not in "".join(line[:2] for line in found["log"]), log


def healthy() -> dict[str, Any]:
    """In the sandbox: what the agent says of itself and of a service with a health-check node port."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    serving(net)
    found: dict[str, Any] = {}

    async def story() -> None:
        async with Control("iptables", "nft") as control:
            await control.start_agent()
            lb = await control.service(type="LoadBalancer", externalTrafficPolicy="Local")
            await control.slice("web", net.HERE[0])
            await control.answers(lb["spec"]["clusterIP"], 80, "here1")
            check = lb["spec"]["healthCheckNodePort"]
            found["local"] = await control.http("/", check, "outside", net.NODE)
            await control.slice("web", net.HERE[0], ready=False, serving=True, terminating=True)

            async def failing() -> bool:
                return (await control.http("/", check, "outside", net.NODE))[0] == 503

            await control.until(failing, "the health-check node port says 503")
            found["terminating"] = await control.http("/", check, "outside", net.NODE)
            found["still served"] = (await control.ask("pod", lb["spec"]["clusterIP"], 80)).endpoint
            found["healthz"] = await control.http("/healthz", 10256, "outside", net.NODE)
            found["livez"] = await control.http("/livez", 10256, "outside", net.NODE)
            found["mode"] = await control.http("/proxyMode", 10249)
            found["metrics"] = await control.http("/metrics", 10249)
            await control.client.delete("services", "web", "default")

            async def closed() -> bool:
                try:
                    await control.http("/", check, "outside", net.NODE)
                except OSError:
                    return True
                return False

            await control.until(closed, "the health-check node port is closed")
            await control.stop_agent()

    asyncio.run(story())
    return found


def test_the_agent_answers_for_itself_and_for_services_with_a_health_check() -> None:
    found = netbox.run(healthy)
    assert found["local"][0] == 200
    assert json.loads(found["local"][1]) == {"service": {"namespace": "default", "name": "web"}, "localEndpoints": 1,
                                             "serviceProxyHealthy": True}  # fmt: skip
    assert json.loads(found["terminating"][1])["localEndpoints"] == 0
    assert found["still served"] == "here1"
    assert found["healthz"][0] == 200
    assert set(json.loads(found["healthz"][1])) == {"lastUpdated", "currentTime", "nodeEligible"}
    assert found["livez"][0] == 200
    assert found["mode"] == [200, "iptables"]
    for name in (
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{",
        "kubeproxy_sync_full_proxy_rules_duration_seconds_count 1\n",
        "kubeproxy_network_programming_duration_seconds_sum",
        "kubeproxy_sync_proxy_rules_service_changes_total ",
        'kubeproxy_sync_proxy_rules_iptables_total{table="nat"}',
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total 0",
    ):
        assert name in found["metrics"][1], found["metrics"][1]


def repaired() -> dict[str, Any]:
    """In the sandbox: a flushed table, an impossible kernel, and a refused restore, as the agent meets them."""
    import proxy_net as net  # noqa: PLC0415 - in the sandbox

    from mininetes.errors import MissingFeature  # noqa: PLC0415
    from mininetes.kernel.processes import Namespaces, run  # noqa: PLC0415

    serving(net)
    found: dict[str, Any] = {}

    async def story() -> None:
        async with Control("iptables", "nft", iptables={"syncPeriod": "1s", "minSyncPeriod": "0s"}) as control:
            await control.start_agent()
            web = await control.service()
            await control.slice("web", net.HERE[0])
            await control.answers(web["spec"]["clusterIP"], 80, "here1")
            run(["iptables-nft", "-t", "nat", "-F"], namespaces=Namespaces(net=net.path("node")))
            found["repaired_s"] = await control.answers(web["spec"]["clusterIP"], 80, "here1")

            good = control.agent.keeper._compile
            failed = asyncio.Event()

            def bad(view: Any) -> Any:
                ruleset = good(view)
                control_loop.call_soon_threadsafe(failed.set)
                chains = {**ruleset.chains, ("nat", "KUBE-NODEPORTS"): ("-A KUBE-NODEPORTS --nonsense",)}
                return type(ruleset)(chains, ruleset.jumps, ruleset.shared)

            control_loop = asyncio.get_running_loop()
            control.agent.keeper._compile = bad
            await control.slice("web", net.HERE[1])
            await asyncio.wait_for(failed.wait(), 5)
            found["meanwhile"] = (await control.ask("pod", web["spec"]["clusterIP"], 80)).outcome
            control.agent.keeper._compile = good
            await control.answers(web["spec"]["clusterIP"], 80, "here2")
            await control.stop_agent()
            found["log"] = net.lines()

            control.mode = "ipvs"
            await control.start_agent()
            refused = (await asyncio.gather(control._task, return_exceptions=True))[0]
            found["ipvs"] = [isinstance(refused, MissingFeature), str(refused)]
            found["after the refusal"] = (await control.ask("pod", web["spec"]["clusterIP"], 80)).endpoint
            await control.stop_agent()

    asyncio.run(story())
    return found


def test_the_agent_repairs_tries_again_and_refuses_by_name() -> None:
    found = netbox.run(repaired)
    assert found["repaired_s"] < 4
    assert found["meanwhile"] == "answered"
    assert any("--nonsense" in line and line.startswith("E") for line in found["log"]), found["log"]
    assert found["ipvs"][0]
    assert "ipvs" in found["ipvs"][1]
    assert found["after the refusal"] == "here2"
