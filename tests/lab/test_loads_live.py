"""Loads on live packets: what they count is what the kernel counted, they keep their bounds, and nothing stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import netbox

from mininetes.experiments import loads
from mininetes.experiments.loads import LoadFailed
from mininetes.experiments.results import Measurement
from mininetes.probes.vantage import Vantage

LABELS = {"path": "here"}


def values(measured: list[Measurement]) -> dict[str, float | None]:
    return {" ".join([one.metric, *one.labels.get("percentile", "").split()]): one.value for one in measured}


def counted(host: Vantage, way: str, what: str) -> int:
    """A statistic of a host's interface: way rx or tx, what packets or bytes."""
    (link,) = json.loads(netbox.inside(host, "ip", "-json", "-statistics", "link", "show", "dev", "eth0"))
    return int(link["stats64"][way][what])


def tcp_counter(host: Vantage, name: str) -> int:
    """A counter of a host's TCP (/proc/net/snmp)."""
    heads, numbers = (line.split()[1:] for line in netbox.inside(host, "cat", "/proc/net/snmp").splitlines()
                      if line.startswith("Tcp:"))  # fmt: skip
    return int(dict(zip(heads, numbers, strict=True))[name])


def programs() -> list[str]:
    """The programs of loads that run in this sandbox."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if any(Path(word).name in ("iperf3", "loads_pingpong.py") for word in words):
                found.append(" ".join(words))
    return found


def streams() -> dict[str, Any]:
    client, server = netbox.Lan(2).hosts
    before = counted(client, "tx", "bytes")
    tcp = values(asyncio.run(loads.tcp_stream(client, server, labels=LABELS, rate_mbit=40)))
    sent = counted(client, "tx", "bytes") - before
    packets = counted(server, "rx", "packets")
    udp = values(asyncio.run(loads.udp_stream(client, server, labels=LABELS, payload_bytes=1000, rate_mbit=8)))
    return {"tcp": tcp, "sent": sent, "udp": udp, "packets": counted(server, "rx", "packets") - packets,
            "left": programs()}  # fmt: skip


def test_streams_keep_their_rate_and_say_what_arrived() -> None:
    found = netbox.run(streams)
    arrived = found["tcp"]["tcp_gbps"] * 1e9 / 8  # in about a second
    assert 0.5 * 5e6 < arrived < 1.2 * 5e6, found
    assert arrived * 0.8 < found["sent"] < arrived * 1.5, found
    udp = found["udp"]
    assert 4 < udp["udp_sent_mbps"] < 9, found
    assert udp["udp_mbps"] <= udp["udp_sent_mbps"]
    of_payload = udp["udp_sent_mbps"] * 1e6 / 8 / 1000
    assert 0.7 * of_payload < found["packets"] + udp["udp_lost"] * of_payload < 1.5 * of_payload + 50, found
    assert found["left"] == []


def messages() -> dict[str, Any]:
    client, server = netbox.Lan(2).hosts
    before = counted(client, "tx", "packets"), tcp_counter(server, "PassiveOpens")
    rr = values(asyncio.run(loads.request_response(client, server, labels=LABELS, duration_s=30, most=500)))
    between = counted(client, "tx", "packets"), tcp_counter(server, "PassiveOpens")
    crr = values(asyncio.run(loads.connect_request_response(client, server, labels=LABELS, duration_s=30, most=300)))
    after = counted(client, "tx", "packets"), tcp_counter(server, "PassiveOpens")
    inside = values(asyncio.run(loads.request_response(client, client, labels=LABELS, at=loads.LOOPBACK)))
    return {
        "rr": rr, "rr_packets": between[0] - before[0], "rr_opens": between[1] - before[1],
        "crr": crr, "crr_opens": after[1] - between[1],
        "inside": inside, "inside_packets": counted(client, "tx", "packets") - after[0],
        "left": programs(),
    }  # fmt: skip


def test_messages_are_real_packets_and_as_many_as_asked_for() -> None:
    found = netbox.run(messages)
    assert 520 <= found["rr_packets"] < 2 * 520 + 50, found
    assert found["rr_opens"] == 1
    assert found["crr_opens"] == 300 + 20, found
    for kind in ("rr", "crr"):
        said = found[kind]
        assert 0 < said[f"{kind}_us p50"] <= said[f"{kind}_us p90"] <= said[f"{kind}_us p99"]
        assert said[f"{kind}_per_s"] > 1
    assert found["crr"]["crr_us p50"] > found["rr"]["rr_us p50"], found
    assert found["inside_packets"] < 10, found
    assert found["left"] == []


def longer_way() -> dict[str, float | None]:
    first, last = netbox.Chain(8).pods
    netbox.ip_batch("p1", ["link set lo up"])
    found = {}
    for name, server, at in (("way", last, None), ("loopback", first, loads.LOOPBACK)):
        measured = asyncio.run(loads.request_response(first, server, labels=LABELS, at=at))
        found[name] = values(measured)["rr_us p50"]
    return found


def test_a_longer_way_takes_longer() -> None:
    found = netbox.run(longer_way)
    assert found["way"] > 1.5 * found["loopback"], found


def refusals() -> dict[str, str]:
    client, server = netbox.Lan(2).hosts
    tries = {
        "nobody listens": loads.request_response(client, server, labels=LABELS, at=(server.address, 9)),
        "no stream": loads.tcp_stream(client, server, labels=LABELS, at=(server.address, 9)),
        "no way": loads.request_response(client, server, labels=LABELS, at=("192.0.2.1", 9)),
    }
    found = {}
    for name, load in tries.items():
        try:
            asyncio.run(load)
        except LoadFailed as failed:
            found[name] = str(failed)
    asyncio.run(_port_taken(client, server, found))
    netbox.cut(server)
    began = time.monotonic()
    try:
        asyncio.run(loads.connect_request_response(client, server, labels=LABELS))
    except LoadFailed as failed:
        found["cut"] = str(failed)
    found["seconds"] = str(time.monotonic() - began)
    found["left"] = str(programs())
    return found


async def _port_taken(client: Vantage, server: Vantage, found: dict[str, str]) -> None:
    first = asyncio.ensure_future(loads.request_response(client, server, labels=LABELS, duration_s=30))
    end = time.monotonic() + 10
    while f":{loads.MESSAGE_PORT:04X} " not in netbox.inside(server, "cat", "/proc/net/tcp"):
        assert time.monotonic() < end, "the server of the first load does not listen"
        await asyncio.sleep(0.01)
    try:
        await loads.request_response(client, server, labels=LABELS)
    except LoadFailed as failed:
        found["port taken"] = str(failed)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    found["left after cancelling"] = str(programs())


def test_a_load_that_cannot_be_says_why_and_leaves_nothing() -> None:
    found = netbox.run(refusals)
    assert "refused" in found["nobody listens"], found
    assert "h1" in found["nobody listens"], found
    assert "refused" in found["no stream"], found
    assert re.search("unreachable|no route", found["no way"], re.IGNORECASE), found
    assert "in use" in found["port taken"], found
    assert found["left after cancelling"] == "[]"
    assert re.search("timed out|no answer|unreachable|no route", found["cut"], re.IGNORECASE), found
    assert float(found["seconds"]) < 30
    assert found["left"] == "[]"
