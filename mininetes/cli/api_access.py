"""Reaching a running lab's API server from the host, as its administrator."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import yaml

from mininetes.errors import BadInput, MininetesError
from mininetes.lab import state

_T = TypeVar("_T")


def kubeconfig_of(lab: state.LabState) -> str:
    """The kubeconfig of a lab. Raises BadInput when it has no control plane, MininetesError while that is coming up."""
    try:
        text = lab.kubeconfig.read_text()
    except FileNotFoundError:
        right = "a lab with a control plane (this one has controlPlane: {store: none})"
        raise BadInput("--lab", lab.name, right) from None
    if not text:
        raise MininetesError(f"lab {lab.name} is not up yet")
    return text


def with_api(lab: state.LabState, work: Callable[[Any], Awaitable[_T]]) -> _T:
    """Run ``work`` with a client of the lab's API server and return what it returns. Raises MininetesError."""
    from mininetes.apiserver.client import Client  # noqa: PLC0415 - half a second that other commands need not wait

    facts: dict[str, Any] = yaml.safe_load(kubeconfig_of(lab))
    cluster, user = facts["clusters"][0]["cluster"], facts["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()

    async def main() -> _T:
        client = Client([cluster["server"]], token=user["token"], ca_pem=authority, user_agent="mininetes-cli")
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(main())
