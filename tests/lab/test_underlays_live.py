"""Every underlay and every ready-made cluster, brought up for real: by its file alone, by stock Mininet, by `up`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_lab import REPOSITORY, RunningLab, environment, fresh_name, is_left, mininetes, run, running

from mininetes import parts
from mininetes.kernel import features

UNDERLAYS = parts.names("underlay")
CLUSTERS = parts.names("cluster")
STARS = ("single_switch", "three_node")
SYSTEM_PYTHON = "/usr/bin/python3"


def file_of(underlay: str) -> Path:
    return REPOSITORY / "topologies" / "underlays" / f"{underlay}.py"


def dropped(output: str) -> str:
    """What Mininet's pingall says in the end."""
    found = re.findall(r"Results: (\d+)% dropped \((\d+)/(\d+) received\)", output)
    assert found, output
    percent, received, sent = found[-1]
    assert int(sent) > 0
    return f"{percent}% {received}/{sent}"


def all_of(hosts: int) -> str:
    pairs = hosts * (hosts - 1)
    return f"0% {pairs}/{pairs}"


# --- by its file alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("underlay", UNDERLAYS)
def test_the_file_alone_brings_its_cluster_up_and_leaves_nothing(underlay: str, tmp_path: Path) -> None:
    """With the system's Python, from anywhere; nodes, routers and clients outside all reach each other."""
    name = fresh_name("alone")
    done = run([SYSTEM_PYTHON, str(file_of(underlay)), "--lab", name], stdin="nodes\npingall\nexit\n", cwd=tmp_path)
    assert done.status == 0, done
    output = done.stdout + done.stderr
    hosts = set(re.findall(r"^(\w+) -> ", output, re.MULTILINE))
    assert {"node1", "node2", "node3", "gw", "client1", "blocked1"} <= hosts
    assert dropped(output) == all_of(len(hosts))
    assert not is_left(name)


def test_the_files_own_arguments_go_to_up(tmp_path: Path) -> None:
    name = fresh_name("alone")
    command = [SYSTEM_PYTHON, str(file_of("racks")), "--lab", name, "--nodes", "4", "--pods", "1", "--fabric", "none"]
    done = run(command, stdin="node4 ip -4 -brief address\nexit\n", cwd=tmp_path)
    assert done.status == 0, done
    assert "192.168.1.140/25" in done.stdout + done.stderr
    assert "10.244.4.1/24" in done.stdout + done.stderr
    assert not is_left(name)


# --- with stock Mininet -------------------------------------------------------------------------------------------

# A sandbox, so that nothing of Mininet's can be left; limits of the whole machine, which Mininet raises, are read-only.
SANDBOX = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
USER_NAMESPACE = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
PREPARE = """
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs /sys
for path in /proc/sys/kernel /proc/sys/fs; do
    mount --bind $path $path
    mount -o remount,bind,ro $path
done
ip link set lo up
exec "$@"
"""


def stock(underlay: str, *arguments: str, stdin: str = "") -> str:
    mn = ["/usr/bin/mn", "--custom", str(file_of(underlay)), "--topo", *arguments]
    options = ["--switch", "lxbr", "--controller", "none"]
    done = run(
        [*SANDBOX, *USER_NAMESPACE, "sh", "-ec", PREPARE, "sh", SYSTEM_PYTHON, *mn, *options],
        stdin=stdin,
        cwd=Path("/"),
    )
    assert done.status == 0, done
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("underlay", STARS)
def test_stock_mininet_loads_a_star_and_all_reach_all(underlay: str) -> None:
    assert dropped(stock(underlay, underlay, "--test", "pingall")) == all_of(3)


def test_stock_mininet_gives_the_topo_its_parameters() -> None:
    output = stock("single_switch", "single_switch,nodes=5,gateway=True", "--test", "pingall")
    assert dropped(output) == all_of(6)


