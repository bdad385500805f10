"""Commands that pages name outside of console blocks: each is typed in a shell, and has to succeed.

Where the page leaves something open (NODE, FILE), it gets what the lab has; what would take minutes is made smaller.
"""

from __future__ import annotations

import re
import socket
from functools import cache
from pathlib import Path

import pytest
from page_commands import ON_A_NODE, commands
from reader_shell import ROOT, reader, wrong_of

README, TROUBLES = ROOT / "README.md", ROOT / "docs" / "troubleshooting.md"
OTHERS = [page for page in sorted((ROOT / "docs").glob("*.md")) if page not in (TROUBLES, ROOT / "docs/commands.md")]
GROUPS = {"README": [README], "troubleshooting": [TROUBLES], "others": OTHERS}
"""Each group has a lab of its own; what an earlier group typed is not typed again."""

OPEN = {
    "mininetes validate FILE": "mininetes validate kind.yaml",
    "mininetes apply -f FILE": "mininetes apply -f web.yaml",
    "mininetes up FILE": "mininetes up kind.yaml",
    "mininetes up NAME": "mininetes up islands",
    "--parts DIR ...": "--parts own run --list",
    "--parts DIR": "--parts own",
    "--set FIELD=VALUE": "--set firewall=kubernetes",
    "--underlay NAME": "--underlay single_switch",
    "--fabric NAME": "--fabric none",
    "--cni NAME": "--cni chained",
    "--proxy MODE": "--proxy nftables",
    "--nodes N --pods N": "--nodes 2 --pods 1",
    "--lab NAME": "--lab lab1",
    "MININETES_LAB=NAME": "MININETES_LAB=lab1",
    "pod/NAME": "pod/node1-1",
    "pod NAME": "pod node1-1",
    "--service NAME": "--service kubernetes",
    "NODE": "node1",
    "ADDRESS": "10.244.2.2",
    "sudo make demo": "make demo",
    "sudo .venv/bin/mininetes": "mininetes",
    "vagrant ssh -c 'cd /vagrant && make demo'": "make demo",
    "vagrant ssh -c 'tar c -C /vagrant results' -- -T": "tar c results",
    "vagrant ssh -c 'mininetes up --api-port 6443'": "mininetes up --api-port PORT",
    "vagrant ssh -c 'mininetes kubeconfig' -- -T": "mininetes kubeconfig",
}
"""What a page leaves open, or says in a machine of its own, and what stands in for it."""

QUICKSTART = "mininetes run quickstart --set probes=5"
CURL = "curl --silent --retry 30 --retry-delay 1 --retry-connrefused"
SMALLER = {
    "make demo": f"$(make -n --no-print-directory -C {ROOT} demo | tail -n 1)",  # without set-up: test_provision.py
    "make help": f"make -C {ROOT} help",
    "mininetes cni-check ./my-plugin --config my.conflist":
        "mininetes cni-check ./my-plugin --config my.conflist --rule add-succeeds",  # all: test_guide_parts.py
    "mininetes cni-check bash-bridge bridge":
        "mininetes cni-check bash-bridge bridge --rule add-succeeds",  # all: test_cni_check.py
    "mininetes exec client1 -- curl http://192.168.1.11:30080":
        f"mininetes apply -f web.yaml && mininetes exec client1 -- {CURL} http://192.168.1.11:30080",
    "mininetes truth-table --mode first-only":
        "mininetes --parts own truth-table --mode first-only --service kubernetes",
    "mininetes truth-table --mode iptables --mode nftables":
        "mininetes truth-table --mode iptables --mode nftables --service kubernetes",
    "mininetes --parts DIR run round_trips --repetitions 10 --out results/round-trips":
        "mininetes --parts own run round_trips --set probes=5 --repetitions 1 --out results/round-trips",
    "mininetes run NAME --size figures --out results/NAME": f"{QUICKSTART} --size figures --out results/quickstart",
    "mininetes run NAME ... --resume": f"{QUICKSTART} --size figures --out results/quickstart --resume",
    "mininetes run NAME --out results/NAME": f"{QUICKSTART} --out results/full",
    "mininetes run EXPERIMENT --out DIR": f"{QUICKSTART} --out results/full",
    "mininetes run NAME": f"{QUICKSTART} --out results/full",
    "mininetes run scale --size figures":
        "mininetes run scale --size figures --set nodes=3 --set pods_per_node=4",
    "mininetes run scale": "mininetes run scale --size figures --set nodes=3 --set pods_per_node=4",
    "mininetes run sync_time --size figures --set services=500,2000":
        "mininetes run sync_time --size figures --set services=5 --set mode=nftables --repetitions 1",
    "mininetes run first_packet":
        "mininetes run first_packet --set services=5 --set probes=5 --set mode=nftables --repetitions 1",
    "mininetes report results/vm": "mininetes report results/quickstart",
    # at a terminal: test_kubelet_containers_live.py
    "kubectl run -it --rm tmp --image=any -- bash": "echo exit | kubectl run -i --rm tmp --image=any -- bash",
    "kubectl debug node/node2 -it --image=any -- bash": "echo exit | kubectl debug node/node2 -i --image=any -- bash",
}  # fmt: skip
"""What is typed in place of a command that takes minutes, or needs something first."""

NAMES = {
    *("mininetes cni-check", "mininetes exec", "mininetes new", "mininetes node rm", "mininetes report"),
    *("mininetes rules", "mininetes run", "mininetes validate", "mn --custom", "ip -batch", "ip -batch -"),
    *("git clone", "kubectl apply", "kubectl attach"),
}
"""These name a command or a way to call it; what it works on is not said."""

