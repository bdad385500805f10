"""A proxy's rules: compiling them, and writing them against the bare restore of the same text.

The rules of many services with two endpoints each go into two namespaces: into one by the engine
(`RuleKeeper`), into the other by iptables-restore or nft alone. Then everything is written again,
and after that one endpoint is added and taken away, in turn in both. "Whole" is measured at a tenth
of the services, as iptables-nft and nft take many seconds for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mininetes.agents.agent import Placement
from mininetes.agents.klog import AgentLog
from mininetes.agents.kubeproxy.compiling import compiler
from mininetes.agents.kubeproxy.configuration import kube_proxy_config
from mininetes.agents.kubeproxy.iptables_state import difference_text
from mininetes.agents.kubeproxy.metrics import Metrics
from mininetes.agents.kubeproxy.nftables_applier import difference_lines
from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.agents.kubeproxy.rule_keeper import RuleKeeper
from mininetes.agents.kubeproxy.rulesets import IptablesRuleset, NftablesRuleset, restore_text
from mininetes.agents.kubeproxy.view_builder import NodeFacts, ViewBuilder
from mininetes.kernel.netns import add_named, mount
from mininetes.kernel.processes import Namespaces, let_thread_enter, run

COMPILE_GOAL_S, RATIO_GOAL = 1.0, 1.3
KINDS = (("iptables", "legacy"), ("iptables", "nft"), ("nftables", ""))
SANDBOX = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
NODE = "192.168.1.11"
OURS, BARE = "/run/netns/ours", "/run/netns/bare"


def service(number: int) -> dict[str, Any]:
    """A ClusterIP service."""
    return {
        "metadata": {"name": f"s{number}", "namespace": "default"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": f"10.{96 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    }


def endpoint_slice(number: int, endpoints: int = 2) -> dict[str, Any]:
    """Its endpoints, one on each node."""
    return {
        "metadata": {
            "name": f"s{number}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": f"s{number}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [f"10.244.{node}.{number % 250 + 2}"], "nodeName": f"node{node}"}
            for node in range(1, endpoints + 1)
        ],
    }


def filled(mode: Any, services: int) -> ViewBuilder:
    """A node's view of that many services."""
    config = kube_proxy_config({"clusterCIDR": "10.244.0.0/16"})
    builder = ViewBuilder(NodeFacts("node1", NODE, addresses=(NODE,)), mode, config)
    for number in range(services):
        builder.set_service(f"default/s{number}", service(number))
        builder.set_slice(f"default/s{number}-1", endpoint_slice(number))
    return builder


def compile_s(services: int) -> float:
    """Seconds from objects to the rules of mode iptables, all of it in Python."""
    rules = compiler("iptables")
    builder = filled("iptables", services)
    started = time.perf_counter()
    builder.refresh()
    rules(builder.view())
    return time.perf_counter() - started


async def measured(mode: Any, backend: str, services: int, repetitions: int) -> dict[str, float]:
    """In the sandbox: medians, in seconds, of writing everything and one endpoint, by the engine and bare."""
    with ThreadPoolExecutor(1, initializer=let_thread_enter) as threads:
        builder = filled(mode, services)
        tools = NodeTools(Namespaces(net=OURS), backend or None)  # type: ignore[arg-type]
        keeper = RuleKeeper(Placement("node1", NODE, OURS, 0), builder, compiler(mode), tools,
                            AgentLog("/run/kube-proxy.log"), Metrics(), threads)  # fmt: skip
        restore = ["nft", "-f", "-"] if mode == "nftables" else [f"iptables-{backend}-restore", "--noflush"]

        def bare(text: str) -> float:
            started = time.perf_counter()
            run(restore, stdin=text, namespaces=Namespaces(net=BARE), timeout_s=300)
            return time.perf_counter() - started

        synced = await keeper.sync(whole=True)
        bare(synced.ruleset.text())  # type: ignore[union-attr]
        samples: dict[str, list[float]] = {"whole": [], "bare whole": [], "endpoint": [], "bare endpoint": []}
        for turn in range(repetitions):
            synced = await keeper.sync(whole=True)
            samples["whole"].append(synced.took_s)
            samples["bare whole"].append(bare(whole_text(synced.ruleset)))
            before = synced.ruleset
            for endpoints in (3, 2):
                number = services // 2 + turn
                builder.set_slice(f"default/s{number}-1", endpoint_slice(number, endpoints), endpoint_slice(number))
                synced = await keeper.sync(whole=False)
                samples["endpoint"].append(synced.took_s)
                samples["bare endpoint"].append(bare(smallest_text(synced.ruleset, before)))
                before = synced.ruleset
    return {name: statistics.median(each) for name, each in samples.items()}


