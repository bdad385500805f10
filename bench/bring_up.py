"""Bring-up of a cluster with pods, against the floor: what the kernel itself takes for it (floor.c).

Both make the same: nodes with a bridge, and pods with a veth on it, an address and a default route;
the engine makes the pods through the bash plugin. They are measured in turn, in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GOAL = 4.0
FLOOR_SOURCE = Path(__file__).with_name("floor.c")
SANDBOX = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
QUIET_S = 0.02


def measure_engine(nodes: int, pods: int) -> float:
    """Return the engine's own seconds for a ready cluster of ``nodes`` x ``pods``: networks, pods and responders.

    The start of Python and the checks before are left out, as the floor's start is; so are control plane and pause
    processes, of which the floor has none.
    """
    lab = f"bench-{os.getpid()}"
    command = [sys.executable, "-m", "mininetes"]
    shape = ["--lab", lab, "--nodes", str(nodes), "--pods", str(pods), "-o", "json"]
    shape += ["--set", "controlPlane.store=none", "--set", "pods.hold=mount"]
    done = subprocess.run([*command, "up", *shape], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bring_up: the engine failed: {done.stderr.strip()}")
    subprocess.run([*command, "down", lab], capture_output=True, timeout=60, check=True)
    return float(json.loads(done.stdout)["readySeconds"])


def measure_floor(program: Path, nodes: int, pods: int) -> float:
    """Return the seconds that floor.c takes for the same, in a sandbox of its own."""
    argv = [SANDBOX[0], *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), *SANDBOX[1:]]
    script = 'mount -t tmpfs floor "$1" && exec "$2" "$1" "$3" "$4"'
    with tempfile.TemporaryDirectory(prefix="floor-") as directory:
        argv += ["sh", "-c", script, "sh", directory, str(program), str(nodes), str(pods)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bring_up: the floor failed: {done.stderr.strip()}")
    return float(json.loads(done.stdout)["seconds"])


@contextmanager
def built_floor() -> Iterator[Path]:
    """Build floor.c with gcc; the program is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="floor-") as directory:
        program = Path(directory, "floor")
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(FLOOR_SOURCE)], check=True)
        yield program


def wait_until_quiet(timeout_s: float = 60.0) -> None:
    """Wait until the kernel has done away with the namespaces of the measurement before.

    It does so in the background, under the lock that making links needs too. Raises TimeoutError.
    """
    argv = [SANDBOX[0], *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--net"]
    deadline = time.monotonic() + timeout_s
    quiet = 0
    while quiet < 5:
        started = time.monotonic()
        subprocess.run([*argv, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"], check=True)
        quiet = quiet + 1 if time.monotonic() - started < QUIET_S else 0
        if time.monotonic() > deadline:
            raise TimeoutError(f"making a veth took more than {QUIET_S} s for {timeout_s:g} s: the machine is busy")
        time.sleep(0.05)


def measure(nodes: int, pods: int, repetitions: int, *, engine: bool) -> dict[str, float | int | bool]:
    """Measure both in turn and return the medians and their ratio."""
    floors: list[float] = []
    engines: list[float] = []
    with built_floor() as program:
        for _ in range(repetitions):
            wait_until_quiet()
            floors.append(measure_floor(program, nodes, pods))
            if engine:
                wait_until_quiet()
                engines.append(measure_engine(nodes, pods))
    floor_s = statistics.median(floors)
    result: dict[str, float | int | bool] = {
        "nodes": nodes,
        "pods_per_node": pods,
        "repetitions": repetitions,
        "floor_s": round(floor_s, 4),
        "floor_ms_per_pod": round(floor_s * 1000 / (nodes * pods), 4),
    }
    if engine:
        engine_s = statistics.median(engines)
        result |= {
            "engine_s": round(engine_s, 4),
            "engine_ms_per_pod": round(engine_s * 1000 / (nodes * pods), 4),
            "ratio": round(engine_s / floor_s, 3),
            "goal": GOAL,
            "holds": engine_s / floor_s <= GOAL,
        }
    return result


def describe(result: dict[str, float | int | bool]) -> str:
    """Put the result in a line or two for people."""
    lines = [
        f"bring-up of {result['nodes']} nodes x {result['pods_per_node']} pods, median of {result['repetitions']}",
        f"  floor (C, raw netlink)   {result['floor_s']:7.2f} s   {result['floor_ms_per_pod']:6.2f} ms a pod",
    ]
    if "ratio" in result:
        verdict = "holds" if result["holds"] else "MISSED"
        lines += [
            f"  engine (bash plugin)     {result['engine_s']:7.2f} s   {result['engine_ms_per_pod']:6.2f} ms a pod",
            f"  ratio {result['ratio']:.2f}, goal at most {GOAL:g}: {verdict}",
        ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and return 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--pods", type=int, default=100, help="on each node")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--floor-only", action="store_true", help="measure the floor and nothing else")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    options = parser.parse_args()
    result = measure(options.nodes, options.pods, options.repetitions, engine=not options.floor_only)
    print(json.dumps(result) if options.output == "json" else describe(result))
    return 0 if result.get("holds", True) else 1


if __name__ == "__main__":
    sys.exit(main())
