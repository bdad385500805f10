"""What a service that is to be written would change in the rules of a running lab's nodes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mininetes import parts
from mininetes.cli.rules import texts_of
from mininetes.errors import MininetesError
from mininetes.lab.state import LabState

if TYPE_CHECKING:
    from mininetes.apiserver.client import Client

MOST_LINES = 40
"""A longer difference is told by its length."""


@dataclass
class Rules:
    """The services of a cluster, with what decides how one of its nodes, ``node``, writes their rules."""

    node: str
    mode: str
    config: dict[str, Any]
    services: list[dict[str, Any]]
    slices: Sequence[dict[str, Any]]
    nodes: Sequence[dict[str, Any]]

    def _lines(self) -> list[str]:
        from mininetes.agents.kubeproxy.compiling import compiled  # noqa: PLC0415
        from mininetes.agents.kubeproxy.objects import Objects  # noqa: PLC0415

        objects = Objects(self.services, list(self.slices), list(self.nodes))
        texts = texts_of(compiled(objects, self.node, self.mode, self.config))
        return [line for text in texts.values() for line in text.splitlines()]

    def difference(self, service: dict[str, Any]) -> str:
        """What changes once this service is there, with the endpoints of now; it counts as there from then on."""

        def key(obj: dict[str, Any]) -> tuple[str, str]:
            return obj["metadata"]["namespace"], obj["metadata"]["name"]

        try:
            before = self._lines()
            self.services = [*(each for each in self.services if key(each) != key(service)), service]
            after = self._lines()
        except MininetesError as refused:
            return f"  no rules: {refused}\n"
        found = [line for line in difflib.unified_diff(before, after, n=0, lineterm="") if not _is_heading(line)]
        if not found:
            return "  its rules stay as they are\n"
        title = f"  rules of {self.node}, {Path(self.mode).stem}, with the endpoints of now"
        if len(found) > MOST_LINES:
            return f"{title}: {len(found)} lines change\n"
        return f"{title}:\n" + "".join(f"    {line[0]} {line[1:]}\n" for line in found)


def use_parts_of(lab: LabState) -> None:
    """Have modes be the lab's, which may have brought parts of its own; what ``--parts`` says here goes before them.

    Raises BadInput when the lab's own mode is no longer there.
    """
    facts = lab.facts()
    mode = facts.get("files", {}).get("proxy")
    parts.use_of_lab(lab.name, facts.get("parts", []), [mode] if mode else [])


def _is_heading(line: str) -> bool:
    return line.startswith(("---", "+++", "@@"))


async def rules_of(client: Client) -> Rules | None:
    """The rules of the cluster's first node; None where an outside program writes them. Raises ApiError."""
    from mininetes.agents.kubeproxy.configuration import DEFAULT_MODE  # noqa: PLC0415

    services = (await client.list("services"))["items"]
    slices = (await client.list("endpointslices.discovery.k8s.io"))["items"]
    nodes = sorted((await client.list("nodes"))["items"], key=lambda node: str(node["metadata"]["name"]))
    told = await client.get("configmaps", "kube-proxy", "kube-system")
    config = yaml.safe_load(told["data"]["config.conf"])
    mode = config.get("mode") or DEFAULT_MODE
    if not nodes:
        return None
    known = {key: value for key, value in config.items() if key not in ("mode", "kind", "apiVersion")}
    return Rules(nodes[0]["metadata"]["name"], mode, known, services, slices, nodes)
