"""What a node and a member's namespace get of container networks: catalogue in, desired state out. Pure.

    node                                              member
    eth0 ── docker0 ─┬─ vethA ──────────────────────── eth0   bridge: address, default route to the bridge
     │      br-ID ───┴─ vethB ──────────────────────── eth1
     ├─ vx-ID (UDP 4789) ── br-ID ── vethC ─────────── eth2   overlay: no address on the node
     └────────────────────────────────────────────────  eth3   macvlan, ipvlan: straight on the parent

The chains of iptables are those that Docker 28 writes without its docker-proxy, but for DOCKER-USER: a published port
answers at all of the node's addresses, also at 127.0.0.1 and to the container itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

from mininetes.cluster.underlay import ANYWHERE
from mininetes.kernel import rtnl
from mininetes.kernel.netstate import Bridge, Chain, FdbEntry, Hop, Neighbour, NetState, Route, Vxlan
from mininetes.testbed.networks import VXLAN_PORT, Endpoint, Ground, Network, Publish, mac_of
from mininetes.testbed.networks_catalogue import Catalogue


@dataclass(frozen=True)
class Forwarding:
    """A published port: on which bridge and address of a container it ends."""

    bridge: str
    address: str
    publish: Publish


@dataclass(frozen=True)
class LinkSettings:
    """What a node's links get once they are there, as Docker does without docker-proxy.

    ``localnet``: bridges over which packets from 127.0.0.1 may leave and be answered. ``hairpin``: ports of bridges
    that send back what came in by them, as a container's packets to its own published port do.
    """

    localnet: frozenset[str] = frozenset()
    hairpin: frozenset[str] = frozenset()

    @property
    def sysctls(self) -> dict[str, str]:
        """Paths below /proc/sys/net; they go with their bridges."""
        return {f"ipv4/conf/{bridge}/route_localnet": "1" for bridge in sorted(self.localnet)}


def link_settings(node: str, catalogue: Catalogue) -> LinkSettings:
    """What a node's bridges and their ports get, when all are there that the catalogue has."""
    bridges = {each for each in catalogue.on(node) if each.driver == "bridge"}
    return LinkSettings(
        frozenset(each.bridge for each in bridges),
        frozenset(each.port for each in catalogue.endpoints if each.node == node and each.network in bridges),
    )


def node_state(node: str, catalogue: Catalogue, ground: Ground) -> NetState:
    """What a node's namespace gets; nothing when it has no networks but host and none."""
    networks = catalogue.on(node)
    bridges = [each for each in networks if each.driver == "bridge"]
    overlays = [each for each in networks if each.driver == "overlay"]
    parents = {each.parent for each in networks if each.parent}
    state = NetState(
        up=frozenset([*(each.bridge for each in bridges + overlays), *(each.tunnel for each in overlays), *parents]),
        addresses=frozenset((each.bridge, _with_prefix(each, each.gateway)) for each in bridges),
        bridges=frozenset(Bridge(each.bridge, _bridge_mac(each, ground, node)) for each in bridges + overlays),
        chains=frozenset(_chains(bridges, _forwardings(node, catalogue))),
    )
    for each in overlays:
        state = state.merged(_tunnel(node, each, catalogue.members(each), ground))
    return state


def _with_prefix(network: Network, address: object) -> IPv4Interface:
    assert network.subnet is not None
    return IPv4Interface(f"{address}/{network.subnet.prefixlen}")


def _bridge_mac(network: Network, ground: Ground, node: str) -> str:
    if network.driver == "bridge":
        assert network.gateway is not None
        return mac_of(network.gateway)
    # of an overlay, every node has one: told apart by network and node
    return f"02:42:{network.vni & 255:02x}:" + ground.nodes[node].address.packed[1:].hex(":")


def _tunnel(node: str, network: Network, members: Iterable[Endpoint], ground: Ground) -> NetState:
    """An overlay's VXLAN device on a node: it knows each member elsewhere, and answers ARP for it."""
    here = ground.nodes[node]
    mac = f"02:43:{network.vni & 255:02x}:" + here.address.packed[1:].hex(":")
    device = Vxlan(
        network.tunnel, network.vni, here.address, here.device, VXLAN_PORT, mac, network.mtu, txqueuelen=1000,
        proxy=True, master=network.bridge,
    )  # fmt: skip
    elsewhere = [each for each in members if each.node != node and each.address is not None]
    return NetState(
        links=frozenset([device]),
        neighbours=frozenset(Neighbour(device.name, each.address, each.mac) for each in elsewhere if each.address),
        fdb=frozenset(FdbEntry(device.name, each.mac, ground.nodes[each.node].address) for each in elsewhere),
    )


def _forwardings(node: str, catalogue: Catalogue) -> list[Forwarding]:
    """The published ports of a node's containers, each to the first bridge network that its container is on."""
    found = []
    for container in catalogue.containers.values():
        ends = [each for each in catalogue.endpoints_of(container.title) if each.network.driver == "bridge"]
        if container.node == node and ends:
            end = ends[0]
            found += [Forwarding(end.network.bridge, str(end.address), each) for each in container.publish]
    return found


