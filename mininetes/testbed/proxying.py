"""What a description says of kube-proxy: its mode and its configuration, or the program in its place."""

from __future__ import annotations

import shutil

from mininetes.agents.kubeproxy.configuration import DEFAULT_MODE, MODES, KubeProxyConfig, Mode, kube_proxy_config
from mininetes.errors import BadInput
from mininetes.spec import ClusterSpec


def proxy_config(spec: ClusterSpec) -> KubeProxyConfig:
    """kube-proxy's configuration, as the cluster file has it, laid over what the cluster gives it. Raises BadInput."""
    return kube_proxy_config({"clusterCIDR": str(spec.network.pods), **spec.proxy.config})


def proxy_mode(spec: ClusterSpec) -> Mode:
    """kube-proxy's mode: the description's, else its configuration's, else iptables. Raises BadInput."""
    wanted = spec.proxy.mode or spec.proxy.config.get("mode") or DEFAULT_MODE
    for mode in MODES:
        if mode == wanted:
            return mode
    raise BadInput("spec.proxy.mode", wanted, "one of " + ", ".join(MODES))


def check_program(spec: ClusterSpec) -> None:
    """See that the program of ``proxy: {exec: [...]}`` is there. Raises BadInput."""
    if shutil.which(spec.proxy.exec[0]) is None:
        raise BadInput("spec.proxy.exec", spec.proxy.exec[0], "a program that can be executed")