def whole_text(ruleset: Any) -> str:
    """All rules, for a namespace that has their jumps already."""
    return ruleset.text() if isinstance(ruleset, NftablesRuleset) else restore_text(ruleset.chains)


def smallest_text(new: Any, old: Any) -> str:
    """The change alone."""
    if isinstance(new, IptablesRuleset):
        return difference_text(new, old)[0]
    lines, stale, _ = difference_lines(new, old)
    return "\n".join([*lines, *stale]) + "\n"


def inside(mode: str, backend: str, services: int, repetitions: int) -> None:
    """Measure in this sandbox and print the medians as JSON."""
    mount("tmpfs", "/run", "tmpfs")
    Path("/run/netns").mkdir()
    for path in (OURS, BARE):
        add_named(path)
    print(json.dumps(asyncio.run(measured(mode, backend, services, repetitions))))


def in_sandbox(mode: str, backend: str, services: int, repetitions: int) -> dict[str, float]:
    """Measure in a new sandbox."""
    argv = [SANDBOX[0], *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), *SANDBOX[1:]]
    argv += [sys.executable, __file__, "--inside", mode, backend, str(services), str(repetitions)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        raise SystemExit(f"proxy_rules: {mode} {backend}: {done.stderr.strip()}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(services: int, repetitions: int) -> list[dict[str, Any]]:
    """All rows: what was measured, in seconds and as ratios, with goals."""
    took_s = statistics.median(compile_s(services) for _ in range(3))
    what = f"compiling {services} services x 2 endpoints, iptables"
    rows: list[dict[str, Any]] = [
        {"what": what, "engine_s": took_s, "goal_s": COMPILE_GOAL_S, "holds": took_s <= COMPILE_GOAL_S}
    ]
    for mode, backend in KINDS:
        name = f"{mode} {backend}".strip()
        some = services if backend == "legacy" else services // 10
        at_some = in_sandbox(mode, backend, some, repetitions)
        at_all = at_some if some == services else in_sandbox(mode, backend, services, 1)
        for what, count, found in (("whole", some, at_some), ("endpoint", services, at_all)):
            ratio = found[what] / found[f"bare {what}"]
            rows.append({"what": f"{name}: {what}, {count} services", "engine_s": found[what],
                         "bare_s": found[f"bare {what}"], "ratio": ratio, "goal": RATIO_GOAL,
                         "holds": ratio <= RATIO_GOAL})  # fmt: skip
    return rows


def describe(row: dict[str, Any]) -> str:
    """A row for people."""
    verdict = "holds" if row["holds"] else "MISSED"
    if "ratio" not in row:
        return f"{row['what']:52} {row['engine_s']:7.3f} s, goal at most {row['goal_s']:g} s: {verdict}"
    text = f"{row['what']:52} {row['engine_s']:7.3f} s, bare {row['bare_s']:7.3f} s"
    return f"{text}, ratio {row['ratio']:.2f}, goal at most {row['goal']:g}: {verdict}"


def main() -> int:
    """Measure, print, and return 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--inside", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    options = parser.parse_args()
    if options.inside:
        mode, backend, services, repetitions = options.inside
        inside(mode, backend, int(services), int(repetitions))
        return 0
    rows = measure(options.services, options.repetitions)
    print(json.dumps(rows) if options.output == "json" else "\n".join(describe(row) for row in rows))
    return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
