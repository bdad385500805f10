#!/usr/bin/env python3
"""Probes a second: sweeps of all pairs of 100 namespaces on a bridge, in a sandbox of its own.

The goal is 30,000 a second with nothing lost; exit status 1 when it is missed. Needs root or user
namespaces. Each round is one sweep of all ordered pairs (9,900 of them), including the opening of its
sockets. Hosts know each other's MAC addresses: the learnt ones of all namespaces share one table,
which 9,900 would overflow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests" / "lab")]

import netbox  # noqa: E402

from mininetes.probes.reachability import SweepOptions, sweep  # noqa: E402
from mininetes.probes.vantage import all_pairs  # noqa: E402

GOAL = 30_000


def _resident_kb() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def measure(hosts: int, rounds: int) -> dict[str, Any]:
    """In the sandbox: build the hosts and sweep all pairs, once to warm up and then round after round."""
    lan = netbox.Lan(hosts, permanent=True)
    before_kb = _resident_kb()
    flows = all_pairs(lan.hosts)
    options = SweepOptions(attempts=1, timeout_s=1.0)
    sweep(flows, options)
    rates, lost, medians = [], 0, []
    for _ in range(rounds):
        began = time.perf_counter()
        outcomes = sweep(flows, options)
        rates.append(len(flows) / (time.perf_counter() - began))
        lost += sum(not outcome.reached for outcome in outcomes)
        medians.append(statistics.median(one.rtt_us for one in outcomes if one.rtt_us is not None))
    kb = _resident_kb()
    return {
        "hosts": hosts,
        "rounds": rounds,
        "probes": rounds * len(flows),
        "lost": lost,
        "probes_per_s": round(statistics.median(rates)),
        "probes_per_s_by_round": [round(rate) for rate in rates],
        "rtt_us_median": round(statistics.median(medians), 1),
        "rss_kb": kb,
        "rss_kb_per_pod": round((kb - before_kb) / hosts, 1),
        "goal_probes_per_s": GOAL,
    }


def main() -> int:
    """Print the figures; 0 when the goal is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, default=100, help="namespaces (default 100)")
    parser.add_argument("--rounds", type=int, default=10, help="sweeps that count (default 10)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    arguments = parser.parse_args()
    found = netbox.run(measure, arguments.hosts, arguments.rounds, timeout_s=300.0)
    met = found["probes_per_s"] >= GOAL and not found["lost"]
    if arguments.output == "json":
        print(json.dumps({**found, "met": met}))
    else:
        print(f"probes a second  {found['probes_per_s']:>8}  (goal {GOAL}; rounds {found['probes_per_s_by_round']})")
        print(f"lost             {found['lost']:>8}  of {found['probes']}")
        print(f"median rtt       {found['rtt_us_median']:>8}  us")
        print(f"engine RSS       {found['rss_kb']:>8}  kB, {found['rss_kb_per_pod']} kB a pod for its sweep")
        print("the goal is met" if met else "THE GOAL IS MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
