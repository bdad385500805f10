"""Pods for tests of a kubelet, and what is asked of them: see `kubelet_lab`."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
from kubelet_lab import KubeletLab, container

from mininetes.kernel.netns import socket_in

FOREVER = "while :; do sleep 0.1; done"


def shell(script: str, **fields: Any) -> dict[str, Any]:
    """A container that runs a shell script."""
    return {"name": "main", "image": "busybox", "command": ["sh", "-c", script], **fields}


def responder(**fields: Any) -> dict[str, Any]:
    """A container without a command, at port 80."""
    return {"name": "main", "image": "nginx", "ports": [{"name": "http", "containerPort": 80}], **fields}


def restarts(pod: Mapping[str, Any], name: str = "main") -> int:
    """How often one of a pod's containers was started again."""
    return int(container(pod, name).get("restartCount", 0))


async def started(lab: KubeletLab) -> None:
    lab.install_network()
    await lab.start_kubelet()


async def execute(
    lab: KubeletLab, pod: str, *command: str, stdin: bytes | None = None, tty: bool = False, version: str = "v5"
) -> tuple[str, int]:
    """`kubectl exec`, by way of the API server: what the command said, and its status."""
    async with stream(lab, pod, "exec", command, stdin=stdin is not None, tty=tty, version=version) as socket:
        return await _conversation(socket, stdin, tty, version)


async def attach(
    lab: KubeletLab,
    pod: str,
    *,
    stdin: bytes | None = None,
    tty: bool = False,
    version: str = "v5",
    leave_at: str = "",
    hears: bool = True,
) -> tuple[str, int]:
    """`kubectl attach`, in the same way: to the container's end, or until it has said ``leave_at``.

    Without ``hears`` the client wants no output.
    """
    async with stream(lab, pod, "attach", stdin=stdin is not None, tty=tty, version=version, hears=hears) as socket:
        return await _conversation(socket, stdin, tty, version, leave_at)


@contextlib.asynccontextmanager
async def stream(
    lab: KubeletLab,
    pod: str,
    action: str,
    command: Sequence[str] = (),
    *,
    stdin: bool = False,
    tty: bool = False,
    version: str = "v5",
    hears: bool = True,
) -> AsyncIterator[Any]:
    """The client's end of exec or attach."""
    query = [("command", word) for word in command] + [("container", "main")]
    query += [("stdout", "true")] if hears else []
    query += [("stdin", "true")] if stdin else []
    query += [("tty", "true")] if tty else [("stderr", "true")] if hears else []
    url = f"wss://{lab.place.address}:6443/api/v1/namespaces/default/pods/{pod}/{action}"
    connector = aiohttp.TCPConnector(
        ssl=ssl.create_default_context(cadata=lab.pki.ca_pem),
        socket_factory=lambda address: socket_in(lab.place.netns, address[0], address[1]),
    )
    headers = {"Authorization": f"Bearer {lab.client._token}"}
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.ws_connect(url, params=query, protocols=[f"{version}.channel.k8s.io"]) as socket,
    ):
        assert socket.protocol == f"{version}.channel.k8s.io"
        yield socket


async def _conversation(
    socket: aiohttp.ClientWebSocketResponse, stdin: bytes | None, tty: bool, version: str, leave_at: str = ""
) -> tuple[str, int]:
    said, status = b"", -1
    if tty:
        await socket.send_bytes(b"\x04" + b'{"Width": 91, "Height": 33}')
    if stdin is not None:
        await socket.send_bytes(b"\x00" + stdin)
        if version == "v5":
            await socket.send_bytes(b"\xff\x00")
    async for message in socket:
        channel, data = message.data[0], message.data[1:]
        if channel in (1, 2):
            said += data
            if leave_at and said.endswith(leave_at.encode()):
                break
        elif channel == 3 and data:
            status = _status_of(data)
    return said.decode(), status


def _status_of(data: bytes) -> int:
    said = json.loads(data)
    if said["status"] == "Success":
        return 0
    for cause in said["details"]["causes"]:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    return 1000
