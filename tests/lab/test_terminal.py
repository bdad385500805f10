"""The command at a terminal: Ctrl-C, the end of input, jobs and prompts, as a person meets them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab_traces import Traces
from running_lab import RunningLab, fresh_name, running
from terminal import CTRL_C, CTRL_D, CTRL_Z, Terminal
from waiting import wait_until

from mininetes.lab import state

SMALL = ("--nodes", "2", "--pods", "1", "--set", "controlPlane.store=none")
MININET = "mininet> "


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Commands of which nothing may be left when the test is over."""
    with Traces() as found:
        yield found
        found.wait_until_gone()


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """A small lab to open shells in."""
    with running(*SMALL) as found:
        yield found


# --- up ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["its folder is there", "nodes and links", "pods"])
def test_ctrl_c_while_a_cluster_comes_up_leaves_nothing_behind(traces: Traces, moment: str) -> None:
    name = fresh_name("key")
    with Terminal(traces, "up", "--lab", name, "--nodes", "3", "--pods", "30") as terminal:
        if moment == "its folder is there":
            wait_until((state.base() / name).exists, moment)
        else:
            terminal.read_until(moment)
        traces.note()
        terminal.press(CTRL_C)
        assert terminal.status() == 130
    traces.wait_until_gone()
    assert not (state.base() / name).exists()


def test_a_terminal_that_closes_does_not_end_a_lab_that_is_up(traces: Traces) -> None:
    name = fresh_name("key")
    with Terminal(traces, "up", "--lab", name, *SMALL) as terminal:
        assert terminal.status() == 0
        terminal.read_until("ready after")
    traces.note()
    assert traces.run("status", name).status == 0
    assert traces.run("down", name).status == 0


# --- Mininet's command line -------------------------------------------------------------------------------------------


def _interrupts_a_ping(terminal: Terminal) -> None:
    """In Mininet's command line: Ctrl-C ends what runs in a node and nothing else."""
    terminal.read_until(MININET)
    terminal.type("node1 ping node2")
    terminal.read_until("icmp_seq=2 ")
    terminal.press(CTRL_C)
    terminal.read_until("packets transmitted")
    terminal.read_until(MININET, within_s=20)
    terminal.type("node1 echo $((6 * 7)) on $(uname -n)")
    terminal.read_until(r"42 on node1\r")
    terminal.read_until(MININET)


@pytest.mark.parametrize("leave", ["exit\r", CTRL_D])
def test_up_with_mininets_command_line_ends_with_it(traces: Traces, leave: str) -> None:
    name = fresh_name("key")
    with Terminal(traces, "up", "--lab", name, "--mininet", *SMALL) as terminal:
        _interrupts_a_ping(terminal)
        traces.note()
        terminal.press(leave)
        assert terminal.status() == 0
    traces.wait_until_gone()
    assert not (state.base() / name).exists()


def test_ctrl_c_while_a_cluster_comes_up_for_mininets_command_line(traces: Traces) -> None:
    name = fresh_name("key")
    with Terminal(traces, "up", "--lab", name, "--mininet", "--nodes", "3", "--pods", "30") as terminal:
        terminal.read_until("pods")
        traces.note()
        terminal.press(CTRL_C)
        assert terminal.status() == 130
    traces.wait_until_gone()
    assert not (state.base() / name).exists()


@pytest.mark.parametrize("leave", ["exit\r", CTRL_D])
def test_mininets_command_line_of_a_running_lab_leaves_it_running(traces: Traces, lab: RunningLab, leave: str) -> None:
    with Terminal(traces, "shell", "--lab", lab.name, "--mininet") as terminal:
        _interrupts_a_ping(terminal)
        terminal.press(leave)
        assert terminal.status() == 0
    assert lab.status()[0] == 0


# --- shells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "address"), [("node1", "192.168.1.11"), ("pod/node2-1", "10.244.2.2")])
def test_a_shell_has_its_prompt_its_jobs_and_its_exit_status(
    traces: Traces, lab: RunningLab, place: str, address: str
) -> None:
    prompt = rf"@{place}:.*# "
    with Terminal(traces, "shell", "--lab", lab.name, place) as terminal:
        terminal.read_until(prompt)
        terminal.type("ip -c=never -o -4 address show dev eth0")  # Debian 13's is in colour
        terminal.read_until(rf"inet {address}/")
        # it says when it has the terminal, for keys pressed before are the shell's; and it starts no processes, for a
        # shell that is stopped just as it makes one by vfork stays stuck
        terminal.type("""bash -c 'trap "echo a""gain" CONT; echo ru""ns; until read -t 0.05; do :; done'""")
        terminal.read_until("runs")
        terminal.press(CTRL_Z)
        terminal.read_until(r"\[1\]\+ +Stopped")
        terminal.read_until(prompt)
        terminal.type("fg")
        terminal.read_until("again")
        terminal.press(CTRL_C)
        terminal.read_until(prompt, within_s=20)
        terminal.type("echo status $?")
        terminal.read_until(r"status 130\r\n")
        terminal.type("sleep 1000 & kill %1; wait %1; echo status $?")
        terminal.read_until(r"status 143\r\n")
        terminal.type("exit 7")
        assert terminal.status() == 7
    assert lab.status()[0] == 0


def test_the_end_of_input_leaves_a_shell(traces: Traces, lab: RunningLab) -> None:
    with Terminal(traces, "shell", "--lab", lab.name, "node1") as terminal:
        terminal.read_until("@node1:")
        terminal.type("false; echo do''ne $?")
        terminal.read_until("done 1")
        terminal.read_until("@node1:")
        terminal.type("false")
        terminal.read_until("@node1:")
        terminal.press(CTRL_D)
        assert terminal.status() == 1


def test_ctrl_c_ends_a_command_in_a_node(traces: Traces, lab: RunningLab) -> None:
    with Terminal(traces, "exec", "--lab", lab.name, "node1", "--", "ping", "192.168.1.12") as terminal:
        terminal.read_until("icmp_seq=2 ")
        terminal.press(CTRL_C)
        assert terminal.status(within_s=20) == 130
    assert lab.status()[0] == 0
