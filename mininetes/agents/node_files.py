"""The files by which a node shows how its Kubernetes is set up: manifests, units, configurations, kubeconfigs.

Texts are pure functions of a frozen description; `write` puts them where the node has them. They
name only flags and fields whose meaning is carried out here, with the values in force.

    /etc/kubernetes/manifests/*.yaml           the control plane's static pods (control-plane nodes)
    /etc/kubernetes/*.conf, pki/ca.crt         kubeconfigs, and the lab's certificate authority
    /etc/systemd/system/kubelet.service[.d]    the kubelet's unit
    /var/lib/kubelet/                          its configuration
    /var/lib/kube-proxy/config.conf            kube-proxy's configuration
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import yaml

from mininetes.agents.cni.runtime import BIN_DIR, CONF_DIR
from mininetes.agents.kubeproxy.configuration import kube_proxy_config
from mininetes.errors import MininetesError
from mininetes.lab.filesystem import PRIVATE_DIRECTORIES, PRIVATE_FILES, node_path

MANIFESTS = "/etc/kubernetes/manifests"
CA_FILE = "/etc/kubernetes/pki/ca.crt"
KUBELET_UNIT = "/etc/systemd/system/kubelet.service"
KUBELET_DROP_IN = f"{KUBELET_UNIT}.d/10-kubeadm.conf"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
KUBELET_FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
PROXY_CONFIG = "/var/lib/kube-proxy/config.conf"
PROXY_KUBECONFIG = "/var/lib/kube-proxy/kubeconfig.conf"
KUBECONFIGS = {
    "admin": "/etc/kubernetes/admin.conf",
    "kubelet": "/etc/kubernetes/kubelet.conf",
    "kube-controller-manager": "/etc/kubernetes/controller-manager.conf",
    "kube-scheduler": "/etc/kubernetes/scheduler.conf",
    "kube-proxy": PROXY_KUBECONFIG,
}
"""Where each user's kubeconfig lies in a node."""

_SECRET = 0o600
_PLAIN = 0o644


@dataclass(frozen=True)
class ClusterFacts:
    """What the files of all nodes have in common: the values in force.

    ``levels`` are ``-v`` by component, ``level`` that of the others. ``proxy`` are fields of
    KubeProxyConfiguration, laid over those made here; ``flags`` more flags by component (name without dashes).
    """

    pods: IPv4Network
    node_prefix: int
    services: IPv4Network
    node_ports: range
    dns: IPv4Address
    domain: str = "cluster.local"
    proxy_mode: str = "iptables"
    log_directory: str = "/var/log"
    level: int = 2
    levels: Mapping[str, int] = field(default_factory=dict)
    proxy: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def log_file(self, component: str) -> str:
        """Where a component's log is, in each node."""
        return f"{self.log_directory}/{component}.log"


@dataclass(frozen=True)
class NodeFacts:
    """What a node's files have for it alone.

    ``kubeconfigs`` are texts by user (`KUBECONFIGS`); ``kubelet`` fields of KubeletConfiguration that
    are laid over those made here. With etcd, ``etcd`` is the argv of the member on
    this node and ``etcd_servers`` are the URLs that its API server asks in turn.
    """

    name: str
    address: IPv4Address
    control_plane: bool
    kubeconfigs: Mapping[str, str]
    ca_pem: str
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    etcd: tuple[str, ...] = ()
    etcd_servers: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeFile:
    """A file's text and permissions."""

    text: str
    mode: int = _PLAIN


