"""What a proxy of another mode, or of the other iptables back end, left in a node: found and taken away.

So is all that any kube-proxy left, where another program is to work in its place.
"""

from __future__ import annotations

import shutil

from mininetes.agents.kubeproxy import iptables_applier, ipvs_applier, nftables_applier
from mininetes.agents.kubeproxy.configuration import Mode
from mininetes.agents.kubeproxy.restoring import Backend, NodeTools
from mininetes.agents.kubeproxy.rulesets import NFT_TABLE

_BACKENDS: tuple[Backend, ...] = ("nft", "legacy")


def remove_leftovers(tools: NodeTools, mode: Mode) -> list[str]:
    """Take away what does not belong to ``mode`` and the back end of ``tools``; returns what that was. Blocking.

    The mode's own back end of iptables is left to the mode, which replaces what is there in one step.
    Raises RestoreFailed or ProcessFailed.
    """
    removed = []
    own = None if mode == "nftables" else "nft" if tools.is_nft else "legacy"
    if mode != "nftables" and nftables_applier.NftablesApplier(tools).intact():
        tools.run("nft", "delete", "table", *NFT_TABLE.split())
        removed.append("nftables")
    for backend in _BACKENDS:
        there = shutil.which(tools.iptables("save", backend)) is not None
        if backend != own and there and iptables_applier.remove_all(tools, backend):
            removed.append(f"iptables-{backend}")
    return removed


def remove_everything(tools: NodeTools) -> list[str]:
    """Take away what kube-proxies of any mode left, by its names; returns what that was. Blocking.

    Translated UDP flows are forgotten with it. Raises RestoreFailed or ProcessFailed.
    """
    removed = []
    if tools.run("nft", "delete", "table", *NFT_TABLE.split(), check=False).status == 0:
        removed.append("nftables")
    for backend in _BACKENDS:
        there = shutil.which(tools.iptables("save", backend)) is not None
        if there and iptables_applier.remove_all(tools, backend):
            removed.append(f"iptables-{backend}")
    if ipvs_applier.remove_all(tools):
        removed.append("ipvs")
    tools.run("conntrack", "-D", "-p", "udp", "--dst-nat", check=False)  # status 1 when there was none
    return removed


def remove_ipvs(tools: NodeTools, mode: Mode) -> list[str]:
    """Take away ipvs' servers and sets, once no rule refers to them any more. Blocking. Raises ProcessFailed."""
    return ["ipvs"] if mode != "ipvs" and ipvs_applier.remove_all(tools) else []
