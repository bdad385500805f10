"""What commands print for people: progress, topology, nodes and pods, matrices."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mininetes.kernel.features import FeatureVerdict
from mininetes.lab import state as lab_state
from mininetes.probes.matrix import ReachabilityMatrix

_PIPED_WIDTH = None if sys.stdout.isatty() else 200
console = Console(highlight=False, soft_wrap=True, width=_PIPED_WIDTH)
MOST_MISMATCHES = 20


def own_name() -> str:
    """How to call this command again: by its name where PATH has it, else by its path."""
    return "mininetes" if shutil.which("mininetes") else os.path.relpath(sys.argv[0])


def table(title: str | None, *columns: str) -> Table:
    """A table in the style of all of them."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        made.add_column(column.upper(), no_wrap=True)
    return made


def progress(step: str) -> None:
    """One step of the bring-up, on a terminal only."""
    if sys.stderr.isatty():
        click.echo(f"  . {step}", err=True)


def topology(status: Mapping[str, Any]) -> Text:
    """The cluster as a tree: the underlay's hosts, and the pods on their nodes."""
    drawing = Text()
    drawing.append(f"{status['name']}", style="bold")
    drawing.append(f"  underlay {status['underlay']}, fabric {status['fabric']}, CNI {status['cni']}\n")
    nodes = [host for host in status["hosts"] if host["podSubnet"]]
    others = [host for host in status["hosts"] if not host["podSubnet"]]
    for index, host in enumerate([*nodes, *others]):
        last = index == len(nodes) + len(others) - 1
        branch = "└─ " if last else "├─ "
        drawing.append(branch)
        drawing.append(f"{host['name']:<9}", style="bold cyan" if host["podSubnet"] else "cyan")
        subnet = f"  pods {host['podSubnet']}" if host["podSubnet"] else ""
        drawing.append(f" {host['address']:<15} {host['role']:<13}{subnet}\n")
        pods = [pod for pod in status["pods"] if pod["node"] == host["name"]]
        for place, pod in enumerate(pods[:8]):
            stem = "   " if last else "│  "
            twig = "└─ " if place == len(pods) - 1 else "├─ "
            drawing.append(f"{stem}{twig}{'pod/' + pod['name']:<14} {pod['address']}\n")
        if len(pods) > 8:
            drawing.append(f"{'   ' if last else '│  '}└─ and {len(pods) - 8} more pods\n")
    return drawing


def ready(status: Mapping[str, Any], output: str, *, hints: bool = True) -> None:
    """What `up` says in the end."""
    if output == "json":
        click.echo(json.dumps(status, indent=2))
        return
    console.print(topology(status), end="")
    console.print(f"ready after {status['readySeconds']:.2f} s", style="green")
    if hints:
        name = status["name"]
        first = next((pod for pod in status["pods"]), None)
        console.print("\nLook around:")
        node = next(host["name"] for host in status["hosts"] if host["podSubnet"])
        lab = f" --lab {name}" if len(lab_state.labs()) > 1 else ""
        for command in (
            f"exec{lab} {node} -- ip route",
            f"shell{lab} pod/{first['name']}" if first else "",
            f"probe reachability{lab}",
            f"down {name}",
        ):
            if command:
                console.print(f"  {own_name()} {command}")


def labs(rows: Sequence[Mapping[str, Any]], output: str) -> None:
    """What `ls` says."""
    if output == "json":
        click.echo(json.dumps(list(rows), indent=2))
        return
    if not rows:
        click.echo("no lab is up: 'mininetes up' starts one", err=True)
        return
    listing = table(None, "name", "nodes", "underlay", "fabric", "up for", "pid")
    for row in rows:
        age = f"{time.time() - float(row['started']):.0f} s" if row["started"] else "coming up"
        facts = (
            row["name"],
            row.get("nodes", ""),
            row.get("underlay", ""),
            row.get("fabric", ""),
            age,
            row["pid"] or "",
        )
        listing.add_row(*(str(fact) for fact in facts))
    console.print(listing)