@pytest.mark.parametrize("underlay", [name for name in UNDERLAYS if name not in STARS])
def test_stock_mininet_loads_the_others_and_nodes_of_one_rack_reach_each_other(underlay: str) -> None:
    """Routes between racks are the engine's work: stock Mininet gives addresses only."""
    output = stock(underlay, underlay, stdin="net\nnode1 ping -c 1 -W 2 node2\nnode3 ping -c 1 -W 2 node4\nexit\n")
    assert output.count(" 0% packet loss") == 2, output
    assert "node4 eth0:s2-eth" in output


# --- ready-made clusters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_ready_made_cluster_comes_up_with_a_matrix_that_holds(cluster: str) -> None:
    with running(str(REPOSITORY / "topologies" / "clusters" / f"{cluster}.yaml")) as lab:
        probed = lab.probe("--attempts", "1")
        assert [str(cell) for cell in probed.matrix.mismatches] == []
        assert probed.status == 0
        assert lab.status()[0] == 0


@pytest.mark.parametrize(
    "parameters",
    [["racks", "racks=2"], ["racks", "racks=3"], ["leaf_spine", "leaves=2", "spines=2"], ["leaf_spine", "leaves=3"]],
    ids="-".join,
)
def test_over_routers_static_routes_let_all_pods_reach_all(parameters: list[str]) -> None:
    underlay, *rest = parameters
    settings = [word for each in rest for word in ("--set", f"underlay.parameters.{each}")]
    with running("--underlay", underlay, "--nodes", "4", "--pods", "2", *settings) as lab:
        for protocol in ("icmp", "tcp"):
            probed = lab.probe("--protocol", protocol, "--attempts", "1")
            assert probed.status == 0, probed.matrix.mismatches
            assert all(cell.reached for cell in probed.matrix.cells)
        assert len(lab.pods) == 8


def test_over_spines_both_ways_are_in_use() -> None:
    """The leaf shares flows out between its two ways up, so that packets leave by both."""
    with running("--underlay", "leaf_spine", "--nodes", "2", "--pods", "4") as lab:
        routes = lab.exec("leaf1", "ip", "route", "show", "10.244.2.0/24")
        assert routes.count("nexthop via") == 2
        lab.probe("--protocol", "udp")
        for device in ("eth1", "eth2"):
            sent = json.loads(lab.exec("leaf1", "ip", "-json", "-stats", "link", "show", device))
            assert sent[0]["stats64"]["tx"]["packets"] > 0, device


# --- links that are slow ------------------------------------------------------------------------------------------


@contextmanager
def iperf_server(lab: RunningLab, node: str) -> Iterator[None]:
    """iperf3 for one measurement, listening."""
    argv = lab.argv(node, "iperf3", "--server", "--one-off")
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        deadline = time.monotonic() + 10
        while ":5201" not in lab.exec(node, "ss", "--listening", "--tcp", "--numeric", "--no-header"):
            assert time.monotonic() < deadline, "iperf3 does not listen"
        yield
        server.wait(10)
    finally:
        server.kill()
        server.wait()


def test_a_links_bandwidth_is_really_limited() -> None:
    asked = 20
    settings = ("--set", f"underlay.parameters.bw={asked}")
    with running("--underlay", "single_switch", "--nodes", "2", "--pods", "0", *settings) as lab:
        with iperf_server(lab, "node2"):
            said = lab.exec("node1", "iperf3", "--client", lab.address("node2"), "--time", "2", "--json")
        mbit = json.loads(said)["end"]["sum_received"]["bits_per_second"] / 1e6
        assert 0.8 * asked <= mbit <= 1.2 * asked


def netem_is_here() -> bool:
    (verdict,) = [each for each in features.check_all() if each.name == "netem" and each.kind == "feature"]
    return verdict.here


def round_trips_ms(lab: RunningLab, source: str, target: str, count: int) -> list[float]:
    text = lab.exec(source, "ping", "-c", str(count), "-i", "0.2", "-W", "2", lab.address(target))
    return [float(found) for found in re.findall(r"time=([\d.]+) ms", text)]


