"""The programs and kernel features that Mininetes knows of, as data: what needs each, and how to try it.

A trial is a /bin/sh script. It runs with `set -e` as root of a fresh sandbox (network, mount, UTS
and PID namespace, a tmpfs on /run); status 0 says that the feature is here. `$PYTHON` is the
interpreter that runs the engine.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A program that is run by name, and the Debian and Ubuntu package that brings it."""

    name: str
    package: str
    needed_for: str
    required: bool = True


@dataclass(frozen=True)
class Feature:
    """A kernel feature (or what a tool makes of it) and the trial that shows it.

    ``modules`` are those that bring it where the kernel has it as a module, the telling one first.
    ``root_only``: the kernel refuses it in a user namespace, so it is not tried without real root.
    ``as_ordinary_user``: tried as one even by root. ``required_without_root``: as it says.
    Not ``sandboxed``: tried in the caller's own namespaces, so the trial must change nothing.
    """

    name: str
    needed_for: str
    trial: str
    remedy: str = "use a kernel that has it (Debian: linux-image-amd64)"
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    required: bool = False
    root_only: bool = False
    as_ordinary_user: bool = False
    required_without_root: bool = False
    sandboxed: bool = True


_LAB = "the lab"
_PODS = "pods and their network plugin"
_EVERY_DAY = "looking around in nodes"
_TESTS = "tests"

PROGRAMS = (
    Program("unshare", "util-linux", _LAB),
    Program("nsenter", "util-linux", _LAB),
    Program("mount", "mount", _LAB),
    Program("bash", "bash", _PODS),
    Program("ip", "iproute2", "links, addresses and routes"),
    Program("bridge", "iproute2", "links, addresses and routes"),
    Program("tc", "iproute2", "links with bandwidth, delay or loss"),
    Program("mnexec", "mininet", "Mininet's hosts"),
    Program("sysctl", "procps", _LAB),
    Program("iptables", "iptables", "ipMasq and service rules"),
    Program("iptables-restore", "iptables", "service rules"),
    Program("nft", "nftables", "service rules"),
    Program("mn", "mininet", "the underlays under stock Mininet", required=False),
    Program("brctl", "bridge-utils", _EVERY_DAY, required=False),
    Program("route", "net-tools", _EVERY_DAY, required=False),
    Program("conntrack", "conntrack", _EVERY_DAY, required=False),
    Program("tcpdump", "tcpdump", _EVERY_DAY, required=False),
    Program("ethtool", "ethtool", _EVERY_DAY, required=False),
    Program("ping", "iputils-ping", _TESTS, required=False),
    Program("nc", "netcat-openbsd", _TESTS, required=False),
    Program("fping", "fping", _TESTS, required=False),
    Program("iperf3", "iperf3", _TESTS, required=False),
    Program("jq", "jq", _TESTS, required=False),
    Program("setpriv", "util-linux", _TESTS, required=False),
    Program("gcc", "gcc", "the floor that make bench compares with", required=False),
    Program("/usr/lib/cni/bridge", "containernetworking-plugins", "the reference CNI plugins", required=False),
    Program("catatonit", "catatonit", "pods' pause processes"),
    Program("etcd", "etcd-server", "controlPlane: {store: etcd}", required=False),
    Program("ipset", "ipset", "proxy mode ipvs", required=False),
    Program("ipvsadm", "ipvsadm", "proxy mode ipvs", required=False),
)

OTHER_PROGRAMS = {"genl": "iproute2", "iptables-nft": "iptables", "iptables-legacy": "iptables", "timeout": "coreutils"}
"""Programs that only trials run, and their packages."""

_VETH = "ip link add v0 type veth peer name v1\nip link set v0 up\nip link set v1 up\n"

_TX_STAMP = """\
ip addr add 192.0.2.1/24 dev v0
ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent
exec "$PYTHON" -I -S -c '
import select, socket, struct
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, 37, 1 << 1 | 1 << 4 | 1 << 11)  # SO_TIMESTAMPING: TX_SOFTWARE, SOFTWARE, TSONLY
sender.sendto(b"x", ("192.0.2.2", 9))
waiting = select.poll()
waiting.register(sender, select.POLLERR)
assert waiting.poll(2000), "no time stamp came"
_, ancillary, _, _ = sender.recvmsg(64, 512, socket.MSG_ERRQUEUE)
stamps = [struct.unpack_from("qq", data)[0] for _, kind, data in ancillary if kind == 37]
assert stamps and stamps[0] > 0, "the time stamp is empty"
'
"""

_PACKET = """\
exec "$PYTHON" -I -S -c '
import socket
here, there = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) for _ in range(2))
here.bind(("v0", 0x88B5))
there.bind(("v1", 0x88B5))
there.settimeout(2)
frame = bytes.fromhex("ffffffffffff02000000000188b5") + b"trial".ljust(46)
here.send(frame)
assert there.recv(100) == frame, "another frame came out"
'
"""

