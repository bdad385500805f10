"""What goes wrong in a cluster, done to a running lab on purpose, and taken back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mininetes.cluster.net import LAB_NETNS
from mininetes.errors import BadInput, MininetesError
from mininetes.kernel.processes import Namespaces, run

if TYPE_CHECKING:
    from mininetes.testbed.testbed import Testbed


def switch_ports(testbed: Testbed, node: str) -> list[str]:
    """The switches' ports to which a node's cables lead. Raises BadInput for what is no node with such a cable."""
    underlay = testbed.blueprint.underlay
    cables = [cable.ends for cable in underlay.cables if any(end.owner == node for end in cable.ends)]
    found = [end.device for ends in cables for end in ends if end.owner in underlay.switches]
    if not found:
        raise BadInput("node", node, "a node whose cable leads to a switch")
    return found


async def cut_link(testbed: Testbed, node: str) -> None:
    """Pull a node's cables out at the switch: the node sees its carrier go. May be called twice."""
    await _set_ports(testbed, node, "down")


async def mend_link(testbed: Testbed, node: str) -> None:
    """Undo `cut_link`. May be called twice."""
    await _set_ports(testbed, node, "up")


async def _set_ports(testbed: Testbed, node: str, state: str) -> None:
    for port in switch_ports(testbed, node):
        argv = ["ip", "link", "set", "dev", port, state]
        await asyncio.to_thread(run, argv, namespaces=Namespaces(net=LAB_NETNS))


async def power_off(testbed: Testbed, node: str) -> None:
    """Have a node vanish: its cables pulled and its agents killed, which clean nothing up. May be called twice."""
    await cut_link(testbed, node)
    for where, name in reversed(_agents(testbed, node)):
        await testbed.tasks.stop(where, name)


async def power_on(testbed: Testbed, node: str) -> None:
    """Undo `power_off`: its pods are there still, and its agents find them. May be called twice."""
    await mend_link(testbed, node)
    testbed.tasks.start_all(_agents(testbed, node))


def _agents(testbed: Testbed, node: str) -> list[tuple[str, str]]:
    found = [each for each in testbed.tasks.names() if each[0] == node]
    if not found:
        raise MininetesError(f"{node} has no agents: this lab has no control plane, or no such node")
    return found
