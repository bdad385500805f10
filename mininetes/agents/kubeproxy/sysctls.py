"""The sysctls that kube-proxy sets in its node: part of the desired state, like the rules."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from mininetes.agents.kubeproxy.configuration import KubeProxyConfig, Mode
from mininetes.agents.kubeproxy.view import NodeView
from mininetes.errors import MininetesError
from mininetes.kernel.netns import in_netns

OPTIONAL = frozenset(
    {
        "netfilter/nf_conntrack_max",
        "netfilter/nf_conntrack_tcp_be_liberal",
        "netfilter/nf_conntrack_tcp_timeout_established",
        "netfilter/nf_conntrack_tcp_timeout_close_wait",
        "netfilter/nf_conntrack_udp_timeout",
        "netfilter/nf_conntrack_udp_timeout_stream",
    }
)
"""What kube-proxy does without where it cannot be set, as in containers; it says so in its log."""


def wanted_sysctls(config: KubeProxyConfig, mode: Mode, view: NodeView) -> dict[str, str]:
    """The sysctls (paths below /proc/sys/net) of a mode, with their values.

    ``nf_conntrack_max`` is not among them: it is one for all namespaces, and the host's to set.
    """
    conntrack = config.conntrack
    wanted = {"bridge/bridge-nf-call-iptables": "1"}
    if mode == "iptables" and view.localhost_node_ports:
        wanted["ipv4/conf/all/route_localnet"] = "1"
    if mode == "userspace":
        # what the node sends to a service leaves it for another of its own addresses
        wanted["ipv4/conf/all/route_localnet"] = "1"
    if mode == "ipvs":
        wanted |= {
            "ipv4/ip_forward": "1",
            "ipv4/vs/conntrack": "1",
            "ipv4/vs/expire_nodest_conn": "1",
            "ipv4/vs/expire_quiescent_template": "1",
        }
        if config.ipvs.strict_arp:
            wanted |= {"ipv4/conf/all/arp_ignore": "1", "ipv4/conf/all/arp_announce": "2"}
    timeouts = {
        "tcp_timeout_established": conntrack.tcp_established_timeout,
        "tcp_timeout_close_wait": conntrack.tcp_close_wait_timeout,
        "udp_timeout": conntrack.udp_timeout,
        "udp_timeout_stream": conntrack.udp_stream_timeout,
    }
    wanted |= {f"netfilter/nf_conntrack_{name}": f"{value:.0f}" for name, value in timeouts.items() if value}
    if conntrack.tcp_be_liberal:
        wanted["netfilter/nf_conntrack_tcp_be_liberal"] = "1"
    return wanted


def set_sysctls(netns: str, wanted: Mapping[str, str]) -> list[str]:
    """Set those in the namespace that have another value; returns which optional ones could not be set, and why.

    Raises MininetesError that names a needed one which could not be set.
    """
    failed = []
    with in_netns(netns):
        for key, value in sorted(wanted.items()):
            path = f"/proc/sys/net/{key}"
            try:
                if _value(path) != value:
                    with open(path, "w") as file:
                        file.write(value)
            except OSError as refused:
                if key not in OPTIONAL:
                    raise MininetesError(f"{netns}: sysctl net/{key}={value}: {refused.strerror}") from None
                failed.append(f"net/{key}={value}: {refused.strerror}")
    return failed


def _value(path: str) -> str | None:
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        return " ".join(file.read().split())
    return None
