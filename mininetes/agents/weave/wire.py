"""What goes over a connection between two peers: frames of JSON, and the greeting that begins it."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import orjson

from mininetes.agents.weave.knowledge import Malformed
from mininetes.agents.weave.peer import PeerAddress

PORT = 6783
PROTOCOL = "mininetes-weave"
VERSION = 1
LONGEST = 1 << 24
"""Bytes of a frame: a record of 100,000 addresses would fit."""

_LENGTH = struct.Struct("!I")


def frame(content: Any) -> bytes:
    """One message as it is sent: its length in four bytes, and JSON."""
    text = orjson.dumps(content)
    return _LENGTH.pack(len(text)) + text


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message. Raises Malformed, asyncio.IncompleteReadError at the end, or OSError."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > LONGEST:
        raise Malformed(f"a frame of {length} bytes: at most {LONGEST} are read")
    try:
        content = orjson.loads(await reader.readexactly(length))
    except ValueError as wrong:
        raise Malformed(f"a frame that is not JSON: {wrong}") from None
    if not isinstance(content, dict):
        raise Malformed("a frame that is no JSON object")
    return content


@dataclass(frozen=True)
class Hello:
    """Who speaks. Only peers of one network and one protocol version talk to each other."""

    peer: PeerAddress
    network: str
    incarnation: int

    def to_json(self) -> dict[str, Any]:
        """As the first frame has it."""
        return {
            "protocol": PROTOCOL,
            "version": VERSION,
            "name": self.peer.name,
            "nickname": self.peer.nickname,
            "address": self.peer.address,
            "network": self.network,
            "incarnation": self.incarnation,
        }

    def accept(self, content: dict[str, Any]) -> Hello:
        """Read the other side's. Raises Malformed that says why the two cannot talk."""
        if content.get("protocol") != PROTOCOL or content.get("version") != VERSION:
            spoken = f"{content.get('protocol')} {content.get('version')}"
            raise Malformed(f"the other side speaks {spoken}, not {PROTOCOL} {VERSION}")
        if content.get("network") != self.network:
            raise Malformed(f"the other side's network is {content.get('network')}, not {self.network}")
        try:
            address = str(IPv4Address(content["address"]))
            peer = PeerAddress(str(content["name"]), str(content["nickname"]), address)
            other = Hello(peer, self.network, int(content["incarnation"]))
        except (KeyError, ValueError, TypeError) as wrong:
            raise Malformed(f"greeting: {type(wrong).__name__}: {wrong}") from None
        if other.peer.name == self.peer.name:
            raise Malformed(f"the other side has this peer's own name, {self.peer.name}")
        return other
