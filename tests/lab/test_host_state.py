"""What a lab left behind is found: each kind of thing is left on purpose, in a sandbox, and has to be named."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import netbox
import pytest
from host_state import HostState
from lab_traces import Traces
from waiting import wait_until

from mininetes.kernel import features

SLEEP = ("sleep", "1000")


@contextlib.contextmanager
def _sleeping(traces: Traces, *before: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the lab, noted."""
    with traces.popen(*before, *SLEEP) as started:
        wait_until(lambda: any(one.command.startswith("sleep") for one in traces.processes()), "the sleep")
        traces.note()
        try:
            yield started
        finally:
            started.kill()


def leave_a_marked_process() -> list[str]:
    with Traces() as traces, _sleeping(traces, "setsid"):
        return traces.left()


def leave_an_orphan() -> list[str]:
    with Traces() as traces:
        traces.popen("sh", "-c", "setsid sleep 1000 & exit 0").wait()
        return traces.left()


def leave_an_unmarked_process_in_the_pid_namespace() -> list[str]:
    with Traces() as traces, _sleeping(traces, "unshare", "--pid", "--fork", "--kill-child"):
        first = traces.first_process()
        assert first is not None
        enter = ["nsenter", "--target", str(first.pid), "--pid", "env", "--ignore-environment", *SLEEP]
        with subprocess.Popen(enter) as unmarked:
            children = Path(f"/proc/{unmarked.pid}/task/{unmarked.pid}/children")
            pid = wait_until(lambda: children.read_text().split(), "nsenter's child")[0]
            left = [line for line in traces.left() if line.startswith(f"process {pid} ")]
            unmarked.kill()
        return left


def leave_an_unmarked_process_in_a_network_namespace() -> list[str]:
    with Traces() as traces, _sleeping(traces, "unshare", "--net") as started:
        enter = ["nsenter", "--target", str(started.pid), "--net", "env", "--ignore-environment", *SLEEP]
        with subprocess.Popen(enter) as unmarked:
            command = Path(f"/proc/{unmarked.pid}/cmdline")
            wait_until(lambda: command.read_bytes().startswith(b"sleep"), "the process is in the namespace")
            started.kill()
            started.wait()
            left = wait_until(traces.left, "what is left")
            unmarked.kill()
        return left


def leave_a_mounted_namespace() -> list[str]:
    with Traces() as traces, _sleeping(traces, "unshare", "--net") as started:
        Path("/run/netns/left").touch()
        subprocess.run(["mount", "--bind", f"/proc/{started.pid}/ns/net", "/run/netns/left"], check=True)
        started.kill()
        started.wait()
        return traces.left()


def leave_an_open_namespace() -> list[str]:
    with Traces() as traces, _sleeping(traces, "unshare", "--net") as started:
        fd = os.open(f"/proc/{started.pid}/ns/net", os.O_RDONLY)
        with subprocess.Popen(SLEEP, pass_fds=[fd]) as holder:
            started.kill()
            started.wait()
            left = traces.left()
            holder.kill()
        return left


@pytest.mark.parametrize(
    ("leave", "named"),
    [
        (leave_a_marked_process, "sleep 1000"),
        (leave_an_orphan, "sleep 1000"),
        (leave_an_unmarked_process_in_the_pid_namespace, "sleep 1000"),
        (leave_an_unmarked_process_in_a_network_namespace, "sleep 1000 is in it"),
        (leave_a_mounted_namespace, "/run/netns/left"),
        (leave_an_open_namespace, "sleep 1000 has it open"),
    ],
)
def test_what_a_lab_left_is_named(leave: Callable[[], list[str]], named: str) -> None:
    left = netbox.run(leave)
    assert left
    assert any(named in line for line in left), left


def leave_nothing() -> list[str]:
    with Traces() as traces:
        with _sleeping(traces, "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"):
            assert traces.held("net") == traces.held("pid") == 1
        traces.wait_until_gone()
        return traces.left()


def test_nothing_is_named_where_nothing_is_left() -> None:
    assert netbox.run(leave_nothing) == []


def change(command: str) -> list[str]:
    features.complete_path()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    before = HostState.now()
    assert before.differences(HostState.now()) == []
    before.wait_until_same()
    subprocess.run(["sh", "-ec", command], check=True)
    with pytest.raises(AssertionError, match="not as it was"):
        before.wait_until_same(within_s=0.2)
    return before.differences(HostState.now())


@pytest.mark.parametrize(
    ("command", "kind", "named"),
    [
        ("ip link add left type veth peer name right", "links", "left"),
        ("ip address add 10.99.0.1/32 dev lo", "addresses", "10.99.0.1"),
        ("ip route add 10.99.0.0/16 dev lo", "routes", "10.99.0.0/16"),
        ("ip rule add from 10.99.0.0/16 table 7", "routing rules", "10.99.0.0/16"),
        ("ip netns add left", "named namespaces", "left"),
        ("nft add table inet left", "nft rules", "left"),
        ("iptables-nft -A FORWARD -j DROP", "iptables rules, nft back end", "-A FORWARD -j DROP"),
        ("mkdir /run/left; mount -t tmpfs left /run/left", "mounts", "/run/left"),
        ("echo 7 >/proc/sys/net/ipv4/ip_default_ttl", "settings", "net/ipv4/ip_default_ttl = b'7"),
        ("touch /run/netns/left", "files", "/run/netns/left"),
    ],
)
def test_what_changed_on_the_host_is_named(command: str, kind: str, named: str) -> None:
    different = netbox.run(change, command)
    assert any(line.startswith(f"{kind}: + ") and named in line for line in different), different


def time_of_a_snapshot() -> float:
    start = time.monotonic()
    HostState.now()
    return time.monotonic() - start


def test_a_snapshot_is_quick() -> None:
    assert netbox.run(time_of_a_snapshot) < 3.0  # 0.1 s where nothing else runs
