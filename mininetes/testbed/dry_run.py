"""What bringing a cluster up does to the kernel, step by step as commands: nothing is done. Pure.

The messages and desired states are those with which `testbed` brings a cluster up; see `rehearsal`.
"""

from __future__ import annotations

import itertools
import json
import shlex
from typing import Any

from mininetes.agents.cni.configuration import NetworkConfiguration
from mininetes.agents.cni.runtime import BIN_DIR, Attachment, attachment_environment, plugin_input
from mininetes.cluster import wiring
from mininetes.cluster.underlay import SWITCH_SYSCTLS
from mininetes.kernel import rtnl
from mininetes.kernel.netstate import NetState
from mininetes.kernel.rehearsal import OUTERMOST, Rehearsal, Step, sysctl
from mininetes.testbed import dry_run_services, pods
from mininetes.testbed.blueprint import Blueprint
from mininetes.testbed.networks import Endpoint, ground_of
from mininetes.testbed.networks_catalogue import Catalogue, declared
from mininetes.testbed.networks_plan import link_settings, member_state, node_state, plug_request

PREAMBLE = """\
What 'mininetes up' does, as commands. To type them, be root in a sandbox that goes with its shell:
  unshare --net --mount --pid --fork --kill-child --mount-proc bash
  for each in /run /opt /var/lib; do mount -t tmpfs tmpfs $each; done; mkdir /run/netns /run/lock
  mount -t sysfs sysfs /sys
The switches are in the sandbox's own network namespace. Namespaces have names of 'ip netns' here; in a lab a process
holds each node's, which has mounts and a host name of its own besides."""

_RESULT = "/run/cni-result"


def steps(blueprint: Blueprint) -> list[Step]:
    """All steps in their order. Raises BadInput."""
    rehearsal = Rehearsal()
    _underlay(blueprint, rehearsal)
    _fabric(blueprint, rehearsal)
    _plugins(blueprint, rehearsal)
    dry_run_services.before_pods(blueprint, rehearsal)
    _pods(blueprint, rehearsal)
    dry_run_services.after_pods(blueprint, rehearsal)
    if blueprint.spec.networks or blueprint.spec.containers:
        _container_networks(blueprint, rehearsal)
    return rehearsal.steps


def text(found: list[Step]) -> str:
    """The steps as a shell script that a person can read."""
    lines = [f"# {line}" for line in PREAMBLE.splitlines()]
    for section, group in itertools.groupby(found, key=lambda step: step.section):
        lines += ["", f"# --- {section}"]
        lines += [step.text() for step in group]
    return "\n".join(lines) + "\n"


def rows(found: list[Step]) -> list[dict[str, str]]:
    """The steps for programs: what is run in which namespace ("" for the sandbox's own), with its standard input."""
    return [
        {"section": step.section, "namespace": step.place, "command": step.command, "stdin": step.stdin}
        for step in found
        if step.command
    ]


def _underlay(blueprint: Blueprint, rehearsal: Rehearsal) -> None:
    underlay = blueprint.underlay
    rehearsal.section = "nodes, routers and clients"
    for name in underlay.hosts:
        rehearsal.add_namespace(name)
    rehearsal.section = "switches"
    rehearsal.apply(OUTERMOST, NetState(up=frozenset(["lo"]), sysctls=SWITCH_SYSCTLS))
    index = wiring.bridge_indexes(underlay.switches)
    rehearsal.batch(OUTERMOST, wiring.bridge_requests(index))
    rehearsal.section = "links"
    owners = [*underlay.hosts, *underlay.switches]
    places = dict(enumerate([*underlay.hosts, *[OUTERMOST] * len(underlay.switches)]))
    numbers = {name: number for number, name in enumerate(owners)}
    made: dict[str, list[rtnl.Request]] = {}
    for cable in underlay.cables:
        near, far = wiring.ends_of(cable, index)
        place = OUTERMOST if near.owner in index else near.owner
        made.setdefault(place, []).append(wiring.cable_request(cable, index, numbers[far.owner]))
    for place, requests in made.items():
        rehearsal.batch(place, requests, places)
    for cable in underlay.cables:
        for line in wiring.joining(cable, index):
            rehearsal.run(OUTERMOST, f"ip {line}")
    for host in underlay.hosts.values():
        rehearsal.section = f"addresses and routes of {host.name}"
        rehearsal.apply(host.name, host.state())
    rehearsal.section = "what slows links down"
    for cable in underlay.cables:
        for end in cable.ends:
            for line in wiring.shaping(cable, end):
                rehearsal.run(OUTERMOST if end.owner in index else end.owner, f"tc {line}")