ELSEWHERE = {
    "mininetes run proxy_modes --size figures --out results/modes": "test_help_examples.py, as these two",
    "mininetes report results/modes": "",
    "mininetes compare results/before results/after": "",
    "mininetes exec node3 -- ip link set eth0 down": "others would fail then; test_membership_live.py",
    "mininetes truth-table --proxy-exec ./my-proxy": "test_truth_exec.py, with several programs",
    "mn --custom topologies/underlays/three_node.py --topo three_node":
        "changes limits of the whole machine: in a sandbox by test_underlays_live.py",
    "make test": "is what runs this",
    "make check": "most of it is a part of `make test`; the linters are no test's",
    "make figures": "an hour; test_experiments_script.py, and in a new repository test_new_live.py",
    "make experiments": "hours; test_experiments_script.py",
    "make mutants": "hours; test_mutants.py",
    "make bench": "minutes on a machine that does nothing else; no test runs it",
    "make vm": "a virtual machine: test_vm_command.py",
    'make vm ARGS="doctor"': "the same",
    'make vm ARGS="up --proxy ipvs"': "the same, and test_vm_ipvs.py",
    'make vm ARGS="run proxy_modes --out results/vm"': "the same, and test_vm_experiments.py",
    'make vm ARGS="run fairness --set mode=ipvs --size figures --out results/vm"': "the same",
    "sudo make test-install": "hours, and asks package archives; no test runs it",
    "pip install DIR[test]": "asks for packages; test_wheel.py builds what it installs",
    "pytest -n 4": "test_pytest_plugin.py",
    "vagrant up": "VirtualBox or libvirt, and the download of a machine; test_vagrantfile.py",
    "vagrant ssh": "the same, as all of these",
    "vagrant rsync": "",
    "vagrant rsync-auto": "",
    "vagrant halt": "",
    "vagrant destroy": "",
}  # fmt: skip
"""What is not typed here, and why, or which test has it."""

AFTER = {"mininetes agents stop node1 kube-scheduler": "mininetes agents start node1 kube-scheduler"}
"""What is typed after a command, so that the lab is as it was."""


@cache
def free_port() -> int:
    """A port of this machine that nobody has at the moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def typed(command: str) -> str:
    """What is typed for a command of a page."""
    for open_, given in {} if command in SMALLER else OPEN.items():
        command = command.replace(open_, given)
    command = SMALLER.get(command, command)
    if re.match(rf"(?:{ON_A_NODE}) ", command):
        command = f"mininetes exec node1 -- {command}"
    return command.replace("--api-port PORT", f"--api-port {free_port()}")


def lines_of(group: str) -> list[str]:
    """What is typed for a group of pages."""
    found: dict[str, list[str]] = {}
    seen = {"mininetes up"}  # by test_guide.py
    for name, pages in GROUPS.items():
        named = [each for page in pages for each in commands(page) if each not in NAMES and each not in ELSEWHERE]
        found[name] = [each for each in dict.fromkeys(map(typed, named)) if each not in seen]
        seen |= {*found[name]}
    return found[group]


def is_up(line: str) -> bool:
    return re.match(r"mininetes (?:--parts own )?up ", line) is not None


@pytest.mark.parametrize("group", ["README", "others"])
def test_clusters_come_up(group: str, tmp_path: Path) -> None:
    ups = [each for each in lines_of(group) if is_up(each)]
    assert len(ups) >= 6
    with reader(tmp_path) as terminal:
        wrong = wrong_of(terminal, [line for each in ups for line in (each, "mininetes down --all")])
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("group", GROUPS)
def test_what_else_is_named_works_in_a_lab(group: str, tmp_path: Path) -> None:
    lines = [each for each in lines_of(group) if not is_up(each)]
    assert len(lines) >= 10
    start = ["mininetes up", "mininetes kubeconfig >kubeconfig"]
    with reader(tmp_path) as terminal:
        all_ = [line for each in [*start, *lines] for line in (each, AFTER.get(each)) if line]
        wrong = wrong_of(terminal, all_)
    assert not wrong, "\n\n".join(wrong)


def test_what_the_tables_speak_of_is_on_a_page() -> None:
    named = {each for pages in GROUPS.values() for page in pages for each in commands(page)}
    inside = {typed(each) for each in named} | named
    assert [each for each in (*ELSEWHERE, *NAMES, *AFTER) if each not in named] == []
    assert [each for each, given in SMALLER.items() if each not in named and given not in inside] == []
    assert [each for each in OPEN if not any(each in command for command in named)] == []


def test_the_tests_that_the_tables_name_are_there() -> None:
    named = re.findall(r"test_\w+\.py", Path(__file__).read_text())
    assert len(named) >= 12
    assert [each for each in named if not [*(ROOT / "tests").rglob(each)]] == []


def test_how_commands_are_found_and_typed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`mininetes ls`, `mininetes\nls`, `bridge link`, `--set a=b`\n\n"
        "```\nmake demo   sets up    make help\nmininetes/   the engine\n```\n\n"
        "```console\n$ mininetes down\n```\n\n`kubectl apply`\n"
    )
    assert commands(page) == ["mininetes ls", "bridge link", "make demo", "make help", "kubectl apply"]
    assert typed("bridge link") == "mininetes exec node1 -- bridge link"
    assert typed("mininetes exec NODE -- ls") == "mininetes exec node1 -- ls"


def test_what_fails_is_noticed_and_nothing_is_written_here(tmp_path: Path) -> None:
    with reader(tmp_path) as terminal:
        wrong = wrong_of(terminal, ["true", "false | cat", "exit 3"])
        with pytest.raises(AssertionError):
            wrong_of(terminal, ["cat web.yaml | iptables-restore --test"])
    assert [each.splitlines()[:2] for each in wrong] == [
        ["$ false | cat", "ended with status 1, and printed:"],
        ["$ exit 3", "ended with status 3, and printed:"],
    ]
