"""Pods that are asked all the time, until somebody ends the lab: what tests kill in the middle of its work."""

from collections.abc import Mapping
from typing import Any

from mininetes.api import Lab, Measurement, Row

REPRODUCES = "nothing: it is made to be ended"

PARAMETERS = {"rounds": [100000], "pods_per_node": [8]}


def cluster(params: Mapping[str, Any]) -> dict[str, Any]:
    """Three nodes, with enough pods for a bring-up and a tear-down that take a while."""
    return {"pods": {"perNode": params["pods_per_node"]}}


async def run(lab: Lab, params: Mapping[str, Any]) -> list[Measurement]:
    """Measure reachability again and again."""
    for _ in range(params["rounds"]):
        matrix = await lab.reachability()
    return [Measurement("reached", float(cell.reached), "bool", {}) for cell in matrix.cells]


def plot(rows: list[Row]) -> dict[str, Any]:
    """No figures."""
    return {}