def hosts(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Nodes and the rest of the underlay, one a line."""
    listing = table(None, "host", "role", "address", "mac", "pod subnet")
    for row in rows:
        listing.add_row(row["name"], row["role"], row["address"], row["mac"] or "", row["podSubnet"] or "")
    return listing


def pods(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Pods, one a line."""
    listing = table(None, "pod", "node", "address", "port")
    for row in rows:
        listing.add_row(row["name"], row["node"], row["address"], str(row["port"] or ""))
    return listing


def agents(rows: Sequence[Mapping[str, Any]]) -> None:
    """What `agents ls` says."""
    listing = table(None, "node", "agent", "state", "restarts", "failure")
    styles = {"running": "green", "failing": "red", "stopped": "yellow"}
    for row in rows:
        state = Text(row["state"], style=styles[row["state"]])
        listing.add_row(row["node"], row["name"], state, str(row["restarts"]), row["failure"])
    console.print(listing)


def status(facts: Mapping[str, Any]) -> None:
    """What `status` says."""
    console.print(
        f"[bold]{facts['name']}[/bold]  underlay {facts['underlay']}, fabric {facts['fabric']}, CNI {facts['cni']}\n"
    )
    console.print(hosts(facts["hosts"]))
    if facts["pods"]:
        console.print()
        console.print(pods(facts["pods"]))
    console.print()
    if not facts["drift"]:
        console.print(
            "no drift: what underlay and fabric declare of addresses, routes and sysctls is there", style="green"
        )
    for host, changes in facts["drift"].items():
        for change in changes:
            console.print(f"drift on {host}: needs: {change}", style="red")


def matrix(measured: ReachabilityMatrix, title: str = "Who reaches whom") -> None:
    """A reachability matrix, its summary, and every mismatch by name."""
    console.print(measured.table(title))
    console.print(measured.summary(), style="green" if measured.holds else "bold red")
    for cell in measured.mismatches[:MOST_MISMATCHES]:
        console.print(f"  {cell}", markup=False)
    if len(measured.mismatches) > MOST_MISMATCHES:
        console.print(f"  and {len(measured.mismatches) - MOST_MISMATCHES} more: -o json lists them all")


def results(folder: Path, figures: Sequence[Path], seconds: float, *, several: bool = False) -> None:
    """Where a run's results are, and how to look around next; not the latter after ``several`` runs."""
    console.print(f"\n[bold]Results[/bold] of {seconds:.1f} s in {folder}/")
    console.print("  rows.jsonl      every measured value, one a line")
    console.print("  context.json    what it ran on")
    for path in figures:
        console.print(f"  {path.name:<15} {path.with_suffix('.svg').name}")
    if several:
        return
    console.print("\nThe lab is gone. To look around in one that stays:")
    for command, meaning in (
        ("up", "three nodes, four pods each"),
        ("exec node1 -- ip route", "a node's routes; bridge link, ip netns, ..."),
        ("exec pod/node1-1 -- ping -c 3 10.244.2.2", "from a pod to a pod on node2"),
        ("shell --mininet", "Mininet's command line"),
        ("down", "gone without a trace"),
        ("up --fabric none", "the same without routes between nodes"),
    ):
        console.print(f"  {own_name()} {command:<42} {meaning}")


_VERDICT_STYLES = {"here": "green", "needs root": "yellow"}


def doctor(verdicts: Sequence[FeatureVerdict]) -> None:
    """What `doctor` says: the main job's needs first, then the rest, then what is only worth knowing."""
    parts = (
        ("Needed for the main job", [v for v in verdicts if v.required and v.kind != "information"]),
        ("Needed for more", [v for v in verdicts if not v.required and v.kind != "information"]),
        ("Worth knowing", [v for v in verdicts if v.kind == "information"]),
    )
    for title, rows in parts:
        listing = table(title, "verdict", "feature", "needed for")
        for row in rows:
            style = _VERDICT_STYLES.get(row.verdict, "" if row.kind == "information" else "red")
            verdict = row.detail if row.kind == "information" else row.verdict
            listing.add_row(Text(verdict, style=style), row.name, row.needed_for)
        console.print(listing)
        console.print()
    for row in parts[0][1]:
        if not row.here:
            console.print(f"{row.name}: {row.verdict}: {row.remedy}", style="bold red")
    later = [row for row in parts[1][1] if not row.here]
    for row in later:
        console.print(f"{row.name}: {row.verdict}: {row.remedy}", style="dim")
