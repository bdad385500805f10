"""Service addresses and node ports: given once, kept, refused, given back."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from mininetes.apiserver import allocators
from mininetes.apiserver.store import MemoryStore, Stored, StoreUnavailable
from tests.unit.running_api import SERVICES, Api, running, served, service, until

MERGE = "application/merge-patch+json"


@served
async def test_a_service_gets_an_address(api: Api) -> None:
    spec = (await api.ok("POST", SERVICES, service()))["spec"]
    assert IPv4Address(spec["clusterIP"]) in IPv4Network("10.96.0.0/16")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert "nodePort" not in spec["ports"][0]


@served
async def test_an_address_can_be_asked_for(api: Api) -> None:
    assert (await api.ok("POST", SERVICES, service(clusterIP="10.96.0.10")))["spec"]["clusterIP"] == "10.96.0.10"
    message = (await api.unchanged("POST", SERVICES, service("b", clusterIP="10.96.0.10"))).refused(422, "Invalid")
    assert message == (
        'Service "b" is invalid: spec.clusterIPs: Invalid value: []string{"10.96.0.10"}: '
        "failed to allocate IP 10.96.0.10: provided IP is already allocated"
    )
    for outside in ("10.97.0.1", "10.96.0.0", "10.96.255.255", "192.168.1.11"):
        message = (await api.unchanged("POST", SERVICES, service("b", clusterIP=outside))).refused(422, "Invalid")
        assert message == (
            f'Service "b" is invalid: spec.clusterIPs: Invalid value: []string{{"{outside}"}}: failed to allocate '
            f"IP {outside}: the provided IP ({outside}) is not in the valid range. "
            "The range of valid IPs is 10.96.0.0/16"
        )


@served
async def test_node_ports_can_be_asked_for(api: Api) -> None:
    asked = service(type="NodePort", ports=[{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}])
    first, second = (await api.ok("POST", SERVICES, asked))["spec"]["ports"]
    assert first["nodePort"] == 30080
    assert second["nodePort"] in range(30000, 32768)
    taken = service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
    message = (await api.unchanged("POST", SERVICES, taken)).refused(422, "Invalid")
    assert message == (
        'Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated'
    )
    outside = service("b", type="NodePort", ports=[{"port": 80, "nodePort": 80}])
    message = (await api.unchanged("POST", SERVICES, outside)).refused(422, "Invalid")
    assert message == (
        'Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 80: '
        "provided port is not in the valid range. The range of valid ports is 30000-32767"
    )


@served
async def test_one_port_of_two_protocols_has_one_node_port(api: Api) -> None:
    ports = [{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}]
    spec = (await api.ok("POST", SERVICES, service(type="NodePort", ports=ports)))["spec"]
    assert len({port["nodePort"] for port in spec["ports"]}) == 1


@served
async def test_what_a_service_had_is_free_when_it_is_deleted(api: Api) -> None:
    asked = service(type="NodePort", clusterIP="10.96.0.20", ports=[{"port": 80, "nodePort": 30080}])
    for _ in range(3):
        await api.ok("POST", SERVICES, asked)
        await api.ok("DELETE", SERVICES + "/a")


@served
async def test_an_update_keeps_what_was_allocated(api: Api) -> None:
    made = (await api.ok("POST", SERVICES, service(type="NodePort")))["spec"]
    replaced = (await api.ok("PUT", SERVICES + "/a", service(type="NodePort", selector={"app": "y"})))["spec"]
    assert replaced["clusterIP"] == made["clusterIP"]
    assert replaced["ports"] == made["ports"]
    moved = {"spec": {"ports": [{"port": 80, "nodePort": 31000}]}}
    assert (await api.ok("PATCH", SERVICES + "/a", moved, content_type=MERGE))["spec"]["ports"][0]["nodePort"] == 31000
    # What it had before is free now.
    number = made["ports"][0]["nodePort"]
    await api.ok("POST", SERVICES, service("b", type="NodePort", ports=[{"port": 80, "nodePort": number}]))
    (await api.unchanged("PATCH", SERVICES + "/a", {"spec": {"clusterIP": "10.96.0.77"}}, content_type=MERGE)).refused(
        422, "Invalid"
    )


@served
async def test_a_service_changes_its_type(api: Api) -> None:
    made = (await api.ok("POST", SERVICES, service()))["spec"]

    async def become(**spec: Any) -> dict[str, Any]:
        return (await api.ok("PATCH", SERVICES + "/a", {"spec": spec}, content_type=MERGE))["spec"]

    node_port = await become(type="NodePort")
    number = node_port["ports"][0]["nodePort"]
    assert node_port["clusterIP"] == made["clusterIP"]
    balanced = await become(type="LoadBalancer", externalTrafficPolicy="Local")
    assert balanced["ports"][0]["nodePort"] == number
    health = balanced["healthCheckNodePort"]
    assert health in range(30000, 32768)
    plain = await become(type="ClusterIP")
    assert "nodePort" not in plain["ports"][0]
    assert "healthCheckNodePort" not in plain
    assert plain["clusterIP"] == made["clusterIP"]
    outside = await become(type="ExternalName", externalName="example.org")
    assert "clusterIP" not in outside
    for name, free in (("b", number), ("c", health)):
        await api.ok("POST", SERVICES, service(name, type="NodePort", ports=[{"port": 80, "nodePort": free}]))
    await api.ok("POST", SERVICES, service("d", clusterIP=made["clusterIP"]))
    assert (await become(type="ClusterIP", externalName=None))["clusterIP"].startswith("10.96.")


@served
async def test_headless_and_external_services_have_no_address(api: Api) -> None:
    headless = (await api.ok("POST", SERVICES, service("h", clusterIP="None")))["spec"]
    assert (headless["clusterIP"], headless["clusterIPs"]) == ("None", ["None"])
    named = {"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "example.org"}}
    assert "clusterIP" not in (await api.ok("POST", SERVICES, named))["spec"]


@served
async def test_a_refused_service_leaves_nothing_allocated(api: Api) -> None:
    await api.ok("POST", SERVICES, service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))
    ports = [{"name": "x", "port": 80, "nodePort": 30081}, {"name": "y", "port": 81, "nodePort": 30080}]
    wrong = service("b", type="NodePort", clusterIP="10.96.0.30", ports=ports)
    (await api.call("POST", SERVICES, wrong)).refused(422, "Invalid")
    (await api.call("POST", SERVICES, service("a", clusterIP="10.96.0.30"))).refused(409, "AlreadyExists")
    ports[1]["nodePort"] = 30082
    await api.ok("POST", SERVICES, service("b", type="NodePort", clusterIP="10.96.0.30", ports=ports))


def test_ranges_that_are_used_up() -> None:
    async def scenario() -> None:
        async with running(services="10.96.0.0/29", node_ports=range(30000, 30003)) as api:
            given = set()
            for number in range(5):  # .2 to .6; .1 is the service kubernetes
                given.add((await api.ok("POST", SERVICES, service(f"s{number}")))["spec"]["clusterIP"])
            assert given == {f"10.96.0.{last}" for last in range(2, 7)}
            message = (await api.unchanged("POST", SERVICES, service("more"))).refused(500, "InternalError")
            assert message == "Internal error occurred: failed to allocate a serviceIP: range is full"
            await api.ok("DELETE", SERVICES + "/s3")
            assert (await api.ok("POST", SERVICES, service("more")))["spec"]["clusterIP"] in given
            for number in range(3):
                body = {"spec": {"type": "NodePort"}}
                await api.ok("PATCH", f"{SERVICES}/s{(0, 1, 2)[number]}", body, content_type=MERGE)
            full = await api.unchanged("PATCH", SERVICES + "/s4", {"spec": {"type": "NodePort"}}, content_type=MERGE)
            assert "failed to allocate a nodePort: range is full" in full.refused(500, "InternalError")

    asyncio.run(scenario())


def test_three_servers_never_give_one_address_twice() -> None:
    async def scenario() -> None:
        network = {"services": "10.96.0.0/26", "node_ports": range(30000, 30061)}
        async with running(**network) as a, running(a.store, **network) as b, running(a.store, **network) as c:
            made = [
                (a, b, c)[number % 3].ok("POST", SERVICES, service(f"s{number}", type="NodePort"))
                for number in range(61)
            ]
            services = await asyncio.gather(*made)
            assert len({each["spec"]["clusterIP"] for each in services}) == 61
            assert len({each["spec"]["ports"][0]["nodePort"] for each in services}) == 61
            asked = [
                api.call(
                    "POST", "/api/v1/namespaces/kube-system/services", service(f"x{number}", clusterIP="10.96.0.1")
                )
                for number, api in enumerate((a, b, c))
            ]
            assert [answer.status for answer in await asyncio.gather(*asked)] == [422, 422, 422]

    asyncio.run(scenario())


def test_what_stored_services_have_is_taken_after_a_restart() -> None:
    """Also when the store holds services without allocations, as one that was filled by other means does."""

    async def scenario() -> None:
        store = MemoryStore()
        async with running(store) as api:
            await api.ok("POST", SERVICES, service(clusterIP="10.96.0.40"))
        for item in (await store.list(allocators.PREFIX)).items:
            await store.delete(item.key)
        async with running(store) as api:
            (await api.call("POST", SERVICES, service("b", clusterIP="10.96.0.40"))).refused(422, "Invalid")

    asyncio.run(scenario())


def test_left_over_allocations_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that died between allocating and storing holds nothing for ever."""

    async def scenario() -> None:
        async with running(services="10.96.0.0/29") as api:
            for last in range(2, 7):
                left = {"service": "default/dead", "uid": "1", "since": 0.0 if last != 4 else 4e9}
                await api.store.create(f"{allocators.PREFIX}addresses/10.96.0.{last}", left)
            await api.ok("POST", SERVICES, service(clusterIP="10.96.0.3"))
            (await api.call("POST", SERVICES, service("b", clusterIP="10.96.0.4"))).refused(422, "Invalid")
            for number in range(3):
                await api.ok("POST", SERVICES, service(f"s{number}"))

    asyncio.run(scenario())