def _fabric(blueprint: Blueprint, rehearsal: Rehearsal) -> None:
    fabric, underlay = blueprint.spec.fabric, blueprint.underlay
    rehearsal.section = f"fabric {fabric.title}"
    if fabric.exec:
        rehearsal.note(f"{shlex.join(fabric.exec)} runs on each node, and does what it thinks right")
    for host in blueprint.states:
        ground = NetState(routes=frozenset(underlay.hosts[host].routes))
        rehearsal.apply(host, ground.merged(blueprint.states[host]), ground, backend=blueprint.spec.proxy.backend)
        for path, content in blueprint.plan.files.get(host, {}).items():
            rehearsal.note(f"{host} gets the file {path}:\n{content}")
    if blueprint.fabric.agent and not fabric.exec:
        rehearsal.note(
            f"{blueprint.fabric.agent} runs on each node and keeps it so; what peers tell each other follows"
        )


def _plugins(blueprint: Blueprint, rehearsal: Rehearsal) -> None:
    rehearsal.section = f"CNI plugins of {blueprint.cni_template.name}"
    needed = set(blueprint.cni.types)
    ours = {blueprint.plugins[kind].parent for kind in needed}
    found = [
        path
        for name, path in sorted(blueprint.plugins.items())
        if name in needed or (path.suffix == ".bash" and path.parent in ours)
    ]
    rehearsal.run(OUTERMOST, f"mkdir -p {BIN_DIR}")
    rehearsal.run(OUTERMOST, f"ln -s {shlex.join(str(path) for path in found)} {BIN_DIR}/")


def _pods(blueprint: Blueprint, rehearsal: Rehearsal) -> None:
    configurations = {node.name: blueprint.configuration_of(node.name) for node in blueprint.spec.nodes}
    for node, configuration in configurations.items():
        rehearsal.section = f"pods of {node}"
        if blueprint.spec.masters and blueprint.spec.pods.per_node:
            rehearsal.note("the kubelet names namespaces and containers by UIDs; here the pod's name stands for them")
        for plan in blueprint.pods:
            if plan.node == node:
                _sandbox(plan.name, rehearsal)
                _attach(configuration, node, pods.attachment_of(plan), rehearsal)


def _sandbox(name: str, rehearsal: Rehearsal) -> None:
    rehearsal.add_namespace(name)
    rehearsal.batch(name, [rtnl.set_up(rehearsal.index(name, "lo"), "lo")])
    rehearsal.run(name, sysctl("ipv6/conf/all/disable_ipv6", "1"))


def _attach(configuration: NetworkConfiguration, node: str, what: Attachment, rehearsal: Rehearsal) -> None:
    """The calls of an ADD; in a chain each plugin gets the result of the one before."""
    chained = len(configuration.plugins) > 1
    for number, plugin in enumerate(configuration.plugins):
        values = {"CNI_COMMAND": "ADD", "CNI_PATH": BIN_DIR, **attachment_environment(what)}
        words = " ".join(shlex.quote(f"{key}={value}") for key, value in values.items())
        program = f"{BIN_DIR}/{plugin['type']}"
        if chained:
            given = f"jq --slurpfile before {_RESULT} '.prevResult = $before[0]' | " if number else ""
            program = f"sh -c {shlex.quote(f'{given}{program} >{_RESULT}.new && mv {_RESULT}.new {_RESULT}')}"
        rehearsal.run(node, f"env {words} {program}", json.dumps(plugin_input(configuration, plugin, what), indent=2))


def _container_networks(blueprint: Blueprint, rehearsal: Rehearsal) -> None:
    spec, ground = blueprint.spec, ground_of(blueprint)
    catalogue = declared(spec.networks, spec.containers, ground)
    there = {node for network in catalogue.networks for node in network.nodes}
    for node in sorted(there & set(ground.nodes)):
        rehearsal.section = f"container networks of {node}"
        rehearsal.apply(node, node_state(node, catalogue, ground), backend=spec.proxy.backend)
    for container in catalogue.containers.values():
        _container(container.title, catalogue, rehearsal)
    for node in sorted(there & set(ground.nodes)):
        settings = link_settings(node, catalogue)
        rehearsal.section = f"links of {node}'s container networks"
        for key, value in settings.sysctls.items():
            rehearsal.run(node, sysctl(key, value))
        for port in sorted(settings.hairpin):
            rehearsal.run(node, f"bridge link set dev {port} hairpin on")


def _container(title: str, catalogue: Catalogue, rehearsal: Rehearsal) -> None:
    ends: list[Endpoint] = catalogue.endpoints_of(title)
    name = title.removeprefix("container/")
    rehearsal.section = f"container {name}"
    if any(each.network.driver == "host" for each in ends):
        rehearsal.note(f"{name} is in the namespace of its node")
        return
    place = f"container:{name}"
    _sandbox(place, rehearsal)
    for each in ends:
        if each.device:
            _plug(each, place, rehearsal)
    rehearsal.apply(place, member_state(title, ends))


def _plug(end: Endpoint, place: str, rehearsal: Rehearsal) -> None:
    lower = rehearsal.index(end.node, end.network.bridge or end.network.parent)
    inside: Any = 0
    rehearsal.batch(end.node, [plug_request(end, lower, inside)], {inside: place})
    if not end.network.bridge:
        rehearsal.batch(place, [rtnl.rename(rehearsal.index(place, end.port), end.device)])
