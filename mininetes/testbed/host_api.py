"""What a lab gets of its host for kubectl: a port of the host's loopback, and the file for the kubeconfig."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class HostApi:
    """The launcher's descriptors. The socket listens in the host's namespace, wherever it is served from."""

    listener: socket.socket
    kubeconfig_fd: int

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
