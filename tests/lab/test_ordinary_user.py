"""The main job as an ordinary user without sudo; what only root can have is refused by name, and nothing is left."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from typing import Any

import pytest
from host_state import HostState
from lab_traces import Traces, finish, pod_namespaces
from ordinary_user import OrdinaryUser, ordinary_user
from waiting import wait_until

from mininetes.experiments import results

NEEDS_ROOT = ("ip_vs", "tcpdump in the lab", "raising limits of conntrack and neighbours")


@pytest.fixture(scope="module")
def user() -> Iterator[OrdinaryUser]:
    with ordinary_user() as found:
        yield found


@pytest.fixture
def traces(user: OrdinaryUser) -> Iterator[Traces]:
    """Commands of this user, of which nothing may be left when the test is over, on the host or among its labs."""
    with user.traces() as found:
        yield found
        done = found.run("ls", "-o", "json")
        assert (done.status, done.stdout.strip(), done.stderr) == (0, "[]", ""), done
        found.wait_until_gone()
        assert list((user.runtime / "mininetes").iterdir()) == []


@pytest.fixture(scope="module")
def verdicts(user: OrdinaryUser) -> dict[str, dict[str, Any]]:
    """What `doctor` says to this user."""
    with user.traces() as traces:
        done = traces.run("doctor", "-o", "json")
        assert done.status == 0, done
        return {each["name"]: each for each in json.loads(done.stdout)}


def _up(traces: Traces, name: str, *options: str) -> dict[str, Any]:
    done = traces.run("up", "--lab", name, "-o", "json", *options)
    assert done.status == 0, done
    traces.note()
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_the_quickstart(user: OrdinaryUser, traces: Traces) -> None:
    out = user.home / "out"
    started = traces.start("run", str(user.checkout / "experiments" / "quickstart.py"), "--out", str(out))
    wait_until(lambda: (first := traces.first_process()) and pod_namespaces(first.pid), "a pod")
    traces.note()
    assert traces.held("user") == 1
    assert traces.host.differences(HostState.now()) == []
    done = finish(started)
    assert done.status == 0, done
    assert traces.left() == []
    rows = list(results.read(out))
    reached = [row.measurement for row in rows if row.measurement.metric == "reached"]
    assert len(reached) == 15 * 14
    assert all(each.value == 1 for each in reached)
    assert [row for row in rows if row.measurement.metric == "rtt_us" and row.measurement.value is None] == []
    assert json.loads((out / "context.json").read_text())
    assert {path.suffix for path in out.iterdir()} & {".png", ".svg"}


def test_a_lab_from_up_to_down(user: OrdinaryUser, traces: Traces) -> None:
    facts = _up(traces, "mine")
    assert len([pod for pod in facts["pods"] if not pod["name"].startswith("kube-system/")]) == 12
    assert traces.host.differences(HostState.now()) == []
    assert traces.run("exec", "node1", "--", "id", "-u").stdout == "0\n"
    assert "via 192.168.1.12" in traces.run("exec", "node1", "--", "ip", "route").stdout
    assert traces.run("exec", "pod/node2-1", "--", "ip", "-4", "-o", "address").stdout.count("10.244.2.2/24") == 1
    assert traces.run("exec", "node1", "--", "sh", "-c", "exit 7").status == 7
    assert "-j KUBE-SERVICES" in traces.run("exec", "node1", "--", "iptables-save").stdout
    for protocol in ("icmp", "udp", "tcp"):
        done = traces.run("probe", "reachability", "--protocol", protocol)
        assert done.status == 0, done
    assert traces.run("probe", "latency", "--count", "5").status == 0
    assert traces.run("status").status == 0
    folder = user.state_folder("mine")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "control").stat().st_mode) == 0o600
    assert (folder / "control").stat().st_uid == user.runtime.stat().st_uid
    down = traces.run("down")
    assert (down.status, down.stdout) == (0, "mine is gone\n")


def test_two_labs_at_once(traces: Traces) -> None:
    names = ["left", "right"]
    fixed = ("--set", "fabric.repair=false")  # or a route that goes is back before it is missed
    started = [traces.start("up", "--lab", name, "-o", "json", *fixed) for name in names]
    for each in started:
        assert finish(each).status == 0
    traces.note()
    assert traces.held("user") == 2
    probing = [traces.start("probe", "reachability", "--lab", name, "--protocol", "tcp") for name in names]
    assert [finish(each).status for each in probing] == [0, 0]
    assert traces.run("exec", "--lab", "left", "node1", "--", "ip", "route", "del", "10.244.3.0/24").status == 0
    assert [traces.run("probe", "reachability", "--lab", name).status for name in names] == [1, 0]
    assert traces.run("down", "left").status == 0
    assert traces.run("probe", "reachability").status == 0
    assert traces.run("down", "--all").status == 0


def test_the_labs_root_is_not_the_hosts(traces: Traces) -> None:
    """What the user may not do outside, it may not do from inside either."""
    _up(traces, "mine", "--nodes", "1", "--pods", "0")
    for command in (
        "touch /usr/mininetes-was-here",
        "cat /etc/shadow",
        "echo 1 >/proc/sys/kernel/panic",
        "mknod /tmp/mininetes-disk b 8 0",
    ):
        done = traces.run("exec", "node1", "--", "sh", "-c", command)
        assert done.status != 0, (command, done)
    assert traces.run("down").status == 0


@pytest.mark.parametrize("name", NEEDS_ROOT)
def test_the_doctor_says_what_needs_root(verdicts: dict[str, dict[str, Any]], name: str) -> None:
    assert verdicts[name]["verdict"] == "needs root"
    assert "sudo" in verdicts[name]["remedy"]


def test_the_doctor_is_right_about_what_needs_root(traces: Traces) -> None:
    _up(traces, "mine", "--nodes", "1", "--pods", "0")
    for command in (
        "timeout 5 tcpdump -c 1 -i lo",
        "echo 300000 >/proc/sys/net/netfilter/nf_conntrack_max",
        "echo 2048 >/proc/sys/net/ipv4/neigh/default/gc_thresh3",
    ):
        done = traces.run("exec", "node1", "--", "sh", "-c", command)
        assert done.status not in (0, 124, 127), (command, done)
    assert traces.run("down").status == 0


def test_the_doctor_says_that_the_main_job_can_be_done(verdicts: dict[str, dict[str, Any]]) -> None:
    assert [each for each in verdicts.values() if each["required"] and each["verdict"] != "here"] == []


@pytest.mark.parametrize(("setting", "feature"), [("delay=5ms", "netem"), ("loss=1", "netem"), ("bw=10", "htb")])
def test_a_shaped_link_comes_up_or_is_refused_by_name_before_anything_is_built(
    user: OrdinaryUser, traces: Traces, verdicts: dict[str, dict[str, Any]], setting: str, feature: str
) -> None:
    arguments = ["--underlay", "single_switch", "--nodes", "2", "--pods", "1"]
    arguments += ["--set", f"underlay.parameters.{setting}"]
    if verdicts[feature]["verdict"] == "here":
        _up(traces, "shaped", *arguments)
        shown = traces.run("exec", "node1", "--", "tc", "qdisc", "show", "dev", "eth0").stdout
        assert feature in shown
        assert traces.run("down").status == 0
        return
    assert traces.run("ls").status == 0  # makes the folder for all labs
    before = user.state_folder("shaped").parent.stat().st_mtime_ns
    done = traces.run("up", "--lab", "shaped", *arguments)
    assert (done.status, done.stdout) == (3, ""), done
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"mininetes: {feature} is missing")
    assert user.state_folder("shaped").parent.stat().st_mtime_ns == before  # not even for a moment


def test_a_runtime_folder_that_is_somebody_elses_is_refused() -> None:
    with ordinary_user() as user, user.traces() as traces:
        (user.runtime / "mininetes").symlink_to(user.home)
        for command in ("ls", "up", "down"):
            done = traces.run(command)
            assert (done.status, done.stdout) == (1, ""), done
            assert "belongs to somebody else" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        assert list(user.home.iterdir()) == []
