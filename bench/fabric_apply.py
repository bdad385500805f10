"""Applying a fabric's plan for many nodes, against `ip -batch` and `bridge -batch` of the same entries.

The plan is that of the fabric vxlan: for N nodes N x (N - 1) routes, and as many neighbours and forwarding
entries. Both give each node, a network namespace with the device that is there already, all of its entries;
`ip` and `bridge` are one process each for a node. They are measured in turn, in one sandbox. Applied again,
the engine finds that nothing is to be done. The exit status is 1 when a goal is missed.

    python3 bench/fabric_apply.py [--nodes 100] [--rounds 5] [-o json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

GOALS = {"apply": 1.5, "again": 0.5}
SANDBOX = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
INSIDE = "MININETES_BENCH"


def compiled(nodes: int) -> dict:
    """The plan's state for each node, its device apart: by node, (device alone, all of it)."""
    from mininetes import parts  # noqa: PLC0415 - the sandbox's process alone needs the engine
    from mininetes.cluster.underlay import read_topo, topo_class  # noqa: PLC0415
    from mininetes.kernel.netstate import NetState  # noqa: PLC0415
    from mininetes.testbed.fabric import FabricNode, FabricView, fabric_of  # noqa: PLC0415

    topo = topo_class(parts.load("underlay", "single_switch"), "single_switch")(nodes=nodes)
    underlay = read_topo(topo)
    pods = IPv4Network("10.244.0.0/16")
    subnets = list(pods.subnets(new_prefix=24))
    found = [FabricNode(h.name, h.address, "eth0", subnets[n]) for n, h in enumerate(underlay.hosts.values(), start=1)]
    plan = fabric_of(parts.load("fabric", "vxlan"), "vxlan", {}).plan(FabricView(tuple(found), underlay, pods))
    states = {name: replace(state, chains=frozenset()) for name, state in plan.states.items()}
    return {name: (NetState(links=s.links, up=s.up, addresses=s.addresses), s) for name, s in states.items()}


def prepare(states: dict) -> None:
    """Namespaces with eth0 and the tunnel's device, which both sides fill."""
    from mininetes.kernel import applier  # noqa: PLC0415
    from mininetes.kernel.netns import add_named  # noqa: PLC0415

    for number, (name, (device, _)) in enumerate(states.items(), start=1):
        add_named(f"/run/netns/{name}")
        lines = f"link add eth0 type veth peer name peer{number}\naddress add 192.168.1.{10 + number}/24 dev eth0\n"
        lines += f"link set eth0 up\nlink set peer{number} up\n"
        subprocess.run(["ip", "-n", name, "-batch", "-"], input=lines, text=True, check=True)
        applier.apply(f"/run/netns/{name}", device)


def clear(states: dict) -> None:
    """Take all entries away again; the device stays."""
    from mininetes.kernel import applier  # noqa: PLC0415

    for name, (device, whole) in states.items():
        applier.apply(f"/run/netns/{name}", device, whole)


def by_engine(states: dict) -> None:
    """All entries by the engine's applier."""
    from mininetes.kernel import applier  # noqa: PLC0415

    for name, (_, whole) in states.items():
        applier.apply(f"/run/netns/{name}", whole)


def batches(states: dict) -> dict[str, tuple[str, str]]:
    """What `ip -batch` and `bridge -batch` are given, by node: texts that are made beforehand."""
    found = {}
    for name, (_, whole) in states.items():
        lines = [f"route replace {route}" for route in whole.routes]
        lines += [f"neigh replace {each} nud permanent" for each in whole.neighbours]
        entries = [f"fdb replace {each}" for each in whole.fdb]
        found[name] = ("\n".join(lines) + "\n", "\n".join(entries) + "\n")
    return found


def by_tools(texts: dict[str, tuple[str, str]]) -> None:
    """All entries by `ip` and `bridge`."""
    for name, (lines, entries) in texts.items():
        subprocess.run(["ip", "-n", name, "-batch", "-"], input=lines, text=True, check=True)
        subprocess.run(["bridge", "-n", name, "-batch", "-"], input=entries, text=True, check=True)


def seconds(work: Callable[[], None]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def inside(nodes: int, rounds: int) -> dict:
    """Measure in turn; medians in seconds."""
    from mininetes.kernel.netns import mount  # noqa: PLC0415

    mount("tmpfs", "/run", "tmpfs")
    os.mkdir("/run/netns")  # noqa: PTH102
    states = compiled(nodes)
    texts = batches(states)
    prepare(states)
    taken: dict[str, list[float]] = {"tools": [], "apply": [], "again": []}
    for _ in range(rounds):
        taken["tools"].append(seconds(lambda: by_tools(texts)))
        clear(states)
        taken["apply"].append(seconds(lambda: by_engine(states)))
        taken["again"].append(seconds(lambda: by_engine(states)))
        clear(states)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> int:
    """Measure and print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    options = parser.parse_args()
    if os.environ.get(INSIDE):
        print(json.dumps(inside(options.nodes, options.rounds)))
        return 0
    root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    again = [sys.executable, __file__, "--nodes", str(options.nodes), "--rounds", str(options.rounds)]
    argv = [SANDBOX[0], *root, *SANDBOX[1:], *again]
    done = subprocess.run(argv, env={**os.environ, INSIDE: "1"}, stdout=subprocess.PIPE, text=True, check=True)
    took = json.loads(done.stdout)
    ratios = {name: took[name] / took["tools"] for name in GOALS}
    missed = [name for name, goal in GOALS.items() if ratios[name] > goal]
    if options.output == "json":
        print(json.dumps({"nodes": options.nodes, "seconds": took, "ratios": ratios, "goals": GOALS}))
        return 1 if missed else 0
    print(f"vxlan on {options.nodes} nodes: ip and bridge {took['tools']:.3f} s")
    for name, goal in GOALS.items():
        verdict = "missed" if name in missed else "met"
        print(f"  {name:<6} {took[name]:.3f} s  {ratios[name]:.2f} times (goal: at most {goal}, {verdict})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