def _chains(bridges: Sequence[Network], published: Sequence[Forwarding]) -> list[Chain]:
    if not bridges:
        return []
    names = [each.bridge for each in bridges]
    ports = [
        f"-d {each.address}/32 ! -i {each.bridge} -o {each.bridge} -p {each.publish.protocol} "
        f"-m {each.publish.protocol} --dport {each.publish.port} -j ACCEPT"
        for each in published
    ]
    nat = [
        f"-p {each.publish.protocol} -m {each.publish.protocol} "
        f"--dport {each.publish.host_port} -j DNAT --to-destination {each.address}:{each.publish.port}"
        for each in published
    ]
    forward = ["-j DOCKER-CT", "-j DOCKER-ISOLATION-STAGE-1", "-j DOCKER-BRIDGE"]
    for each in bridges:
        forward += [] if each.icc else [f"-i {each.bridge} -o {each.bridge} -j DROP"]
        forward.append(f"-i {each.bridge} -j ACCEPT")
    local = "-m addrtype --dst-type LOCAL -j DOCKER"
    masquerade = [("POSTROUTING", rule) for rule in _masquerade(bridges, published)]
    jumps = (("PREROUTING", local), ("OUTPUT", local), *masquerade)
    return [
        Chain("nat", "DOCKER", tuple(nat), jumps),
        Chain("filter", "DOCKER", (*ports, *(f"! -i {name} -o {name} -j DROP" for name in names))),
        Chain("filter", "DOCKER-BRIDGE", tuple(f"-o {name} -j DOCKER" for name in names)),
        Chain("filter", "DOCKER-CT", tuple(
            f"-o {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT" for name in names)),
        Chain("filter", "DOCKER-ISOLATION-STAGE-1", tuple(
            f"-i {name} ! -o {name} -j DOCKER-ISOLATION-STAGE-2" for name in names)),
        Chain("filter", "DOCKER-ISOLATION-STAGE-2", tuple(f"-o {name} -j DROP" for name in names)),
        Chain("filter", "DOCKER-FORWARD", tuple(forward), (("FORWARD", "-j DOCKER-FORWARD"),)),
    ]  # fmt: skip


def _masquerade(bridges: Sequence[Network], published: Sequence[Forwarding]) -> list[str]:
    """What gets another source: what leaves a bridge, what the node sends into one, a container's to itself."""
    rules = [f"-s {each.subnet} ! -o {each.bridge} -j MASQUERADE" for each in bridges]
    rules += [f"-o {each.bridge} -m addrtype --src-type LOCAL -j MASQUERADE" for each in bridges]
    itself = [
        f"-s {each.address}/32 -d {each.address}/32 -p {each.publish.protocol} -m {each.publish.protocol} "
        f"--dport {each.publish.port} -j MASQUERADE"
        for each in published
    ]
    return list(dict.fromkeys([*rules, *itself]))  # one port may be published twice


def member_state(owner: str, endpoints: Iterable[Endpoint]) -> NetState:
    """What the namespace of a container or pod gets of its networks; of a pod, the way out stays its own."""
    ends = [each for each in endpoints if each.device]
    state = NetState(
        up=frozenset(["lo", *(each.device for each in ends)]),
        addresses=frozenset((each.device, _with_prefix(each.network, each.address)) for each in ends),
    )
    ways = [hop for each in ends if (hop := _way_out(each)) is not None]
    if owner.startswith("pod/") or not ways:
        return state
    return state.merged(NetState(routes=frozenset([Route(IPv4Network(ANYWHERE), (ways[0],))])))


def _way_out(endpoint: Endpoint) -> Hop | None:
    network = endpoint.network
    if network.driver == "overlay":
        return None  # its gateway's address is nobody's: docker_gwbridge is the way out
    return Hop(endpoint.device, None if network.mode == "l3" else network.gateway)


def plug_request(endpoint: Endpoint, lower: int, inside: int) -> rtnl.Request:
    """The message that makes a member's device, on the bridge or parent with that index, in the namespace of that
    descriptor; without a bridge it is called as its port for a while.
    """
    network = endpoint.network
    # older kernels look for the name in the node too, where eth0 is taken: the last name comes afterwards
    if network.driver == "macvlan":
        return rtnl.add_macvlan(endpoint.port, lower, network.mode, mac=endpoint.mac, mtu=network.mtu, netns_fd=inside)
    if network.driver == "ipvlan":
        return rtnl.add_ipvlan(endpoint.port, lower, network.mode, mtu=network.mtu, netns_fd=inside)
    near = rtnl.VethEnd(endpoint.port, master=lower, mtu=network.mtu, up=True)
    return rtnl.add_veth(near, rtnl.VethEnd(endpoint.device, mac=endpoint.mac, mtu=network.mtu), inside)
