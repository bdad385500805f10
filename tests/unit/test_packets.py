"""Patched probes are, byte for byte, what scapy makes of the same values; and building them leaves no trace."""

from __future__ import annotations

import importlib
import os
import random
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from mininetes.errors import BadInput
from mininetes.probes import packets, scapy_templates
from mininetes.probes.packets import EchoTemplate, SynTemplate, UdpTemplate

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scapy() -> Any:
    """scapy's layers, without what their import says and keeps."""
    folders = {"XDG_CACHE_HOME": scapy_templates.NO_FOLDER, "XDG_CONFIG_HOME": scapy_templates.NO_FOLDER}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, folder in folders.items():
            patch.setenv(name, folder)
        return importlib.import_module("scapy.layers.inet")


def values(count: int = 200) -> list[tuple[bytes, bytes, int, int, int]]:
    """Addresses, two ports and a cookie: the corners, and many at random (with a seed)."""
    chance = random.Random(7)
    corners = [(bytes(4), b"\xff" * 4, 0, 0, 0), (b"\xff" * 4, b"\xff" * 4, 65535, 65535, 0xFFFFFFFF)]
    return corners + [
        (chance.randbytes(4), chance.randbytes(4), chance.randrange(65536), chance.randrange(65536),
         chance.randrange(1 << 32))
        for _ in range(count)
    ]  # fmt: skip


def recomputed(scapy: Any, packet: bytes) -> bytes:
    """The packet with the checksums that scapy computes from nothing."""
    parsed = scapy.IP(packet)
    parsed.chksum = None
    parsed.payload.chksum = None
    return bytes(parsed)


def without_ip_checksum(packet: bytes) -> bytes:
    return packet[:10] + b"\0\0" + packet[12:]  # the kernel writes it


@pytest.mark.parametrize("size", [0, 1, 55, 56, 1400])
def test_echo_requests_are_what_scapy_makes(scapy: Any, size: int) -> None:
    template = EchoTemplate(size)
    for _, target, identifier, sequence, _ in values():
        packet = template.probe(target, identifier, sequence)
        assert without_ip_checksum(packet) == without_ip_checksum(recomputed(scapy, packet))
        parsed = scapy.IP(packet)
        assert (parsed.dst, parsed[scapy.ICMP].id, parsed[scapy.ICMP].seq) == (
            socket.inet_ntoa(target), identifier, sequence,
        )  # fmt: skip
        assert len(packet) == 20 + 8 + size
        assert parsed[scapy.ICMP].type == 8


@pytest.mark.parametrize("size", [12, 13, 56, 1400])
def test_datagrams_are_what_scapy_makes(scapy: Any, size: int) -> None:
    template = UdpTemplate(size)
    for source, target, sport, dport, cookie in values():
        packet = template.probe(source, target, (sport, dport), cookie)
        assert without_ip_checksum(packet) == without_ip_checksum(recomputed(scapy, packet))
        parsed = scapy.IP(packet)
        assert (parsed.src, parsed.dst) == (socket.inet_ntoa(source), socket.inet_ntoa(target))
        assert (parsed[scapy.UDP].sport, parsed[scapy.UDP].dport) == (sport, dport)
        assert packet[28:40] == b"mn8s%08x" % cookie
        assert packet[26:28] != b"\0\0", "zero would mean that there is no checksum (RFC 768)"
        assert len(packet) == 20 + 8 + size


def test_syns_are_what_scapy_makes(scapy: Any) -> None:
    template = SynTemplate()
    for source, target, sport, dport, cookie in values():
        packet = template.probe(source, target, (sport, dport), cookie)
        assert without_ip_checksum(packet) == without_ip_checksum(recomputed(scapy, packet))
        tcp = scapy.IP(packet)[scapy.TCP]
        assert (tcp.sport, tcp.dport, tcp.seq, str(tcp.flags)) == (sport, dport, cookie, "S")
        assert dict(tcp.options)["MSS"] == 1460


def test_a_udp_checksum_of_zero_is_sent_as_all_ones() -> None:
    template, ends, ports = UdpTemplate(12), (bytes(4), bytes(4)), (0, 0)
    # a port's change by one is the checksum's change by one: one of all ports gives zero
    checksums = {template.probe(*ends, (port, 0), 0)[26:28] for port in range(65536)}
    assert b"\0\0" not in checksums
    assert b"\xff\xff" in checksums
    assert len(template.probe(*ends, ports, 0)) == 40


def test_a_probe_is_not_changed_by_the_next_one() -> None:
    template = EchoTemplate()
    first = template.probe(b"\x0a\0\0\x01", 1, 1)
    kept = bytes(first)
    template.probe(b"\x0a\0\0\x02", 2, 2)
    assert first == kept


@pytest.mark.parametrize(
    ("make", "right"),
    [(lambda: EchoTemplate(-1), "0 to"), (lambda: EchoTemplate(70000), "0 to"), (lambda: UdpTemplate(11), "12 to")],
)
def test_a_wrong_payload_size_is_refused(make: Any, right: str) -> None:
    with pytest.raises(BadInput, match=right):
        make()


def test_building_is_quiet_and_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    argv = [sys.executable, "-m", "mininetes.probes.scapy_templates", "icmp:56"]
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=True, timeout=60)
    assert done.stderr == ""
    assert len(done.stdout.split()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_engine_does_not_import_scapy() -> None:
    code = "import sys, mininetes.probes.sender as s; from mininetes.probes import packets; packets.prepare()\n"
    code += "print([name for name in sys.modules if name.startswith('scapy')])"
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_templates_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packets.prepare([("icmp", 56)])

    def must_not_run(*_: Any, **__: Any) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(packets, "run", must_not_run)
    packets.prepare([("icmp", 56), ("tcp", 0)])
    EchoTemplate(56)
