"""Probe packets: built once by scapy, then patched per probe.

A template is the bytes that scapy made with the varying fields at zero, and the sum of all words
that the checksum covers. A probe is a copy with its own words in, and the checksum updated by just
these words (RFC 1624), so that scapy's cost is paid once. The IP checksum is left to the kernel,
which writes it on raw sockets in any case, as it does for a source address of 0.0.0.0.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path

from mininetes.errors import BadInput
from mininetes.kernel.processes import run
from mininetes.probes.packet_marks import COOKIE_LENGTH, MAGIC
from mininetes.probes.vantage import Protocol

UDP_LEAST_PAYLOAD = len(MAGIC) + COOKIE_LENGTH
MOST_PAYLOAD = 65535 - 20 - 8
"""An IP packet less its header and that of ICMP or UDP."""
DEFAULT_PAYLOAD = 56
"""What ping sends."""

_IP = 20
_DESTINATION = 16

_addresses = struct.Struct("!4s4s")
_two_words = struct.Struct("!HH")
_three_words = struct.Struct("!HHH")
_word = struct.Struct("!H")
_long = struct.Struct("!L")
_words_of_addresses = struct.Struct("!4H")
_words_of_udp = struct.Struct("!8H")

_built: dict[tuple[Protocol, int], bytes] = {}


def prepare(wanted: list[tuple[Protocol, int]] | None = None) -> None:
    """Have scapy build these (protocol, payload size) templates, unless it did so before.

    None means those that are used without options. Takes 0.4 s, in a process of its own; a probe
    that finds its template missing calls this. Raises ProcessFailed when scapy does not work.
    """
    usual: list[tuple[Protocol, int]] = [("icmp", DEFAULT_PAYLOAD), ("udp", DEFAULT_PAYLOAD), ("tcp", 0)]
    missing = [one for one in dict.fromkeys([*usual, *(wanted or [])]) if one not in _built]
    if not missing:
        return
    package_root = str(Path(__file__).parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    argv = [sys.executable, "-m", "mininetes.probes.scapy_templates", *(f"{kind}:{size}" for kind, size in missing)]
    said = run(argv, timeout_s=60.0, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    for one, line in zip(missing, said.stdout.split(), strict=True):
        _built[one] = bytes.fromhex(line)


def _scapys(protocol: Protocol, payload_bytes: int) -> bytearray:
    """Return scapy's bytes, to be patched."""
    prepare([(protocol, payload_bytes)])
    return bytearray(_built[protocol, payload_bytes])


def _sum(data: bytes) -> int:
    """Return the sum of the 16-bit words of ``data``, not folded."""
    even = data + b"\0" * (len(data) % 2)
    return sum(struct.unpack(f"!{len(even) // 2}H", even))


def _checksum(total: int) -> int:
    """Fold a sum of 16-bit words and complement it."""
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


class EchoTemplate:
    """ICMP echo requests. Their checksum does not cover the addresses; the source stays 0.0.0.0."""

    def __init__(self, payload_bytes: int = DEFAULT_PAYLOAD) -> None:
        check_payload(payload_bytes, 0)
        self._bytes = _scapys("icmp", payload_bytes)
        _word.pack_into(self._bytes, _IP + 2, 0)
        self._total = _sum(bytes(self._bytes[_IP:]))

    def probe(self, destination: bytes, identifier: int, sequence: int) -> bytes:
        """Return the request to the 4-byte address ``destination``."""
        packet = self._bytes
        packet[_DESTINATION:_IP] = destination
        check = _checksum(self._total + identifier + sequence)
        _three_words.pack_into(packet, _IP + 2, check, identifier, sequence)
        return bytes(packet)


class UdpTemplate:
    """UDP datagrams whose payload starts with MAGIC and a cookie."""

    def __init__(self, payload_bytes: int = DEFAULT_PAYLOAD) -> None:
        check_payload(payload_bytes, UDP_LEAST_PAYLOAD)
        self._bytes = _scapys("udp", payload_bytes)
        self._cookie = slice(_IP + 8 + len(MAGIC), _IP + 8 + UDP_LEAST_PAYLOAD)
        _word.pack_into(self._bytes, _IP + 6, 0)
        self._bytes[_IP + 8 : self._cookie.stop] = MAGIC + bytes(COOKIE_LENGTH)
        length = len(self._bytes) - _IP
        self._total = _sum(bytes(self._bytes[_IP:])) + socket.IPPROTO_UDP + length  # with the pseudo header's

    def probe(self, source: bytes, destination: bytes, ports: tuple[int, int], cookie: int) -> bytes:
        """Return the datagram between 4-byte addresses and (source, destination) ``ports``; 32-bit ``cookie``."""
        packet = self._bytes
        _addresses.pack_into(packet, _DESTINATION - 4, source, destination)
        _two_words.pack_into(packet, _IP, *ports)
        packet[self._cookie] = digits = b"%08x" % cookie
        total = self._total + sum(_words_of_udp.unpack(source + destination + digits)) + ports[0] + ports[1]
        _word.pack_into(packet, _IP + 6, _checksum(total) or 0xFFFF)
        return bytes(packet)


class SynTemplate:
    """TCP SYNs with the sequence number as cookie, and a window and options like a real client's."""

    def __init__(self) -> None:
        self._bytes = _scapys("tcp", 0)
        _word.pack_into(self._bytes, _IP + 16, 0)
        self._total = _sum(bytes(self._bytes[_IP:])) + socket.IPPROTO_TCP + len(self._bytes) - _IP

    def probe(self, source: bytes, destination: bytes, ports: tuple[int, int], cookie: int) -> bytes:
        """Return the SYN between 4-byte addresses and (source, destination) ``ports``; 32-bit ``cookie``."""
        packet = self._bytes
        _addresses.pack_into(packet, _DESTINATION - 4, source, destination)
        _two_words.pack_into(packet, _IP, *ports)
        _long.pack_into(packet, _IP + 4, cookie)
        total = self._total + sum(_words_of_addresses.unpack(source + destination)) + ports[0] + ports[1]
        _word.pack_into(packet, _IP + 16, _checksum(total + (cookie >> 16) + (cookie & 0xFFFF)))
        return bytes(packet)


def check_payload(length: int, least: int = 0) -> None:
    """Raise BadInput when a packet cannot carry that many bytes."""
    if not least <= length <= MOST_PAYLOAD:
        raise BadInput("payload_bytes", length, f"{least} to {MOST_PAYLOAD} bytes")
