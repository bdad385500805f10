"""From the rules in force to the rules wanted: the smallest text, and what is found in a kernel that we do not know."""

from __future__ import annotations

import pytest
from proxy_objects import endpoint, endpoint_slice, service, traffic, view

from mininetes.agents.kubeproxy.compiling import compiler
from mininetes.agents.kubeproxy.configuration import kube_proxy_config
from mininetes.agents.kubeproxy.conntrack import stale_flows
from mininetes.agents.kubeproxy.iptables_state import NOTHING, Saved, difference_text, edited, parse, whole_text
from mininetes.agents.kubeproxy.ipvs_applier import IpvsApplier
from mininetes.agents.kubeproxy.ipvs_state import (
    address_lines,
    parse_busy,
    parse_servers,
    parse_sets,
    server_lines,
    set_lines,
    wanted_servers,
)
from mininetes.agents.kubeproxy.nftables_applier import difference_lines
from mininetes.agents.kubeproxy.rehearsing import PaperTools
from mininetes.agents.kubeproxy.rulesets import (
    ChainPart,
    Chains,
    IptablesRuleset,
    IpvsRuleset,
    Jump,
    NftablesRuleset,
    NftContainer,
    VirtualServer,
)
from mininetes.kernel.processes import HERE, Completed

ONE = {"addresses": ["10.244.1.5"], "nodeName": "node1"}
TWO = {"addresses": ["10.244.2.5"], "nodeName": "node2"}
JUMPS = (Jump("nat", "OUTPUT", "-m comment --comment x -j KUBE-SERVICES"),
         Jump("nat", "OUTPUT", "-j KUBE-FIRST"), Jump("nat", "OUTPUT", "-j KUBE-LAST", last=True))  # fmt: skip


def iptables(*objects: object) -> IptablesRuleset:
    ruleset = compiler("iptables")(view(*objects))  # type: ignore[arg-type]
    assert isinstance(ruleset, IptablesRuleset)
    return ruleset


def nftables(*objects: object) -> NftablesRuleset:
    ruleset = compiler("nftables")(view(*objects, mode="nftables"))  # type: ignore[arg-type]
    assert isinstance(ruleset, NftablesRuleset)
    return ruleset


# iptables


def test_what_did_not_change_needs_no_text() -> None:
    assert difference_text(iptables(service()), iptables(service())) == ("", 0)


def test_an_added_endpoint_touches_only_the_chains_of_its_service() -> None:
    others = [service(f"s{n}", clusterIP=f"10.96.1.{n}") for n in range(9)]
    text, touched = difference_text(
        iptables(*others, service(), endpoint_slice(ONE, TWO)), iptables(*others, service(), endpoint_slice(ONE))
    )
    assert touched == 2
    assert {line.split()[0][1:9] for line in text.splitlines() if line.startswith(":")} == {"KUBE-SVC", "KUBE-SEP"}
    assert "KUBE-SERVICES" not in text


def test_a_removed_service_takes_its_chains_along() -> None:
    text, _ = difference_text(iptables(), iptables(service(), endpoint_slice(ONE)))
    removed = [line for line in text.splitlines() if line.startswith("-X")]
    assert [line[:12] for line in removed] == ["-X KUBE-SEP-", "-X KUBE-SVC-"]
    lines = text.splitlines()
    assert all(lines.index(f":{line[3:]} - [0:0]") < lines.index(line) for line in removed)


def test_single_rules_go_into_and_out_of_long_chains() -> None:
    old = tuple(f"-A KUBE-SERVICES -d 10.0.0.{n}/32 -j X{n}" for n in range(0, 80, 2))
    new = tuple(
        sorted({*old[:5], *old[6:], "-A KUBE-SERVICES -d 10.0.0.7/32 -j X7"}, key=lambda r: int(r.split("X")[1]))
    )
    assert edited(old, new) == ["-D KUBE-SERVICES -d 10.0.0.10/32 -j X10", "-I KUBE-SERVICES 5 -d 10.0.0.7/32 -j X7"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("-A C 1", "-A C 2"), ("-A C 1",)),
        (tuple(f"-A C {n}" for n in range(40)), tuple(f"-A C {n}" for n in range(20))),
        (tuple(f"-A C {n}" for n in range(40)), tuple(f"-A C {n}" for n in reversed(range(40)))),
        (("-A C 1",) * 40, ("-A C 1",) * 39),
    ],
    ids=["short", "much of it", "order", "twice the same"],
)
def test_other_chains_are_written_anew(old: tuple[str, ...], new: tuple[str, ...]) -> None:
    assert edited(old, new) is None


