"""Builds probe templates with scapy, in a process of its own: ``python -m mininetes.probes.scapy_templates icmp:56``.

Apart, because scapy takes 0.3 s and 33 MB, asks netlink for links and routes when it is imported, and
keeps caches in the user's home unless told otherwise; none of that belongs into the engine. For each
argument ``PROTOCOL:PAYLOAD_BYTES`` it prints one line of hexadecimal. Fields that vary are zero.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from typing import Any

UNSET = "0.0.0.0"  # noqa: S104 - a field to be filled in, not an address to listen on
NO_FOLDER = "/dev/null/none"
TCP_OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7), ("NOP", None), ("NOP", None)]
"""Those of a usual client."""


def payload(length: int) -> bytes:
    """Return ``length`` bytes of the pattern that ping uses."""
    return bytes(i & 0xFF for i in range(length))


def build(protocol: str, payload_bytes: int) -> bytes:
    """Return the IP packet. Raises KeyError for a protocol that is none of icmp, udp, tcp."""
    inet: Any = importlib.import_module("scapy.layers.inet")
    transport = {
        "icmp": lambda: inet.ICMP(id=0, seq=0),
        "udp": lambda: inet.UDP(sport=0, dport=0),
        "tcp": lambda: inet.TCP(sport=0, dport=0, seq=0, flags="S", window=64240, options=TCP_OPTIONS),
    }[protocol]()
    return bytes(inet.IP(src=UNSET, dst=UNSET, id=0, flags="DF") / transport / payload(payload_bytes))


def main(arguments: list[str]) -> None:
    """Print a line for each argument."""
    os.environ.update(XDG_CACHE_HOME=NO_FOLDER, XDG_CONFIG_HOME=NO_FOLDER)
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for argument in arguments:
        protocol, _, length = argument.partition(":")
        print(build(protocol, int(length)).hex())


if __name__ == "__main__":
    main(sys.argv[1:])
