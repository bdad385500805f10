"""What a lab gets of its host for kubectl: a port of the host's loopback, and the file for the kubeconfig."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing ends the connection with a reset."""


@dataclass
class HostApi:
    """The launcher's descriptors. The socket listens in the host's namespace, wherever it is served from.

    It cannot be opened anew from inside, so it stays open while no API server runs: what comes in then is reset.
    """

    listener: socket.socket
    kubeconfig_fd: int
    _servers: int = 0

    def lend(self) -> socket.socket:
        """A copy of the socket for an API server that starts; `give_back` once that has stopped."""
        if not self._servers:
            asyncio.get_running_loop().remove_reader(self.listener)
        self._servers += 1
        return self.listener.dup()

    def give_back(self) -> None:
        """An API server has stopped. While none is left, connections are refused."""
        self._servers -= 1
        if not self._servers:
            asyncio.get_running_loop().add_reader(self.listener, self._refuse)

    def _refuse(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self.listener.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()

    @classmethod
    def of(cls, fds: Mapping[str, int]) -> HostApi | None:
        """What the launcher gave; None when it gave nothing."""
        if "api" not in fds:
            return None
        listener = socket.socket(fileno=fds["api"])
        listener.setblocking(False)
        return cls(listener, fds["kubeconfig"])

    @property
    def server(self) -> str:
        """The URL of the API server, as the host has it."""
        address, port = self.listener.getsockname()[:2]
        return f"https://{address}:{port}"

    def publish(self, kubeconfig: str) -> None:
        """Write the kubeconfig, in place of an earlier one."""
        os.ftruncate(self.kubeconfig_fd, 0)
        os.pwrite(self.kubeconfig_fd, kubeconfig.encode(), 0)