SAVED = """\
*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [5:300]
:MINE - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-OLD - [0:0]
:KUBE-PORTALS-HOST - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
-A OUTPUT -m comment --comment x -j KUBE-SERVICES
-A OUTPUT -j KUBE-PORTALS-HOST
-A OUTPUT -j MINE
-A KUBE-SERVICES -j KUBE-SVC-OLD
COMMIT
"""


def test_only_what_is_a_proxys_is_found() -> None:
    found = parse(SAVED)
    assert {name for _, name in found.chains} == {
        "KUBE-PROXY-CANARY",
        "KUBE-SERVICES",
        "KUBE-SVC-OLD",
        "KUBE-PORTALS-HOST",
    }
    assert found.jumps == (("nat", "OUTPUT", "-m comment --comment x -j KUBE-SERVICES"),
                           ("nat", "OUTPUT", "-j KUBE-PORTALS-HOST"))  # fmt: skip


GUARDED = """\
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -j DROP
COMMIT
"""


def test_the_localhost_guard_goes_along_unless_a_kubelet_has_it_too() -> None:
    lines = whole_text(NOTHING, parse(GUARDED)).splitlines()
    assert "-D INPUT -j KUBE-FIREWALL" in lines
    assert "-X KUBE-FIREWALL" in lines
    for kubelets in (":KUBE-KUBELET-CANARY - [0:0]", "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP"):
        assert parse(GUARDED.replace("-A INPUT", f"{kubelets}\n-A INPUT")).chains == frozenset()


def test_a_whole_text_replaces_whatever_is_there_and_leaves_others_alone() -> None:
    wanted = IptablesRuleset({("nat", "KUBE-SERVICES"): ("-A KUBE-SERVICES -j RETURN",)}, JUMPS)
    lines = whole_text(wanted, parse(SAVED)).splitlines()
    assert "-D OUTPUT -j KUBE-PORTALS-HOST" in lines
    assert lines[lines.index("*nat") :].count("-X KUBE-SVC-OLD") == 1
    assert "-X KUBE-PORTALS-HOST" in lines
    assert [line for line in lines if "OUTPUT" in line] == [
        "-D OUTPUT -j KUBE-PORTALS-HOST", "-I OUTPUT 1 -j KUBE-FIRST", "-A OUTPUT -j KUBE-LAST"]  # fmt: skip
    assert not any("MINE" in line or "KUBELET" in line for line in lines)


def test_jumps_are_put_in_in_their_order() -> None:
    lines = whole_text(IptablesRuleset({}, JUMPS), Saved()).splitlines()
    assert lines[1:-1] == ["-I OUTPUT 1 -j KUBE-FIRST", "-I OUTPUT 1 -m comment --comment x -j KUBE-SERVICES",
                           "-A OUTPUT -j KUBE-LAST"]  # fmt: skip


def test_nothing_at_all_is_wanted_after_the_last_mode_that_uses_iptables() -> None:
    text = whole_text(NOTHING, parse(SAVED))
    assert ":KUBE-PROXY-CANARY" not in text
    assert {line for line in text.splitlines() if line.startswith("-X")} == {
        "-X KUBE-SERVICES", "-X KUBE-SVC-OLD", "-X KUBE-PORTALS-HOST"}  # fmt: skip


# nftables


def test_nftables_changes_only_what_an_added_endpoint_concerns() -> None:
    lines, stale, touched = difference_lines(
        nftables(service(), endpoint_slice(ONE, TWO)), nftables(service(), endpoint_slice(ONE))
    )
    assert stale == []
    assert touched == 2
    assert not any("element" in line or "services" in line for line in lines)


