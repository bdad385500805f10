"""What a real flanneld 0.21 left in the kernels of three nodes (tests/golden/flannel-0.21), to compare with.

Of a fabric everything must be the same but for two things that flannel picks itself: the nodes' pod
subnets, and the MACs of its devices. `as_ours` puts ours in their places.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "flannel-0.21"
CASES = {
    "vxlan": {"name": "vxlan"},
    "host-gw": {"name": "host-gw"},
    "vxlan-directrouting-ipmasq": {"name": "vxlan", "parameters": {"directRouting": True, "ipMasq": True}},
}
"""By folder: the fabric with which a cluster has the same."""

NODES = ("node1", "node2", "node3")
_ADDRESSES = {f"192.168.1.{10 + number}": number for number in (1, 2, 3)}


def as_ours(case: str, text: str) -> str:
    """A text of flanneld's with the subnets and MACs that our nodes have."""
    keys: list[str] = []
    lines = (GOLDEN / case / "etcd.txt").read_text().splitlines()
    for key, value in zip(lines[::2], lines[1::2], strict=True):
        if "/subnets/" not in key:
            continue
        lease = json.loads(value)
        number = _ADDRESSES[lease["PublicIP"]]
        subnet = key.rpartition("/")[2].partition("-")[0].removesuffix(".0")
        keys.append(subnet)
        text = re.sub(rf"\b{re.escape(subnet)}\.(\d+)", rf"10.244.ours-{number}.\1", text)
        mac = lease.get("BackendData", {}).get("VtepMAC")
        if mac:
            text = text.replace(mac, f"02:00:0a:f4:{number:02x}:00")
    assert len(keys) == 3
    return text.replace("ours-", "")


def sections(text: str) -> dict[str, list[str]]:
    """A state.txt by its headings, each with its lines sorted, without spaces at their ends."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            found[line[2:]] = current = []
        else:
            current.append(line.rstrip())
    return {heading: sorted(lines) for heading, lines in found.items()}


def left_by_flanneld(case: str, node: str) -> tuple[dict[str, list[str]], str]:
    """The state that flanneld left on a node, by headings, and its subnet.env; with our subnets and MACs."""
    state = as_ours(case, (GOLDEN / case / node / "state.txt").read_text())
    return sections(state), as_ours(case, (GOLDEN / case / node / "subnet.env").read_text())