_BR_NETFILTER = """\
ip link add name br0 type bridge
if ! [ -e /proc/sys/net/bridge ]; then
    # The physdev match makes the kernel load br_netfilter, also for one who could not load it by hand.
    iptables -A FORWARD -m physdev --physdev-is-bridged 2>/dev/null || true
fi
for value in 0 1; do
    echo $value > /proc/sys/net/bridge/bridge-nf-call-iptables
    [ "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables)" = $value ]
done
"""

_NAT = """\
for table in nat filter mangle; do {0} -t $table -L -n >/dev/null; done
{0} -t nat -A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -m comment --comment trial -j MASQUERADE
{0} -t nat -A OUTPUT -p tcp -d 10.96.0.1 --dport 443 -j DNAT --to-destination 10.244.1.2:80
{0} -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j RETURN
"""

_KUBE_PROXY_MATCHES = """\
iptables -t nat -A OUTPUT -m statistic --mode random --probability 0.5 -j MARK --or-mark 0x4000
iptables -A FORWARD -m conntrack --ctstate INVALID -m mark --mark 0x4000/0x4000 -j DROP
iptables -t nat -A OUTPUT -m recent --name trial --rcheck --seconds 10 --reap -j RETURN
"""

_NFTABLES = """\
nft -f - <<'end'
table ip trial {
    map services {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.96.0.1 . tcp . 443 : goto endpoint }
    }
    chain endpoint {
        meta l4proto tcp dnat to 10.244.1.2:80
    }
    chain nat {
        type nat hook output priority -100
        ip daddr . meta l4proto . th dport vmap @services
        numgen random mod 2 vmap { 0 : goto endpoint, 1 : goto endpoint }
    }
    chain leave {
        type nat hook postrouting priority 100
        masquerade fully-random
    }
}
end
"""

_TCPDUMP = """\
ip link set lo up
timeout 0.3 tcpdump -i lo -w /dev/null || [ $? = 124 ]
"""

_OVERLAY = """\
mkdir /run/lower /run/upper /run/work /run/merged
mount -t overlay overlay -o lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work /run/merged
touch /run/merged/file
"""

_ETC = """\
mkdir /run/old
mount --rbind /etc /run/old
mount -t tmpfs trial /etc
ln -s /run/old/passwd /etc/passwd
[ -s /etc/passwd ]
mkdir -p /etc/cni/net.d
"""

_IP_VS = """\
if command -v ipvsadm >/dev/null; then
    ipvsadm -A -t 192.0.2.1:80 -s rr
else
    genl ctrl get name IPVS >/dev/null
fi
"""