def test_nftables_moves_a_service_between_maps_when_its_last_endpoint_goes() -> None:
    lines, stale, _ = difference_lines(nftables(service()), nftables(service(), endpoint_slice(ONE)))
    assert "delete element ip kube-proxy service-ips { 10.96.0.50 . tcp . 80 }" in lines
    assert any(line.startswith("add element ip kube-proxy no-endpoint-services") for line in lines)
    assert [line.split()[:2] for line in stale] == [["delete", "chain"]] * 2
    assert all(f"flush chain ip kube-proxy {line.split()[-1]}" in lines for line in stale)


def test_nftables_makes_an_affinity_set_anew_when_its_timeout_changes() -> None:
    def sticky(timeout_s: int) -> NftablesRuleset:
        settings = {"clientIP": {"timeoutSeconds": timeout_s}}
        return nftables(service(sessionAffinity="ClientIP", sessionAffinityConfig=settings), endpoint_slice(ONE))

    lines, _, _ = difference_lines(sticky(60), sticky(30))
    deleted = next(line for line in lines if line.startswith("delete set"))
    before = lines[: lines.index(deleted)]
    assert {line.split()[4].partition("-")[0] for line in before if line.startswith("flush")} == {"endpoint", "service"}
    assert any("timeout 60s" in line for line in lines[lines.index(deleted) :])
    assert sum(line.startswith("add rule") for line in lines) == 6


def test_what_the_kernel_filled_is_not_counted_as_elements_of_ours() -> None:
    assert NftContainer("set", "x", kept=True).elements == {}
    lines, stale, touched = difference_lines(nftables(service()), nftables(service()))
    assert (lines, stale, touched) == ([], [], 0)


# ipvs


SERVERS = """\
-A -t 10.96.0.50:80 -s rr
-a -t 10.96.0.50:80 -r 10.244.1.5:8080 -m -w 1
-A -t 10.96.0.60:80 -s rr -p 10800
-A -u 172.16.0.1:53 -s wlc
"""


def test_ipvs_lines_are_the_difference() -> None:
    web = VirtualServer("tcp", "10.96.0.50", 80, "rr")
    sticky = VirtualServer("tcp", "10.96.0.60", 80, "rr", 60)
    dns = VirtualServer("udp", "10.96.0.10", 53, "rr")
    ruleset = IpvsRuleset({web: ("10.244.1.6:8080",), sticky: (), dns: ("10.244.1.9:53",)}, {}, (), NOTHING)
    lines = server_lines(wanted_servers(ruleset), parse_servers(SERVERS), excluded=["172.16.0.0/12"])
    assert lines == [
        "-a -t 10.96.0.50:80 -r 10.244.1.6:8080 -m -w 1",
        "-d -t 10.96.0.50:80 -r 10.244.1.5:8080",
        "-E -t 10.96.0.60:80 -s rr -p 60",
        "-A -u 10.96.0.10:53 -s rr",
        "-a -u 10.96.0.10:53 -r 10.244.1.9:53 -m -w 1",
    ]
    assert server_lines(wanted_servers(ruleset), parse_servers(SERVERS))[-1] == "-D -u 172.16.0.1:53"


LISTED = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.96.0.50:80 rr
  -> 10.244.1.5:8080              Masq    1      1          0
  -> 10.244.1.6:8080              Masq    0      0          2
  -> 10.244.1.7:8080              Masq    1      0          0
UDP  10.96.0.10:53 rr persistent 60
  -> 10.244.1.9:53                Masq    1      0          5
