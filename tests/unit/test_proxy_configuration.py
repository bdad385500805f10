"""kube-proxy's configuration: its names, its defaults, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_objects import NODE, view

from mininetes.agents.kubeproxy.configuration import kube_proxy_config, port_range
from mininetes.agents.kubeproxy.durations import seconds
from mininetes.agents.kubeproxy.sysctls import wanted_sysctls
from mininetes.agents.kubeproxy.view import LocalTraffic
from mininetes.errors import BadInput


@pytest.mark.parametrize(
    ("text", "value"), [("30s", 30), ("1m30s", 90), ("250ms", 0.25), ("24h0m0s", 86400), ("0", 0), (5, 5)]
)
def test_durations_are_read_as_kubernetes_writes_them(text: object, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1x", "1s2", None, True, -3])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        seconds(text)


def test_defaults_are_kube_proxys() -> None:
    config = kube_proxy_config({})
    assert (config.mode, config.cluster_cidr, config.detect_local_mode, config.node_port_addresses) == ("", "", "", ())
    assert (config.iptables.masquerade_bit, config.iptables.masquerade_all) == (14, False)
    assert (config.iptables.localhost_node_ports, config.iptables.sync_period) == (True, 30)
    assert (config.iptables.min_sync_period, config.nftables.min_sync_period) == (1, 1)
    assert (config.healthz_bind_address, config.metrics_bind_address) == ("0.0.0.0:10256", "127.0.0.1:10249")
    assert (config.conntrack.tcp_established_timeout, config.conntrack.tcp_close_wait_timeout) == (86400, 3600)
    assert (config.conntrack.max_per_core, config.conntrack.min) == (32768, 131072)
    assert config.ipvs.scheduler == "rr"
    assert config.masquerade_mark("iptables") == 0x4000


def test_a_whole_file_of_kubeadms_is_taken() -> None:
    kubeadm = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0", "bindAddressHardFail": False, "clusterCIDR": "10.244.0.0/16",
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf", "qps": 0},
        "configSyncPeriod": "0s", "conntrack": {"maxPerCore": None, "min": None, "tcpBeLiberal": False,
        "tcpCloseWaitTimeout": None, "tcpEstablishedTimeout": None, "udpStreamTimeout": "0s", "udpTimeout": "0s"},
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""}, "detectLocalMode": "",
        "enableProfiling": False, "healthzBindAddress": "", "hostnameOverride": "",
        "iptables": {"localhostNodePorts": None, "masqueradeAll": False, "masqueradeBit": 14,
                     "minSyncPeriod": "0s", "syncPeriod": "0s"},
        "ipvs": {"excludeCIDRs": [], "minSyncPeriod": "0s", "scheduler": "", "strictARP": False, "syncPeriod": "30s",
                 "tcpFinTimeout": "0s", "tcpTimeout": "0s", "udpTimeout": "0s"},
        "logging": {"verbosity": 0}, "metricsBindAddress": "", "mode": "iptables",
        "nftables": {"masqueradeAll": False, "masqueradeBit": 14, "minSyncPeriod": "0s", "syncPeriod": "30s"},
        "nodePortAddresses": [], "oomScoreAdj": None, "portRange": "", "showHiddenMetricsForVersion": "",
        "winkernel": {"enableDSR": False},
    }  # fmt: skip
    config = kube_proxy_config(kubeadm)
    assert (config.iptables.min_sync_period, config.iptables.sync_period) == (0, 30)
    assert (config.healthz_bind_address, config.conntrack.max_per_core) == ("0.0.0.0:10256", 32768)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"iptable": {}}, r"spec.proxy.config.iptable: unknown key; did you mean 'iptables'"),
        ({"iptables": {"masqueradebit": 1}}, r"iptables.masqueradebit: unknown key; did you mean 'masqueradeBit'"),
        ({"iptables": {"masqueradeBit": 32}}, r"iptables.masqueradeBit: 32 is not valid: at most 31$"),
        ({"iptables": {"syncPeriod": "-1s"}}, r"iptables.syncPeriod"),
        ({"iptables": {"syncPeriod": "soon"}}, r"iptables.syncPeriod: 'soon'.*a duration such as 30s"),
        (
            {"mode": "ebpf"},
            r"^spec.proxy.config.mode: 'ebpf' is not valid: one of iptables, nftables, ipvs, userspace$",
        ),
        ({"mode": 5}, r"config.mode: 5 is not valid: one of iptables, nftables, ipvs, userspace$"),
        ({"iptables": 5}, r"config.iptables: 5 is not valid: a mapping, such as"),
        ({"iptables": {"masqueradeAll": "maybe"}}, r"iptables.masqueradeAll: 'maybe' is not valid: true or false$"),
        ({"conntrack": {"min": 1.5}}, r"conntrack.min: 1.5 is not valid: a whole number$"),
        ({"conntrack": {"min": -1}}, r"conntrack.min: -1 is not valid: at least 0$"),
        ({"detectLocal": {"bridgeInterface": 5}}, r"detectLocal.bridgeInterface: 5 is not valid: text$"),
        ({"iptables": {"syncPeriod": "1s", "minSyncPeriod": "2s"}}, r"iptables.syncPeriod: '1s'.*at least .* 2s"),
        ({"ipvs": {"minSyncPeriod": "1m"}}, r"ipvs.syncPeriod: '30s'.*at least .* 60s"),
        ({"nodePortAddresses": ["fd00::/64"]}, r"nodePortAddresses\[0\].*IPv6"),
        ({"nodePortAddresses": ["192.168.1.11"]}, r"es\[0\]: '192.168.1.11'.*prefix, such as 192.168.1.11/32$"),
        ({"nodePortAddresses": ["10.0.0.9/255.0.0.0"]}, r"nodePortAddresses\[0\]: '10.0.0.9/255.0.0.0' is not valid"),
        ({"ipvs": {"excludeCIDRs": ["10.0.0.1"]}}, r"ipvs.excludeCIDRs\[0\]: '10.0.0.1'.*prefix"),
        ({"clusterCIDR": "10.244.0.0"}, r"clusterCIDR: '10.244.0.0'.*prefix"),
        ({"clusterCIDR": "10.244.0.0/255.255.0.0"}, r"clusterCIDR: .*prefix, such as 10.244.0.0/16$"),
        ({"frob": 1}, r"config.frob: unknown key; known here: mode, clusterCIDR, "),
        ({"nodePortAddresses": "x"}, r"nodePortAddresses: 'x'.*a list, such as \[a, b\]"),
        ({"clusterCIDR": "10.244.0.1/16"}, r"clusterCIDR: '10.244.0.1/16'.*an IPv4 network"),
        ({"clusterCIDR": "fd00::/64"}, r"clusterCIDR.*IPv6 is not supported"),
        ({"nodePortAddresses": ["primary"]}, r"nodePortAddresses\[0\]: 'primary'"),
        ({"detectLocalMode": "BridgeInterface"}, r"detectLocal.bridgeInterface: needed with"),
        ({"detectLocalMode": "InterfaceNamePrefix"}, r"detectLocal.interfaceNamePrefix: needed with"),
        ({"detectLocalMode": "Nonsense"}, r"detectLocalMode: 'Nonsense' is not valid: one of ClusterCIDR, NodeCIDR, "),
        ({"ipvs": {"scheduler": "best"}}, r"ipvs.scheduler: 'best' is not valid: one of rr, wrr, .*, mh$"),
        ({"metricsBindAddress": "10249"}, r"metricsBindAddress: '10249'.*an IPv4 address and a port"),
        ({"bindAddress": "::"}, r"bindAddress: '::'.*IPv6"),
        ({"detectLocal": {"bridgeInterface": "x" * 16}}, r"detectLocal.bridgeInterface"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        kube_proxy_config(values)


@pytest.mark.parametrize(
    ("config", "local"),
    [
        ({}, LocalTraffic("network", "10.244.0.0/16")),
        ({"detectLocalMode": "ClusterCIDR"}, LocalTraffic("network", "10.244.0.0/16")),
        ({"clusterCIDR": ""}, LocalTraffic()),
        ({"detectLocalMode": "NodeCIDR"}, LocalTraffic("network", "10.244.1.0/24")),
        ({"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cni0"}},
         LocalTraffic("bridge", "cni0")),
        ({"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}},
         LocalTraffic("prefix", "veth")),
    ],
)  # fmt: skip
def test_local_traffic_is_told_by_the_detect_local_mode(config: dict[str, Any], local: LocalTraffic) -> None:
    assert view(**config).local_traffic == local


@pytest.mark.parametrize(
    ("mode", "networks", "everywhere", "ips", "localhost"),
    [
        ("iptables", [], True, ("192.168.1.11", "10.244.1.1"), True),
        ("iptables", ["0.0.0.0/0"], True, ("127.0.0.1", "10.244.1.1", "192.168.1.11"), True),
        ("iptables", ["192.168.0.0/16"], False, ("192.168.1.11",), False),
        ("iptables", ["127.0.0.0/8", "192.168.1.0/24"], False, ("127.0.0.1", "192.168.1.11"), True),
        ("iptables", ["127.0.0.1/32"], False, ("127.0.0.1",), True),
        ("iptables", ["127.5.0.0/16"], False, (), True),  # kube-proxy has route_localnet then too
        ("iptables", ["126.0.0.0/7"], False, ("127.0.0.1",), True),
        ("iptables", ["127.0.0.0/8", "0.0.0.0/0"], True, ("127.0.0.1", "10.244.1.1", "192.168.1.11"), True),
        ("nftables", [], False, ("192.168.1.11",), False),
        ("nftables", ["0.0.0.0/0"], True, ("127.0.0.1", "10.244.1.1", "192.168.1.11"), True),
        ("nftables", ["10.0.0.0/8"], False, ("10.244.1.1",), False),
    ],
)
def test_node_ports_are_taken_at_the_addresses_asked_for(
    mode: Any, networks: list[str], everywhere: bool, ips: tuple[str, ...], localhost: bool
) -> None:
    found = view(mode=mode, node=NODE, nodePortAddresses=networks)
    assert (found.node_ports_everywhere, found.node_port_ips, found.localhost_node_ports) == (
        everywhere,
        ips,
        localhost,
    )


def test_localhost_node_ports_can_be_turned_off() -> None:
    assert not view(iptables={"localhostNodePorts": False}).localhost_node_ports


def sysctls(mode: Any, **config: Any) -> dict[str, str]:
    return wanted_sysctls(kube_proxy_config(config), mode, view(mode=mode, **config))


def test_sysctls_are_those_of_the_mode() -> None:
    assert sysctls("iptables")["ipv4/conf/all/route_localnet"] == "1"
    assert "ipv4/conf/all/route_localnet" not in sysctls("iptables", iptables={"localhostNodePorts": False})
    assert "ipv4/conf/all/route_localnet" not in sysctls("nftables")
    assert sysctls("ipvs")["ipv4/vs/conntrack"] == "1"
    assert "ipv4/conf/all/arp_ignore" not in sysctls("ipvs")
    assert sysctls("ipvs", ipvs={"strictARP": True})["ipv4/conf/all/arp_announce"] == "2"
    for mode in ("iptables", "nftables", "ipvs", "userspace"):
        assert sysctls(mode)["bridge/bridge-nf-call-iptables"] == "1"
        assert sysctls(mode)["netfilter/nf_conntrack_tcp_timeout_established"] == "86400"


def test_conntrack_settings_become_sysctls_and_liberal_tcp_keeps_invalid_packets() -> None:
    conntrack = {"tcpBeLiberal": True, "udpTimeout": "10s", "tcpEstablishedTimeout": "0s"}
    wanted = sysctls("iptables", conntrack=conntrack)
    assert wanted["netfilter/nf_conntrack_tcp_be_liberal"] == "1"
    assert wanted["netfilter/nf_conntrack_udp_timeout"] == "10"
    assert "netfilter/nf_conntrack_tcp_timeout_established" not in wanted
    assert not view(conntrack=conntrack).drop_invalid


def test_port_ranges_of_the_userspace_proxy() -> None:
    assert len(port_range("")) == 0
    assert port_range("40000-40002") == range(40000, 40003)
    assert port_range("40000+2") == range(40000, 40003)
    for wrong in ("40000", "2-1", "0-5", "a-b", "1-70000"):
        with pytest.raises(ValueError, match="two ports"):
            port_range(wrong)
        with pytest.raises(BadInput, match=r"spec.proxy.config.portRange: .*two ports"):
            kube_proxy_config({"portRange": wrong})


def test_networks_may_be_said_by_any_address_in_them_where_kube_proxy_takes_that() -> None:
    config = kube_proxy_config({"nodePortAddresses": ["192.168.1.11/24"], "ipvs": {"excludeCIDRs": ["10.0.0.9/8"]}})
    assert (config.node_port_addresses, config.ipvs.exclude_cidrs) == (("192.168.1.0/24",), ("10.0.0.0/8",))
    assert view(nodePortAddresses=["192.168.1.99/24"]).node_port_ips == ("192.168.1.11",)