FEATURES = (
    Feature("sandbox of namespaces", _LAB, "true", "allow unshare (in a container: run it privileged)", required=True),
    Feature(
        "user namespaces",
        "running without root",
        "ip link set lo up\nip link add v0 type veth peer name v1",
        "run it with sudo, or have root allow them: sysctl -w kernel.unprivileged_userns_clone=1 (older Debian), "
        "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04)",
        programs=("ip", "setpriv"),
        as_ordinary_user=True,
        required_without_root=True,
    ),
    Feature(
        "named network namespaces",
        _PODS,
        "ip netns add pod\nip netns exec pod ip link set lo up",
        programs=("ip",),
        required=True,
    ),
    Feature("tmpfs over /etc", "files that each node has for itself", _ETC, required=True),
    Feature("veth", _PODS, _VETH, programs=("ip",), modules=("veth",), required=True),
    Feature(
        "bridge",
        _PODS,
        _VETH + "ip link add br0 type bridge\nip link set v0 master br0\nbridge link set dev v0 hairpin on",
        programs=("ip", "bridge"),
        modules=("bridge",),
        required=True,
    ),
    Feature(
        "br_netfilter",
        "services whose pods share a bridge with the client",
        _BR_NETFILTER,
        programs=("ip",),
        modules=("br_netfilter",),
        required=True,
    ),
    Feature(
        "iptables nat, nft back end",
        "ipMasq and proxy mode iptables",
        _NAT.format("iptables-nft"),
        programs=("iptables-nft",),
        modules=("nft_compat", "nft_chain_nat", "nf_tables"),
        required=True,
    ),
    Feature(
        "AF_PACKET", "probes and captures", _VETH + _PACKET, programs=("ip",), modules=("af_packet",), required=True
    ),
    Feature("software transmit time stamps", "wire_rtt_us", _VETH + _TX_STAMP, programs=("ip",), required=True),
    Feature(
        "65536 open files",
        "labs with thousands of pods",
        "ulimit -n 65536",
        "raise the hard limit of nofile (/etc/security/limits.conf, LimitNOFILE=), or run it with sudo",
    ),
    Feature(
        "iptables nat, legacy back end",
        "proxy mode iptables with backend legacy",
        _NAT.format("iptables-legacy"),
        programs=("iptables-legacy",),
        modules=("ip_tables", "iptable_nat"),
    ),
    Feature(
        "iptables matches of kube-proxy",
        "proxy mode iptables",
        _KUBE_PROXY_MATCHES,
        programs=("iptables",),
        modules=("xt_statistic", "xt_recent", "xt_mark", "xt_conntrack"),
    ),
    Feature("nftables", "proxy mode nftables", _NFTABLES, programs=("nft",), modules=("nf_tables", "nft_numgen")),
    Feature(
        "conntrack netlink",
        "forgetting connections of a removed endpoint",
        "conntrack -L",
        programs=("conntrack",),
        modules=("nf_conntrack_netlink",),
    ),
    Feature("ipset", "proxy mode ipvs", "ipset create trial hash:ip", programs=("ipset",), modules=("ip_set",)),
    Feature(
        "ip_vs",
        "proxy mode ipvs",
        _IP_VS,
        programs=("ip",),
        modules=("ip_vs",),
        root_only=True,
    ),
    Feature(
        "dummy",
        "proxy mode ipvs (kube-ipvs0)",
        "ip link add kube-ipvs0 type dummy",
        programs=("ip",),
        modules=("dummy",),
    ),
    Feature(
        "vxlan",
        "fabric vxlan, overlay networks",
        "ip link add flannel.1 type vxlan id 1 dstport 8472 nolearning",
        programs=("ip",),
        modules=("vxlan",),
    ),
    Feature(
        "tbf",
        "links with bandwidth",
        _VETH + "tc qdisc add dev v0 root tbf rate 10mbit burst 32kbit latency 50ms",
        programs=("ip", "tc"),
        modules=("sch_tbf",),
    ),
    Feature(
        "htb",
        "links with bandwidth",
        _VETH + "tc qdisc add dev v0 root handle 1: htb default 1\n"
        "tc class add dev v0 parent 1: classid 1:1 htb rate 10mbit",
        programs=("ip", "tc"),
        modules=("sch_htb",),
    ),
    Feature(
        "netem",
        "links with delay or loss",
        _VETH + "tc qdisc add dev v0 root netem delay 10ms loss 1%",
        programs=("ip", "tc"),
        modules=("sch_netem",),
    ),
    Feature(
        "macvlan",
        "macvlan pods and container networks",
        _VETH + "ip link add link v0 name m0 type macvlan mode bridge",
        programs=("ip",),
        modules=("macvlan",),
    ),
    Feature(
        "ipvlan",
        "ipvlan pods and container networks",
        _VETH + "ip link add link v0 name i0 type ipvlan mode l3",
        programs=("ip",),
        modules=("ipvlan",),
    ),
    Feature(
        "ifb",
        "the reference plugin bandwidth",
        "ip link add i0 type ifb",
        programs=("ip",),
        modules=("ifb",),
    ),
    Feature(
        "tun", "fabrics and agents in userspace", "ip tuntap add dev t0 mode tun", programs=("ip",), modules=("tun",)
    ),
    Feature(
        "wireguard", "fabrics of your own", "ip link add wg0 type wireguard", programs=("ip",), modules=("wireguard",)
    ),
    Feature(
        "openvswitch",
        "Mininet's Open vSwitch switches",
        "genl ctrl get name ovs_datapath >/dev/null",
        programs=("genl",),
        modules=("openvswitch",),
    ),
    Feature(
        "sctp",
        "services with protocol SCTP",
        'exec "$PYTHON" -I -S -c "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)"',
        modules=("sctp",),
    ),
    Feature("overlay mount", "container file systems of your own", _OVERLAY, modules=("overlay",)),
    Feature(
        "tcpdump in the lab",
        _EVERY_DAY + " (captures of the testbed itself use AF_PACKET)",
        _TCPDUMP,
        programs=("ip", "tcpdump", "timeout"),
        root_only=True,
    ),
    Feature(
        "raising limits of conntrack and neighbours",
        "very large labs (nothing raises them by itself)",
        ": >>/proc/sys/net/ipv4/neigh/default/gc_thresh3",
        "do it on the host",
        root_only=True,
        sandboxed=False,
    ),
    Feature(
        "stock Mininet",
        "python3 topologies/underlays/X.py and mn --custom",
        "/usr/bin/python3 -c 'import mininet.net'",
        "install the packages mininet and python3-setuptools",
    ),
    Feature(
        "Mininet in this Python",
        "the nodes",
        "\"$PYTHON\" -c 'import mininet.net'",
        "install the package mininet, and use the venv that make setup makes",
        required=True,
    ),
)