def node_files(cluster: ClusterFacts, node: NodeFacts) -> dict[str, NodeFile]:
    """All files of a node, by path. Pure."""
    files = {
        f"{MANIFESTS}/{pod['metadata']['name']}.yaml": NodeFile(_yaml(pod), _SECRET)
        for pod in static_pods(cluster, node)
    }
    files[CA_FILE] = NodeFile(node.ca_pem)
    for user, text in node.kubeconfigs.items():
        files[KUBECONFIGS[user]] = NodeFile(text, _SECRET)
    files[KUBELET_UNIT] = NodeFile(_kubelet_unit(cluster))
    files[KUBELET_DROP_IN] = NodeFile(_kubelet_drop_in(cluster))
    files[KUBELET_FLAGS] = NodeFile(f'KUBELET_KUBEADM_ARGS="{" ".join(_flags(_own_kubelet_flags(node)))}"\n')
    files[KUBELET_CONFIG] = NodeFile(_yaml(kubelet_configuration(cluster, node)))
    files[PROXY_CONFIG] = NodeFile(_yaml(proxy_configuration(cluster, node.name)))
    return files


def static_pods(cluster: ClusterFacts, node: NodeFacts) -> list[dict[str, Any]]:
    """The control plane's pods on this node, as its manifests have them; none on a worker."""
    if not node.control_plane:
        return []
    logged = {name: _logging(cluster, name) for name in _COMPONENTS}
    arguments: dict[str, list[str]] = {
        "kube-apiserver": _flags({**_apiserver(cluster, node), **logged["kube-apiserver"]}),
        "kube-controller-manager": _flags({**_controller_manager(cluster), **logged["kube-controller-manager"]}),
        "kube-scheduler": _flags({**_scheduler(), **logged["kube-scheduler"]}),
    }
    pods = [
        _static_pod(name, [name, *arguments[name], *_flags(cluster.flags.get(name, {}))], port)
        for name, port in _COMPONENTS.items()
    ]
    if node.etcd:
        pods.append(_static_pod("etcd", list(node.etcd), 2379))
    return pods


_COMPONENTS = {"kube-apiserver": 6443, "kube-controller-manager": 10257, "kube-scheduler": 10259}


