"""CNI plugins with one defect each: a bash script around a right one, which `test_cni_check` lets cni-check find.

The scripts have these words: ``is CMD|CMD`` whether it is that command, ``has TEXT`` whether the configuration has a
text, ``run`` the right plugin, ``edit FROM TO`` the right plugin with its result changed, ``inside`` a command in the
container, ``error CODE MSG`` an error result, and ``in_container NAME``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_WORDS = r"""#!/bin/bash
real={real}
conf=$({reads})
is() {{ local each; for each in ${{1//|/ }}; do [[ ${{CNI_COMMAND-}} != "$each" ]] || return 0; done; return 1; }}
has() {{ [[ $conf == *"$1"* ]]; }}
run() {{ printf '%s' "$conf" | "$real"; }}
edit() {{ local out; out=$(run) || {{ printf '%s\n' "$out"; exit 1; }}; printf '%s\n' "${{out/"$1"/"$2"}}"; exit; }}
inside() {{ nsenter --net="$CNI_NETNS" "$@" 2>/dev/null; }}
error() {{ printf '{{"cniVersion": "1.1.0", "code": %d, "msg": "%s"}}' "$1" "$2"; exit 1; }}
in_container() {{ [[ ${{CNI_NETNS-}} == /run/netns/$1 ]]; }}
success='{{"cniVersion": "1.1.0"}}'
me=${{CNI_CONTAINERID-}}
{defect}
run
"""


@dataclass(frozen=True)
class Wrong:
    """A plugin that breaks ``rule``, and unavoidably those in ``also`` ("all": each that is tried with it)."""

    rule: str
    defect: str
    also: tuple[str, ...] = ()
    kind: str = "interface"
    reads: str = "cat"

    def write(self, folder: Path, real: Path) -> Path:
        """Make the plugin."""
        path = folder / f"wrong-{self.rule}"
        path.write_text(_WORDS.format(real=real, reads=self.reads, defect=self.defect))
        path.chmod(0o755)
        return path


_RECORDED = "has cni-check-recorder"

ADD = [
    Wrong("add-succeeds", "is ADD && { run; echo done; exit; }", ("all",)),
    Wrong("result-version", """is ADD && edit '"cniVersion": "1.1.0"' '"cniVersion": "0.9.0"'"""),
    Wrong("result-shape", """is ADD && edit '"address": "' '"cidr": "'"""),
    Wrong("result-addresses", """is ADD && edit '"ips"' '"sip"'""", kind="ipam"),
    Wrong("ipam-touches-nothing", "is ADD && inside ip route replace 192.0.2.0/24 dev lo", kind="ipam"),
    Wrong("add-makes-interface", "is ADD && [[ $CNI_IFNAME == net-7.x ]] && export CNI_IFNAME=net7"),
    Wrong("result-names-interface", """is ADD && edit '"sandbox": "/run' '"sandbox": "/var/run'""",
          ("result-interfaces-exist",)),
    Wrong("result-interfaces-exist", """is ADD && edit '"name": "cni0"' '"name": "cni9"'"""),
    Wrong("result-macs", """is ADD && edit '"mac": "0a:58' '"mac": "0a:59'"""),
    Wrong("result-mtus", """is ADD && edit '"name": "cni0", ' '"name": "cni0", "mtu": 77, "was": 1, '
          is ADD && edit '"mtu": 1500' '"mtu": 77'"""),
    Wrong("result-ips", """is ADD && { run || exit; inside ip addr add 192.0.2.9/24 dev "$CNI_IFNAME"; exit; }"""),
    Wrong("result-routes", "is ADD && { run || exit; inside ip route del default; exit; }"),
    Wrong("result-dns", """is ADD && edit '"nameservers"' '"servers"'"""),
    Wrong("prev-result-kept", """is ADD && edit '"dns": {' '"nds": {'""", kind="chained"),
    Wrong("name-taken", """is ADD && inside ip link show other >/dev/null && inside ip link del "$CNI_IFNAME" """),
    Wrong("add-twice", """is ADD && [[ $(inside ip addr show "$CNI_IFNAME") == *"inet 10.88"* ]] &&
          { echo "$success"; exit; }"""),
    Wrong("two-interfaces", "is ADD && [[ $CNI_IFNAME == eth1 ]] && error 100 eth1"),
    Wrong("args-ignored", """has '"weights"' && error 2 args"""),
    Wrong("stdin-long", "((${#conf} > 100000)) && error 5 long"),
    Wrong("stdin-in-pieces", "", ("stdin-long",), reads="dd bs=1M count=1 2>/dev/null"),
]  # fmt: skip

DEL = [
    Wrong("del-removes-interface", 'is ADD && ip link add "s${me:0:8}" type veth peer name "t${me:0:8}"'),
    Wrong("del-restores-container", "is ADD && inside ip route replace 192.0.2.0/24 dev lo"),
    Wrong("del-twice", 'is DEL && { [[ -e /run/gone.$me ]] && error 100 twice; : >"/run/gone.$me"; }'),
    Wrong("del-without-netns", "is DEL && [[ -z ${CNI_NETNS+x} ]] && error 4 CNI_NETNS"),
    Wrong("del-empty-netns", "is DEL && [[ ${CNI_NETNS-x} == '' ]] && error 4 CNI_NETNS"),
    Wrong("del-netns-gone", "is DEL && [[ -n ${CNI_NETNS-} && ! -e $CNI_NETNS ]] && error 100 CNI_NETNS"),
    Wrong("del-never-added", 'is ADD && : >"/run/added.$me"\nis DEL && [[ ! -e /run/added.$me ]] && error 3 unknown'),
    Wrong("del-without-prev-result", """is ADD && : >"/run/added.$me"
          is DEL && ! has prevResult && [[ -e /run/added.$me ]] && error 7 prevResult"""),
    Wrong("del-keeps-others", """is DEL && for each in /run/netns/*; do
          [[ $each == "${CNI_NETNS-}" ]] || nsenter --net="$each" ip link set lo down 2>/dev/null; done"""),
]  # fmt: skip

_SHOWN = 'is CHECK && seen=$(inside ip addr show "$CNI_IFNAME") &&'
CHECK = [
    Wrong("check-passes", "is CHECK && { run || exit; echo fine; exit; }"),
    Wrong("check-without-prev-result", "is CHECK && ! has prevResult && exit 0"),
    Wrong("check-interface-gone", 'is CHECK && ! inside ip link show "$CNI_IFNAME" >/dev/null && exit 0'),
    Wrong("check-interface-down", f"{_SHOWN} [[ $seen != *,UP* ]] && exit 0"),
    Wrong("check-address-gone", f"""{_SHOWN} [[ $seen == *,UP*"inet 10.88."* ]] &&
          [[ $seen != *"inet 10.88.0.2/"* ]] && exit 0"""),
    Wrong("check-route-gone", f"""{_SHOWN} [[ $seen == *,UP*"inet 10.88.0.2/"* ]] &&
          [[ -z $(inside ip route show default) ]] && exit 0"""),
    Wrong("check-host-interface-gone", "is CHECK && [[ ! -e /sys/class/net/cni0 ]] && exit 0"),
    Wrong("check-off-the-bridge", f"""{_SHOWN} [[ -n $seen && -e /sys/class/net/cni0 ]] &&
          [[ -z $(ls /sys/class/net/cni0/brif) ]] && exit 0"""),
    Wrong("check-other-mac", f"{_SHOWN} [[ $seen == *02:00:00:00:00:99* ]] && exit 0"),
    Wrong("check-reservation-gone", "is CHECK && exit 0", kind="ipam"),
]  # fmt: skip

DELEGATE = [
    Wrong("delegate-called", f"{_RECORDED} && is CHECK && export CNI_CONTAINERID=other"),
    Wrong("delegate-configuration", """conf=${conf/'"flavour": "own"'/'"flavour": "other"'}"""),
    Wrong("delegate-address-used", f"{_RECORDED} && is ADD && {{ run || exit; inside ip addr flush dev eth0; exit; }}",
          ("delegate-called", "delegate-configuration", "delegate-check-error")),
    Wrong("delegate-add-error", f"{_RECORDED} && is ADD && {{ run && exit; exec >/dev/null; exit 0; }}"),
    Wrong("delegate-undone", "is ADD && [[ -e /run/delegate/fail-ADD ]] && error 100 no"),
    Wrong("delegate-check-error", f"{_RECORDED} && is CHECK && {{ run >/dev/null; exit 0; }}"),
    Wrong("delegate-del-error", f"{_RECORDED} && is DEL && {{ run >/dev/null; exit 0; }}"),
]  # fmt: skip

STATUS = [
    Wrong("gc-succeeds", """is GC && has 'attachments": []' && error 100 none"""),
    Wrong("gc-removes", "is GC && has rangeStart && exit 0"),
    Wrong("gc-removes-files", 'is ADD && : >"/run/mine.$me"\nis DEL && rm -f "/run/mine.$me"'),
    Wrong("gc-keeps", f"""is GC && ! {_RECORDED} &&
          conf=$(sed 's/valid-attachments": [[][^]]*[]]/valid-attachments": []/' <<<"$conf")"""),
    Wrong("gc-keeps-other-interface", "is GC && [[ $(ls /run/netns) == a ]] && exit 0", kind="ipam"),
    Wrong("gc-delegated", f"is GC && {_RECORDED} && [[ ! -e /run/delegate/fail-GC ]] && exit 0"),
    Wrong("gc-reports-error", f"is GC && {_RECORDED} && {{ run >/dev/null; exit 0; }}"),
    Wrong("status-ready", "is STATUS && { run || exit; echo ready; exit; }"),
    Wrong("status-delegated", "is STATUS && exit 0"),
    Wrong("status-not-needed", "is ADD && [[ -e /run/delegate/fail-STATUS ]] && error 50 no"),
]  # fmt: skip

LIFE = [
    Wrong("parallel-adds", """is ADD && [[ -e /run/netns/c7 && ! -e /run/netns/first ]] && in_container c3 &&
          error 11 no"""),
    Wrong("parallel-dels", "is DEL && in_container c3 && error 11 no"),
    Wrong("leaves-nothing", 'is ADD && in_container b && : >"/run/log.$me"'),
    Wrong("failed-add-leaves-nothing", "is ADD && in_container failing && ip link add x0 type veth peer name x1"),
    Wrong("exhaustion", 'is ADD && has rangeStart && in_container c && { echo "$success"; exit; }'),
    Wrong("exhausted-add-leaves-nothing", 'is ADD && in_container late && : >"/run/late.$me"'),
    Wrong("killed-add", """is ADD && { : >"/run/half.$me"; run || status=$?
          sleep 0.3; rm "/run/half.$me"; exit $status; }"""),
]  # fmt: skip

CALL = [
    Wrong("version-answers", "is VERSION && error 100 no"),
    Wrong("version-echoes", """is VERSION && conf='{"cniVersion": "1.0.0"}'"""),
    Wrong("command-missing", "[[ -z ${CNI_COMMAND-} ]] && exit 0"),
    Wrong("command-unknown", "is FLY && error 3 unknown"),
    Wrong("container-id-missing", "is 'ADD|DEL' && [[ -z $me ]] && error 4 required"),
    Wrong("ifname-missing", "is 'ADD|DEL' && [[ -z ${CNI_IFNAME-} ]] && error 4 required"),
    Wrong("netns-missing", "is ADD && [[ -z ${CNI_NETNS-} ]] && error 4 required"),
    Wrong("container-id-wrong", "is ADD && [[ $me == *[!a-zA-Z0-9_.-]* ]] && error 100 CNI_CONTAINERID"),
    Wrong("ifname-wrong", "is ADD && [[ ${CNI_IFNAME-} == *:* ]] && error 7 CNI_IFNAME"),
    Wrong("netns-not-there", """is ADD && [[ ${CNI_NETNS-} == /etc/hostname ]] && { echo "$success"; exit; }"""),
    Wrong("json-broken", "[[ $conf == 'cniVersion: '* ]] && error 7 no"),
    Wrong("stdin-empty", "is ADD && [[ -z $conf ]] && error 7 empty"),
    Wrong("version-unknown", "has 9.9.9 && error 7 version"),
    Wrong("name-wrong", """has '"name": "a b"' && error 100 name"""),
    Wrong("error-codes", "[[ $conf == '[]' ]] && error 42 list"),
    Wrong("error-version", """is ADD && { out=$(run); status=$?
          printf '%s' "${out/'"1.1.0"'/'"1.0.0"'}"; exit $status; }"""),
]  # fmt: skip

WRONG = [*ADD, *DEL, *CHECK, *DELEGATE, *STATUS, *LIFE, *CALL]