"""


TIMEOUTS = [
    ({}, []),
    ({"tcpTimeout": "15m", "udpTimeout": "30s"}, ["ipvsadm --set 900 120 30"]),
    ({"tcpFinTimeout": "10s"}, ["ipvsadm --set 700 10 300"]),
    ({"tcpTimeout": "700s"}, []),
]


@pytest.mark.parametrize(("config", "calls"), TIMEOUTS)
def test_timeouts_are_set_where_they_differ(config: dict[str, str], calls: list[str]) -> None:
    class Tools(PaperTools):
        def run(self, *argv: str, stdin: str = "", check: bool = True) -> Completed:
            if argv == ("ipvsadm", "--list", "--timeout"):
                return Completed(argv, HERE, 0, "Timeout (tcp tcpfin udp): 700 120 300\n", "")
            return super().run(*argv, stdin=stdin, check=check)

    tools = Tools("nft")
    IpvsApplier(tools, kube_proxy_config({"ipvs": config}).ipvs).whole(IpvsRuleset({}, {}, (), NOTHING))
    assert [command for command, _ in tools.calls if command.startswith("ipvsadm --set")] == calls


def test_real_servers_with_tcp_connections_drain_before_they_go() -> None:
    there = parse_servers(
        "-A -t 10.96.0.50:80 -s rr\n"
        "-a -t 10.96.0.50:80 -r 10.244.1.5:8080 -m -w 1\n"
        "-a -t 10.96.0.50:80 -r 10.244.1.6:8080 -m -w 0\n"
        "-a -t 10.96.0.50:80 -r 10.244.1.7:8080 -m -w 1\n"
        "-A -u 10.96.0.10:53 -s rr -p 60\n"
        "-a -u 10.96.0.10:53 -r 10.244.1.9:53 -m -w 1\n"
    )
    busy = parse_busy(LISTED)
    assert busy == {("-t 10.96.0.50:80", f"10.244.1.{n}:8080") for n in (5, 6)}
    web, dns = VirtualServer("tcp", "10.96.0.50", 80, "rr"), VirtualServer("udp", "10.96.0.10", 53, "rr", 60)
    nobody = wanted_servers(IpvsRuleset({web: (), dns: ()}, {}, (), NOTHING))
    assert server_lines(nobody, there, busy=busy) == [
        "-e -t 10.96.0.50:80 -r 10.244.1.5:8080 -m -w 0",
        "-d -t 10.96.0.50:80 -r 10.244.1.7:8080",
        "-d -u 10.96.0.10:53 -r 10.244.1.9:53",
    ]
    back = wanted_servers(IpvsRuleset({web: ("10.244.1.6:8080",), dns: ("10.244.1.9:53",)}, {}, (), NOTHING))
    assert server_lines(back, there, busy=busy)[:2] == [
        "-e -t 10.96.0.50:80 -r 10.244.1.6:8080 -m -w 1",
        "-e -t 10.96.0.50:80 -r 10.244.1.5:8080 -m -w 0",
    ]
    without = wanted_servers(IpvsRuleset({dns: ("10.244.1.9:53",)}, {}, (), NOTHING))
    assert server_lines(without, there, busy=busy) == ["-D -t 10.96.0.50:80"]


def test_ipvs_that_is_as_wanted_needs_no_lines() -> None:
    made = compiler("ipvs")(view(service(sessionAffinity="ClientIP"), endpoint_slice(ONE, TWO), mode="ipvs"))
    assert isinstance(made, IpvsRuleset)
    assert server_lines(wanted_servers(made), parse_servers(made.ipvsadm_text())) == []
    assert set_lines(made, parse_sets(made.ipset_text())) == []
    assert address_lines(made.addresses, ["10.96.0.50"]) == []


def test_sets_and_addresses_are_filled_and_emptied() -> None:
    ruleset = IpvsRuleset({}, {"KUBE-CLUSTER-IP": ("hash:ip,port", ("10.96.0.50,tcp:80",)),
                               "KUBE-IPVS-IPS": ("hash:ip", ())}, (), NOTHING)  # fmt: skip
    there = parse_sets(
        "create OTHER hash:ip\ncreate KUBE-CLUSTER-IP hash:ip,port\nadd KUBE-CLUSTER-IP 10.96.0.9,tcp:1\n"
    )
    assert set_lines(ruleset, there) == [
        "create KUBE-IPVS-IPS hash:ip",
        "add KUBE-CLUSTER-IP 10.96.0.50,tcp:80",
        "del KUBE-CLUSTER-IP 10.96.0.9,tcp:1",
    ]
    assert address_lines(["10.96.0.50"], ["10.96.0.9"]) == [
        "address add 10.96.0.50/32 dev kube-ipvs0", "address del 10.96.0.9/32 dev kube-ipvs0"]  # fmt: skip


# stale UDP flows


UDP = {"protocol": "udp"}
FLOW = ("--orig-dst", "10.96.0.50", "--orig-port-dst", "80")


def test_flows_of_an_endpoint_that_went_are_stale() -> None:
    flows = stale_flows([traffic(endpoint(1), endpoint(2), **UDP)], [traffic(endpoint(2), **UDP)])
    assert flows == [(*FLOW, "--dst-nat", "10.244.1.1")]


def test_an_endpoint_that_is_no_longer_used_counts_as_gone() -> None:
    down = endpoint(1, state="down")
    flows = stale_flows([traffic(endpoint(1), endpoint(2), **UDP)], [traffic(down, endpoint(2), **UDP)])
    assert flows == [(*FLOW, "--dst-nat", "10.244.1.1")]


def test_flows_from_before_the_first_endpoint_are_stale() -> None:
    assert stale_flows([traffic(**UDP)], [traffic(endpoint(1), **UDP)]) == [FLOW]
    assert stale_flows([], [traffic(endpoint(1), **UDP)]) == [FLOW]
    assert stale_flows([], [traffic(**UDP)]) == []


def test_flows_of_a_service_that_went_are_stale_at_all_its_addresses() -> None:
    gone = traffic(
        endpoint(1), **UDP, node_port=30053, external_ips=("203.0.113.7",), load_balancer_ips=("198.51.100.1",)
    )
    assert stale_flows([gone], []) == sorted(
        [FLOW, ("--orig-dst", "203.0.113.7", *FLOW[2:]), ("--orig-dst", "198.51.100.1", *FLOW[2:]),
         ("--orig-port-dst", "30053"),
         *((*each, "--dst-nat", "10.244.1.1") for each in (
             FLOW, ("--orig-dst", "203.0.113.7", *FLOW[2:]), ("--orig-dst", "198.51.100.1", *FLOW[2:]),
             ("--orig-port-dst", "30053")))]
    )  # fmt: skip


def test_tcp_flows_end_by_themselves() -> None:
    assert stale_flows([traffic(endpoint(1))], []) == []


def test_what_did_not_change_is_not_stale() -> None:
    assert stale_flows([traffic(endpoint(1), **UDP)], [traffic(endpoint(1), endpoint(2), **UDP)]) == []


# --- chains in parts --------------------------------------------------------------------------------------------------


def part(**chains: tuple[str, ...]) -> ChainPart:
    return ChainPart({("nat", name): rules for name, rules in chains.items()})


SAME = part(A=("-A A -j B",), B=("-A B -j C",))
OTHERS = [
    part(S=("-A S -j A",), T=("-A T -j B",)),
    part(S=("-A S -j B",), U=()),
    part(),
    part(T=("-A T -j B",), S=("-A S -j A",)),
]


@pytest.mark.parametrize("before", range(len(OTHERS)))
@pytest.mark.parametrize("after", range(len(OTHERS)))
def test_a_difference_part_by_part_is_that_of_all_chains(before: int, after: int) -> None:
    old, new = ([ChainPart(OTHERS[each]), SAME] for each in (before, after))
    in_parts = difference_text(IptablesRuleset(Chains(new), ()), IptablesRuleset(Chains(old), ()))
    at_once = difference_text(IptablesRuleset(dict(Chains(new)), ()), IptablesRuleset(dict(Chains(old)), ()))
    assert in_parts == at_once


def test_chains_in_parts_are_chains() -> None:
    of_filter = ChainPart({("filter", "F"): ("-A F -j DROP", "-A F -j ACCEPT")})
    chains = Chains([OTHERS[0], of_filter, SAME])
    assert dict(chains) == {**OTHERS[0], **of_filter, **SAME}
    assert (len(chains), list(chains.values())) == (5, list(dict(chains).values()))
    assert IptablesRuleset(chains, ()).counts == {"filter": (1, 2), "nat": (4, 4)}
    assert IptablesRuleset(chains, ()).counts == IptablesRuleset(dict(chains), ()).counts