@pytest.mark.parametrize("setting", ["delay=20ms", "loss=50"])
def test_delay_and_loss_are_real_or_refused_by_name_before_anything_is_built(setting: str) -> None:
    arguments = ["--underlay", "single_switch", "--nodes", "2", "--pods", "0"]
    arguments += ["--set", f"underlay.parameters.{setting}"]
    if not netem_is_here():
        name = fresh_name()
        done = mininetes("up", "--lab", name, *arguments)
        assert done.status == 3
        assert len(done.stderr.splitlines()) == 1
        assert "netem" in done.stderr
        assert "links with delay or loss" in done.stderr
        assert not is_left(name)
        return
    with running(*arguments) as lab:
        if setting.startswith("delay"):
            # each way over two links, each with 20 ms: 80 ms for the round trip
            assert all(80 <= time_ms < 120 for time_ms in round_trips_ms(lab, "node1", "node2", 3)[1:])
        else:
            pings = lab.try_exec("node1", "ping", "-c", "40", "-i", "0.02", "-W", "1", lab.address("node2"))
            received = re.search(r"(\d+) received", pings.stdout)
            assert received is not None
            assert int(received[1]) < 30


# --- Mininet's own command line -----------------------------------------------------------------------------------


def mininet_says(lab: RunningLab, *commands: str) -> str:
    done = lab.command("shell", "--mininet", stdin="\n".join([*commands, "exit"]) + "\n")
    assert done.status == 0, done
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_mininets_command_line_works_on_a_running_cluster(three_nodes: RunningLab) -> None:
    output = mininet_says(
        three_nodes,
        "node1 hostname",
        "py net.get('node1').IP()",
        "py net.get('node2').MAC()",
        "nodes",
        "links",
        "net",
        "dump",
        "node1 ip route",
        "node1 ping -c 1 -W 2 node2",
        "pingall",
    )
    lines = output.splitlines()
    assert "node1" in [line.removeprefix("mininet> ") for line in lines]
    assert any(line.endswith("192.168.1.11") for line in lines)
    assert any(line.endswith("02:00:c0:a8:01:0c") for line in lines)
    assert "10.244.2.0/24 via 192.168.1.12 dev eth0" in output
    assert re.search(r"node1-eth0<->s1-eth\d|node1 eth0:s1-eth\d", output)
    assert "(OK OK)" in output
    assert "1 received" in output
    assert dropped(output) == all_of(6)


def test_leaving_mininets_command_line_changes_nothing(three_nodes: RunningLab) -> None:
    before = three_nodes.exec("node1", "ip", "address"), three_nodes.exec("", "bridge", "link")
    mininet_says(three_nodes, "node1 true")
    assert (three_nodes.exec("node1", "ip", "address"), three_nodes.exec("", "bridge", "link")) == before
    assert three_nodes.status()[0] == 0


def test_a_switch_that_is_stopped_in_mininets_command_line_forwards_nothing_until_it_starts() -> None:
    with running("--nodes", "2", "--pods", "0") as lab:
        mininet_says(lab, "switch s1 stop")
        assert lab.probe("--timeout", "0.2").reached() == set()
        mininet_says(lab, "switch s1 start")
        for source, target in (("node1", "node2"), ("node2", "node1")):  # ARP that failed is not tried again at once
            lab.exec(source, "ping", "-c", "1", "-w", "15", lab.address(target))
        assert lab.probe().matrix.holds


def test_up_with_mininet_keeps_the_lab_in_front_and_ends_it_with_the_command_line() -> None:
    name = fresh_name("front")
    done = mininetes("up", "--lab", name, "--mininet", "--nodes", "2", "--pods", "0", stdin="node1 hostname\nexit\n")
    assert done.status == 0, done
    assert "node1" in done.stdout
    assert not is_left(name)