def _static_pod(name: str, command: list[str], port: int) -> dict[str, Any]:
    container = {
        "name": name,
        "image": f"mininetes/{name}",
        "command": command,
        "ports": [{"name": "probe-port" if name != "etcd" else "client", "containerPort": port, "protocol": "TCP"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "kube-system",
            "labels": {"component": name, "tier": "control-plane"},
        },
        "spec": {
            "containers": [container],
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
        },
    }


def _apiserver(cluster: ClusterFacts, node: NodeFacts) -> dict[str, str]:
    ports = cluster.node_ports
    flags = {
        "advertise-address": str(node.address),
        "secure-port": "6443",
        "service-cluster-ip-range": str(cluster.services),
        "service-node-port-range": f"{ports.start}-{ports.stop - 1}",
    }
    if node.etcd_servers:
        flags["etcd-servers"] = ",".join(node.etcd_servers)
    return flags


def _controller_manager(cluster: ClusterFacts) -> dict[str, str]:
    return {
        "allocate-node-cidrs": "true",
        "bind-address": "0.0.0.0",  # noqa: S104 - as it listens in the node
        "cluster-cidr": str(cluster.pods),
        "kubeconfig": KUBECONFIGS["kube-controller-manager"],
        "node-cidr-mask-size": str(cluster.node_prefix),
        "service-cluster-ip-range": str(cluster.services),
    }


def _scheduler() -> dict[str, str]:
    return {"bind-address": "0.0.0.0", "kubeconfig": KUBECONFIGS["kube-scheduler"]}  # noqa: S104


def _logging(cluster: ClusterFacts, component: str) -> dict[str, str]:
    level = cluster.levels.get(component, cluster.level)
    return {"logtostderr": "false", "log-file": cluster.log_file(component), "v": str(level)}


def _flags(values: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def _network_flags() -> list[str]:
    return _flags({"network-plugin": "cni", "cni-conf-dir": CONF_DIR, "cni-bin-dir": BIN_DIR})


def _own_kubelet_flags(node: NodeFacts) -> dict[str, str]:
    return {"hostname-override": node.name, "node-ip": str(node.address)}


def _more_kubelet_flags(cluster: ClusterFacts) -> list[str]:
    return _flags({**_logging(cluster, "kubelet"), **cluster.flags.get("kubelet", {})})


def _kubelet_unit(cluster: ClusterFacts) -> str:
    flags = [f"--kubeconfig={KUBECONFIGS['kubelet']}", f"--config={KUBELET_CONFIG}"]
    flags += [*_network_flags(), *_more_kubelet_flags(cluster)]
    start = " \\\n  ".join(["/usr/bin/kubelet", *flags])
    lines = ["[Unit]", "Description=kubelet: the node's agent (a task of the lab's engine)", ""]
    lines += ["[Service]", f"ExecStart={start}", "Restart=always", "", "[Install]", "WantedBy=multi-user.target"]
    return "\n".join(lines) + "\n"


def _kubelet_drop_in(cluster: ClusterFacts) -> str:
    groups = {
        "KUBELET_KUBECONFIG_ARGS": [f"--kubeconfig={KUBECONFIGS['kubelet']}"],
        "KUBELET_CONFIG_ARGS": [f"--config={KUBELET_CONFIG}"],
        "KUBELET_NETWORK_ARGS": _network_flags(),
        "KUBELET_EXTRA_ARGS": _more_kubelet_flags(cluster),
    }
    lines = ["[Service]", *(f'Environment="{name}={" ".join(flags)}"' for name, flags in groups.items())]
    # the node's own flags come from the file; an empty ExecStart takes back the unit's
    names = " ".join(f"${name}" for name in [*groups, "KUBELET_KUBEADM_ARGS"])
    lines += [f"EnvironmentFile=-{KUBELET_FLAGS}", "ExecStart=", f"ExecStart=/usr/bin/kubelet {names}"]
    return "\n".join(lines) + "\n"


def kubelet_configuration(cluster: ClusterFacts, node: NodeFacts) -> dict[str, Any]:
    """The kubelet's configuration object."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "clusterDNS": [str(cluster.dns)],
        "clusterDomain": cluster.domain,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "port": 10250,
        "staticPodPath": MANIFESTS,
        **node.kubelet,
    }


def proxy_configuration_text(cluster: ClusterFacts) -> str:
    """kube-proxy's configuration as all nodes share it (its ConfigMap), YAML. Raises BadInput for wrong settings."""
    return _yaml(proxy_configuration(cluster, ""))


def proxy_configuration(cluster: ClusterFacts, node: str) -> dict[str, Any]:
    """kube-proxy's configuration object: all of its settings, given or not. Raises BadInput for wrong ones."""
    config = kube_proxy_config({"clusterCIDR": str(cluster.pods), **cluster.proxy})
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": PROXY_KUBECONFIG},
        "hostnameOverride": node,
        **_as_written(config.model_dump(by_alias=True)),
        "mode": cluster.proxy_mode,
    }


def _as_written(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a file has them: durations as text such as 30s, lists for tuples."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found[key] = _as_written(value)
        elif isinstance(value, tuple):
            found[key] = list(value)
        else:
            found[key] = f"{value:g}s" if isinstance(value, float) else value
    return found


def _yaml(value: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(value), sort_keys=False, default_flow_style=False, width=1000)
    return text


def write(node: str, files: Mapping[str, NodeFile]) -> None:
    """Put files where the node has them; may be called again. Raises MininetesError, with nothing written, for a
    path that is not the node's own, and OSError.
    """
    for path in files:
        if path not in PRIVATE_FILES and not any(path.startswith(each + "/") for each in PRIVATE_DIRECTORIES):
            raise MininetesError(f"{path} is not private to a node: one node's file would be seen by all")
    for path, file in files.items():
        place = node_path(node, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        # in place, not by a rename: a single private file is bound to where the node has it
        with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file.mode), "w") as target:
            os.fchmod(target.fileno(), file.mode)
            target.write(file.text)
