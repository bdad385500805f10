"""The examples of every `--help`: each is typed as it stands, in an order in which it works, and has to succeed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from reader_shell import reader, wrong_of

from mininetes.cli.main import cli

WITHOUT_A_LAB = """
mininetes validate my-cluster.yaml; mininetes validate --schema
mininetes doctor -o json
mininetes graph two-racks --fabric vxlan --out racks.svg
mininetes cni-check bridge ./my-plugin --junit cni.xml
mininetes up two-racks --dry-run | less
mininetes new tunnels && cd tunnels && make figures
"""
CLUSTERS = """
mininetes up --nodes 5 --fabric none --lab quiet
mininetes down
mininetes up leaf-spine --set controlPlane.store=etcd
"""
LAB = """
mininetes up
mininetes ls -o json
mininetes status lab1 -o json
export KUBECONFIG=$(mininetes kubeconfig --path); kubectl get nodes
mininetes get pods -A -o wide
mininetes exec node1 -- ip route
mininetes shell --mininet
mininetes probe reachability
mininetes probe reachability --protocol udp
mininetes probe latency --count 200 --interval 0.05
mininetes probe ports --timeout 3
mininetes apply -f web.yaml --dry-run
mininetes apply -f web.yaml
mininetes truth-table --service web --mode iptables --mode nftables
mininetes rules --mode iptables --node node1 -f objects.json | mininetes exec node1 -- iptables-restore --test
mininetes agents ls
mininetes agents ls -o json
mininetes agents restart node1 kube-apiserver
mininetes agents stop node2 kubelet
mininetes agents start node2 kubelet
mininetes delete pod node1-1
mininetes node add
mininetes node rm node3
mininetes down lab1
"""
NETWORKS = """
+ mininetes up --nodes 2 --set controlPlane.store=none
mininetes net ls
mininetes net ls --node node1
mininetes net inspect bridge --node node1
mininetes net create lan --driver macvlan --node node1 -o parent=eth0
mininetes container run web --node node1
mininetes container ls -o json
mininetes container rm web
+ mininetes net create front --node node1
+ mininetes net create back --node node1
mininetes container run web --node node1 --network front -p 8080:80
mininetes net connect front pod/node1-1
mininetes probe networks front back
mininetes net disconnect front pod/node1-1
+ mininetes container rm web
mininetes net rm front
"""
RESULTS = """
mininetes run --list
mininetes run fabrics --dry-run --verbose
mininetes run quickstart --set fabric=none --out results/none
mininetes run proxy_modes --size figures --out results/modes --resume
+ mininetes run sync_time --set mode=nftables --set services=5 --repetitions 10 --out results/before
+ cp -r results/before results/after; cp -r results/before results/first_packet; cp -r results/modes results/proxy_modes
mininetes compare results/before results/after --threshold 0.03
mininetes report results/first_packet results/proxy_modes --out paper.html
"""
SESSIONS = {"no lab": WITHOUT_A_LAB, "clusters": CLUSTERS, "lab": LAB, "networks": NETWORKS, "results": RESULTS}
"""What is typed, in its order; lines with "+ " are no examples, but what these need."""

INSTEAD = {
    "mininetes new tunnels && cd tunnels && make figures":  # test_new_live.py has the figures
        "mininetes new tunnels && cd tunnels && make -n figures",
    "mininetes cni-check bridge ./my-plugin --junit cni.xml":  # a minute, and bridge breaks a rule: test_cni_check.py
        "mininetes cni-check bridge ./my-plugin --junit cni.xml --rule add-succeeds",
    "mininetes run proxy_modes --size figures --out results/modes --resume":  # takes minutes
        "mininetes run proxy_modes --size figures --out results/modes --resume --set mode=iptables --repetitions 1",
    "mininetes compare results/before results/after --threshold 0.03":  # the machine is busy with other tests
        "mininetes compare results/before results/after --threshold 0.03 --saturated",
    "mininetes up two-racks --dry-run | less":  # which small machines lack
        "mininetes up two-racks --dry-run | cat",
    "mininetes shell --mininet":  # asks what to do
        "mininetes shell --mininet <<<exit",
}  # fmt: skip
"""What is typed in place of an example, and why."""


def all_of(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from all_of(found)


def examples() -> set[str]:
    """Each line of each epilog, and what the help of `mininetes` itself begins with."""
    found = set(re.findall(r"^ *(mininetes .*?) {3,}", cli.help or "", re.MULTILINE))
    for command in all_of(cli):
        text = re.sub(r"^\s*Examples?:", "", (command.epilog or "").replace("\b", ""))
        found |= {line.strip() for line in text.splitlines() if line.strip()}
    return found


def lines_of(session: str) -> list[str]:
    return session.strip().splitlines()


def test_each_example_is_typed_and_nothing_else() -> None:
    typed = {line for session in SESSIONS.values() for line in lines_of(session) if not line.startswith("+ ")}
    assert len(typed) > 45
    assert typed == examples()
    assert typed > {*INSTEAD}


@pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS)
def test_examples_work(session: str, tmp_path: Path) -> None:
    lines = lines_of(session)
    with reader(tmp_path) as terminal:
        wrong = wrong_of(terminal, [INSTEAD.get(line, line.removeprefix("+ ")) for line in lines])
    assert not wrong, "\n\n".join(wrong)
