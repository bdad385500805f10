"""What commands ask about container networks over the control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from mininetes.errors import BadInput
from mininetes.spec_sections import ContainerNetworkSpec, ContainerSpec
from mininetes.testbed import networks_reach
from mininetes.testbed.networks import PREDEFINED, Endpoint, Network
from mininetes.testbed.networks_catalogue import Catalogue, Container
from mininetes.testbed.networks_choice import Place
from mininetes.testbed.networks_running import Networks

if TYPE_CHECKING:
    from mininetes.testbed.testbed import Testbed  # which the control socket stands for

Json = dict[str, Any]


def network_row(network: Network, catalogue: Catalogue) -> Json:
    """A network in the list of all."""
    return {
        "name": network.name,
        "driver": network.driver,
        "scope": network.scope,
        "nodes": list(network.nodes),
        "subnet": str(network.subnet) if network.subnet else None,
        "id": network.id,
        "members": [each.owner for each in catalogue.members(network)],
    }


def inspection(network: Network, catalogue: Catalogue) -> Json:
    """All about a network, in the keys that Docker has for it."""
    pool = {"Subnet": network.subnet, "IPRange": network.ip_range, "Gateway": network.gateway}
    options: dict[str, Any] = {"parent": network.parent, "mode": network.mode, "vni": network.vni}
    options = {key: str(value) for key, value in options.items() if value}
    if network.subnet is not None:
        options["mtu"] = str(network.mtu)
    if network.driver == "bridge":
        options["icc"] = "true" if network.icc else "false"
    return {
        "Name": network.name,
        "Id": network.id,
        "Scope": network.scope,
        "Driver": network.driver,
        "Nodes": list(network.nodes),
        "Bridge": network.bridge or None,
        "EnableIPv6": False,
        "IPAM": {"Config": [{key: str(value) for key, value in pool.items() if value}] if network.subnet else []},
        "Options": options,
        "Containers": {each.owner: _member(each) for each in catalogue.members(network)},
    }


def _member(endpoint: Endpoint) -> Json:
    subnet = endpoint.network.subnet
    address = f"{endpoint.address}/{subnet.prefixlen}" if endpoint.address and subnet else None
    return {
        "Node": endpoint.node,
        "Interface": endpoint.device or None,
        "MacAddress": endpoint.mac or None,
        "IPv4Address": address,
    }


def container_row(container: Container, networks: Networks) -> Json:
    """A container in the list of all: on which networks it is, with which address and interface."""
    ends = networks.catalogue.endpoints_of(container.title)
    return {
        "name": container.name,
        "node": container.node,
        "port": container.port,
        "publish": [str(each) for each in container.publish],
        "netns": networks.netns_of(container),
        "networks": [
            {"name": each.network.name, "address": str(each.address) if each.address else None,
             "interface": each.device or None}
            for each in ends
        ],
    }  # fmt: skip


async def _create(testbed: Testbed, request: Json) -> Json:
    networks = testbed.container_networks()
    network = await networks.create(ContainerNetworkSpec.model_validate(request["spec"]))
    return {"network": inspection(network, networks.catalogue)}


async def _list(testbed: Testbed, _: Json) -> Json:
    found = await testbed.container_networks().complete()
    order = {node.name: number for number, node in enumerate(testbed.spec.nodes)}
    ranks = {name: number for number, name in enumerate(PREDEFINED)}

    def rank(network: Network) -> tuple[int, int, bool]:
        return order.get(network.node, len(order)), ranks.get(network.name, len(ranks)), not network.is_predefined

    return {"networks": [network_row(each, found) for each in sorted(found.networks, key=rank)]}


async def _inspect(testbed: Testbed, request: Json) -> Json:
    found = await testbed.container_networks().complete()
    wanted = [found.find(name, request["node"], Place()) for name in request["names"]]
    return {"networks": [inspection(each, found) for each in wanted]}


async def _remove(testbed: Testbed, request: Json) -> Json:
    for name in request["names"]:
        if name in PREDEFINED:
            raise BadInput("NETWORK", name, "a network that is not predefined")
    await testbed.container_networks().remove(request["names"], request["node"])
    return {}


async def _connect(testbed: Testbed, request: Json) -> Json:
    endpoint = await testbed.container_networks().connect(request["network"], request["member"])
    return {"endpoint": {"Owner": endpoint.owner, **_member(endpoint)}}


async def _disconnect(testbed: Testbed, request: Json) -> Json:
    await testbed.container_networks().disconnect(request["network"], request["member"])
    return {}


async def _run(testbed: Testbed, request: Json) -> Json:
    networks = testbed.container_networks()
    container = await networks.run(ContainerSpec.model_validate(request["spec"]))
    return {"container": container_row(container, networks)}


async def _containers(testbed: Testbed, _: Json) -> Json:
    networks = testbed.container_networks()
    return {"containers": [container_row(each, networks) for each in networks.catalogue.containers.values()]}


async def _stop(testbed: Testbed, request: Json) -> Json:
    for name in request["names"]:
        testbed.container_networks().catalogue.find_container(name, Place())
    for name in request["names"]:
        await testbed.container_networks().stop(name)
    return {}


async def _probe(testbed: Testbed, request: Json) -> Json:
    return {"rows": await networks_reach.rows_of(testbed, request)}


OPERATIONS: dict[str, Callable[[Any, Json], Awaitable[Json]]] = {
    "net-create": _create,
    "net-ls": _list,
    "net-inspect": _inspect,
    "net-rm": _remove,
    "net-connect": _connect,
    "net-disconnect": _disconnect,
    "container-run": _run,
    "container-ls": _containers,
    "container-rm": _stop,
    "probe-networks": _probe,
}
"""By the name of the operation."""
