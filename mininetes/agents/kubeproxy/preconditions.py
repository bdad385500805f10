"""What the modes need of kernel and system, and the refusal by name where it is not there."""

from __future__ import annotations

from mininetes.agents.kubeproxy.restoring import NodeTools
from mininetes.errors import MissingFeature


def check_kernel(tools: NodeTools, mode: str) -> None:
    """Raise MissingFeature when mode ipvs cannot work in the node. Blocking; changes nothing."""
    if mode != "ipvs":
        return
    remedy = "use a kernel that has it (Debian: linux-image-amd64), as real root, or another mode"
    try:
        done = tools.run("ipvsadm", "--save", "--numeric", check=False)
    except FileNotFoundError:
        raise MissingFeature("ipvsadm", "proxy mode ipvs", "install the package ipvsadm") from None
    if done.status == 127:
        raise MissingFeature("ipvsadm", "proxy mode ipvs", "install the package ipvsadm")
    if done.status != 0:
        raise MissingFeature("ip_vs", "proxy mode ipvs", remedy)


def needed_features(mode: str, backend: str | None) -> list[str]:
    """What a mode needs (names in kernel/feature_table.py), to be checked before anything starts."""
    if mode == "nftables":
        return ["nftables", "br_netfilter", "conntrack netlink"]
    iptables = "iptables nat, legacy back end" if backend == "legacy" else "iptables nat, nft back end"
    needed = [iptables, "iptables matches of kube-proxy", "br_netfilter", "conntrack netlink"]
    return [*needed, "ip_vs", "ipset", "dummy", "ipvsadm"] if mode == "ipvs" else needed