class Waiting(MemoryStore):
    """Lets services be stored only when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.may = asyncio.Event()

    async def create(self, key: str, value: Any) -> Stored:
        if key.startswith("/registry/services/default/late"):
            self.asked.set()
            await self.may.wait()
        return await super().create(key, value)


def test_a_write_whose_client_went_is_done_to_its_end() -> None:
    """Its address is then not given to another."""

    async def scenario() -> None:
        store = Waiting()
        async with running(store) as api:
            late = asyncio.create_task(api.call("POST", SERVICES, service("late", clusterIP="10.96.0.50")))
            await store.asked.wait()
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)
            await until(lambda: api.server.metrics.in_flight == 0, "the server noticed that the client went")
            store.may.set()

            async def there() -> bool:
                return (await api.call("GET", SERVICES + "/late")).status == 200

            await until(there, "the service is there")
            (await api.call("POST", SERVICES, service("b", clusterIP="10.96.0.50"))).refused(422, "Invalid")

    asyncio.run(scenario())


class Unsure(MemoryStore):
    """Stores a service and says that it does not know, as etcd does when the answer is lost."""

    async def create(self, key: str, value: Any) -> Stored:
        stored = await super().create(key, value)
        if key.startswith("/registry/services/default/unsure"):
            raise StoreUnavailable("no answer")
        return stored


def test_a_write_that_may_have_been_done_keeps_its_address() -> None:
    async def scenario() -> None:
        async with running(Unsure()) as api:
            answer = await api.call("POST", SERVICES, service("unsure", clusterIP="10.96.0.60"))
            answer.refused(503, "ServiceUnavailable")
            (await api.call("POST", SERVICES, service("b", clusterIP="10.96.0.60"))).refused(422, "Invalid")

    asyncio.run(scenario())
