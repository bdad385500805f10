"""What the engine asks of PID 1 of its lab."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any

from mininetes.errors import MininetesError
from mininetes.lab.init import MESSAGE_BYTES


class InitSocket:
    """The engine's end of the socket to PID 1: makes node holders, and hears that the lab shall end."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.end_asked = False
        self._answer: asyncio.Future[dict[str, Any]] | None = None

    def fileno(self) -> int:
        """Readable when PID 1 has something to say."""
        return self._channel.fileno()

    def hold_nodes(self, names: Sequence[str]) -> list[int]:
        """Make the holders of these nodes' namespaces and return their pids. Raises MininetesError.

        Blocks for about 5 ms a node.
        """
        pids: list[int] = []
        for start in range(0, len(names), 64):
            part = list(names[start : start + 64])
            self._channel.send(json.dumps({"hold": part}).encode())
            while True:
                answer = json.loads(self._channel.recv(MESSAGE_BYTES))
                if answer.get("op") == "end":
                    self.end_asked = True
                    continue
                if "error" in answer:
                    raise MininetesError(answer["error"])
                pids += answer["pids"]
                break
        return pids

    async def hold_node(self, name: str) -> int:
        """Make one more node's holder and return its pid: for when somebody calls `hear` as the socket is readable.

        One at a time. Raises MininetesError.
        """
        self._answer = asyncio.get_running_loop().create_future()
        self._channel.send(json.dumps({"hold": [name]}).encode())
        answer = await self._answer
        if "error" in answer:
            raise MininetesError(answer["error"])
        return int(answer["pids"][0])

    def hear(self) -> None:
        """Read what PID 1 says when the socket is readable; sets `end_asked`."""
        message = self._channel.recv(MESSAGE_BYTES)
        said = json.loads(message) if message else {"op": "end"}
        self.end_asked = self.end_asked or said.get("op") == "end"
        if self._answer is not None and not self._answer.done():
            if self.end_asked:
                self._answer.set_result({"error": "the lab ends"})
            elif "op" not in said:
                self._answer.set_result(said)
