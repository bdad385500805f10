"""Runs in a node: says when the kernel has of one service what it must have, and nothing else.

rule_watcher.py iptables-nft|iptables-legacy|nftables|userspace|ipvs    answers requests, one JSON object a line:

    {"service": "default/life", "ip": ..., "live": [...] or null, "udp_port": ..., "wanted": [facts], "within_s": ...,
     and for mode ipvs "node_ports": [...], "endpoints": [all addresses that it may have]}
        -> {"at": time of the first look that saw it, or null, "facts": what was seen last}
    {"send": [ip, port], "from": [ports]}        datagrams from these ports; -> how many were answered
    {"all": true}                                -> every rule, sorted, without counters

Facts are such as ``ip 10.96.0.5:80/tcp``, ``node port 30080/tcp``, ``reject ...``, ``to 10.244.1.2:8080/tcp``, and
``stale udp ...`` for a connection that conntrack still leads to where it must not go. Mode ipvs has ``carried ...`` too
for an address of kube-ipvs0, ``in SET MEMBER``, ``rule on SET`` and ``drained ...`` for a real server that gets nothing
new and has no connection any more, nor can have one.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from typing import Any

LOOK_S = 0.004
ANSWERED_WITHIN_S = 1.0
_COUNTERS = re.compile(r" \[\d+:\d+\]|counter packets \d+ bytes \d+| expires \w+| initval \w+|( +\d+){2} *$")
IPVS = (
    ("ipvsadm", "-Ln"),
    ("ipset", "save"),
    ("ip", "-4", "-o", "address", "show", "dev", "kube-ipvs0"),
    ("iptables-save",),
)


def said(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def state(mode: str) -> str:
    """All rules of a proxy in that mode."""
    if mode == "nftables":
        return said("nft", "list", "table", "ip", "kube-proxy")
    if mode == "ipvs":
        return "".join(said(*argv) for argv in IPVS)
    return said("iptables-legacy-save" if mode == "iptables-legacy" else "iptables-nft-save")


def of_iptables(text: str, service: str) -> set[str]:
    found = set()
    for line in text.splitlines():
        if not re.search(rf'--comment "?{re.escape(service)}[: "]', line):
            continue
        protocol = (re.search(r"-p (\w+)", line) or ["", ""])[1]
        port = (re.search(r"--dport (\d+)", line) or ["", ""])[1]
        address = (re.search(r"-d ([\d.]+)/32", line) or ["", ""])[1]
        target = (re.search(r"-j (\S+)", line) or ["", ""])[1]
        chain = line.split()[1]
        if target == "REJECT":
            found.add(f"reject {address}:{port}/{protocol}")
        elif chain.startswith("KUBE-SEP") and target == "DNAT":
            found.add(f"to {line.split('--to-destination ')[1].split()[0]}/{protocol}")
        elif chain in ("KUBE-NODEPORTS", "KUBE-NODEPORT-CONTAINER") and port:
            found.add(f"node port {port}/{protocol}")
        elif chain in ("KUBE-SERVICES", "KUBE-PORTALS-CONTAINER"):
            found.add(f"ip {address}:{port}/{protocol}")
    return found


def of_nftables(text: str, service: str) -> set[str]:
    found, name = set(), re.escape(service)
    for ip, protocol, port in re.findall(rf"([\d.]+) \. (\w+) \. (\d+) : goto service-\w+-{name}/", text):
        found.add(f"ip {ip}:{port}/{protocol}")
    ports = rf"(?<!\. )\b(tcp|udp) \. (\d+) : goto (?:external|service)-\w+-{name}/"
    found |= {f"node port {port}/{protocol}" for protocol, port in re.findall(ports, text)}
    for ip, protocol, port in re.findall(rf'([\d.]+) \. (\w+) \. (\d+) comment "{name}:\w+" : goto reject', text):
        found.add(f"reject {ip}:{port}/{protocol}")
    for protocol, address in re.findall(rf"chain endpoint-\w+-{name}/(\w+)/[^{{]*{{[^}}]*dnat to ([\d.:]+)", text):
        found.add(f"to {address}/{protocol}")
    return found


def of_ipvs(text: str, asked: dict[str, Any]) -> set[str]:
    """Of its cluster IP and node ports: virtual and real servers, the address, members of sets and rules on those."""
    ip, ports, ends = asked["ip"], {str(port) for port in asked["node_ports"]}, asked["endpoints"]
    found, protocol = set(), ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] in (["TCP"], ["UDP"]):
            address, _, port = words[1].rpartition(":")
            protocol = words[0].lower() if address == ip or port in ports else ""
            if protocol:
                found.add(f"ip {words[1]}/{protocol}" if address == ip else f"node port {port}/{protocol}")
        elif words[:1] == ["->"] and protocol and words[3].isdecimal():
            if words[3] != "0":
                found.add(f"to {words[1]}/{protocol}")
            elif protocol == "udp" or words[4:6] == ["0", "0"]:
                found.add(f"drained {words[1]}/{protocol}")
        elif words[:1] == ["add"] and (words[2].partition(",")[0] in (ip, *ends) or words[2] in ports):
            found.add(f"in {words[1]} {words[2]}")
        elif f" inet {ip}/32 " in line:
            found.add(f"carried {ip}")
        elif node_port_set := re.search(r"--match-set (KUBE-NODE-PORT-(?:LOCAL-)?(?:TCP|UDP)) ", line):
            found.add(f"rule on {node_port_set[1]}")
    return found


def stale_flows(asked: dict[str, Any]) -> set[str]:
    found = set()
    for line in said("conntrack", "-L", "-p", "udp", "--orig-dst", asked["ip"]).splitlines():
        sources, ports = re.findall(r"src=(\S+)", line), re.findall(r"dport=(\d+)", line)
        known = asked["live"] is None or sources[1] in asked["live"]
        if not known or int(ports[0]) != asked["udp_port"]:
            found.add(f"stale udp {asked['ip']}:{ports[0]} -> {sources[1]}")
    return found


def facts(mode: str, asked: dict[str, Any]) -> set[str]:
    if mode == "ipvs":
        return of_ipvs(state(mode), asked) | stale_flows(asked)
    read = of_nftables if mode == "nftables" else of_iptables
    return read(state(mode), asked["service"]) | stale_flows(asked)


def watch(mode: str, asked: dict[str, Any]) -> dict[str, Any]:
    wanted, end = set(asked["wanted"]), time.monotonic() + asked["within_s"]
    while True:
        at, seen = time.time(), facts(mode, asked)
        if seen == wanted or time.monotonic() > end:
            return {"at": at if seen == wanted else None, "facts": sorted(seen)}
        time.sleep(LOOK_S)


def send(address: list[Any], ports: list[int]) -> int:
    """Datagrams, each from its port; how many were answered."""
    answered = 0
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("0.0.0.0", port))
            sock.settimeout(ANSWERED_WITHIN_S)
            try:
                sock.sendto(b"who?\n", tuple(address))
                answered += bool(sock.recv(2048))
            except OSError:
                continue
    return answered


def main() -> None:
    mode = sys.argv[1]
    for line in sys.stdin:
        asked = json.loads(line)
        if "send" in asked:
            answer: Any = send(asked["send"], asked["from"])
        elif "all" in asked:
            answer = sorted(_COUNTERS.sub("", line) for line in state(mode).splitlines() if line[:1] != "#")
        else:
            answer = watch(mode, asked)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
