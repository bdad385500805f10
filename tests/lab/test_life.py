"""The life of a lab, from `up` to `down`: what each command says, who may look, how it ends, and that nothing stays."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shlex
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from host_state import HostState
from lab_traces import Traces, finish, pod_namespaces
from ordinary_user import OrdinaryUser, ordinary_user
from running_lab import MININETES, REPOSITORY, Done, RunningLab, fresh_name, mininetes, run, running
from waiting import wait_until

from mininetes.errors import BadInput
from mininetes.lab import state

QUICKSTART = str(REPOSITORY / "experiments" / "quickstart.py")
PARTS = Path(__file__).parent / "parts"


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Commands of which nothing may be left when the test is over."""
    with Traces() as found:
        yield found
        found.wait_until_gone()


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """A small lab to look at."""
    with running("--nodes", "2", "--pods", "1") as found:
        yield found


@pytest.fixture
def user() -> Iterator[OrdinaryUser]:
    """A user who has no labs."""
    with ordinary_user() as found:
        yield found


def _up(traces: Traces, name: str, *options: str) -> dict[str, object]:
    """A lab that is up; what `up` said."""
    done = traces.run("up", "--lab", name, "-o", "json", *options)
    assert done.status == 0, done
    traces.note()
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def _names(done: Done) -> list[str]:
    assert done.status == 0, done
    return [each["name"] for each in json.loads(done.stdout)]


def _one_line(done: Done, status: int, *words: str) -> None:
    """The command was refused with that status, in one line that has these words."""
    assert done.status == status, done
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done
    assert done.stderr.startswith("mininetes: ")
    assert [word for word in words if word not in done.stderr] == [], done


# -- from up to down


def test_a_lab_from_up_to_down(traces: Traces) -> None:
    name = fresh_name()
    up = traces.run("up", "--lab", name, "--nodes", "2", "--pods", "1")
    assert up.status == 0, up
    assert "pod/node2-1" in up.stdout
    traces.note()
    assert name in _names(traces.run("ls", "-o", "json"))
    assert name in traces.run("ls").stdout
    status = traces.run("status", name, "-o", "json")
    assert status.status == 0, status
    pods = [pod["name"] for pod in json.loads(status.stdout)["pods"]]
    assert pods[:2] == ["node1-1", "node2-1"]
    assert all(other.startswith("kube-system/coredns-") for other in pods[2:])
    assert traces.run("exec", "--lab", name, "node2", "--", "hostname").stdout == "node2\n"
    down = traces.run("down", name)
    assert (down.status, down.stdout) == (0, f"{name} is gone\n"), down
    assert [one for one in traces.processes() if len(one.inside) > 1] == []  # at once: only the supervisor may linger
    assert name not in _names(traces.run("ls", "-o", "json"))
    assert not (state.base() / name).exists()
    _one_line(traces.run("down", name), 2, name)


def test_the_host_is_as_before_while_a_lab_is_up_and_while_it_is_measured(traces: Traces) -> None:
    _up(traces, name := fresh_name())
    assert traces.host.differences(HostState.now()) == []
    assert traces.run("probe", "reachability", "--lab", name).status == 0
    assert traces.host.differences(HostState.now()) == []
    assert traces.run("down", name).status == 0


def test_the_host_is_as_before_after_a_run(traces: Traces, tmp_path: Path) -> None:
    started = traces.start("run", QUICKSTART, "--out", str(tmp_path / "out"))
    wait_until(lambda: (first := traces.first_process()) and pod_namespaces(first.pid), "a pod")
    traces.note()
    assert traces.host.differences(HostState.now()) == []
    done = finish(started)
    assert done.status == 0, done
    assert traces.left() == []
    assert {"rows.jsonl", "context.json"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("place", "command", "status"),
    [
        ("node1", "exit 7", 7),
        ("pod/node1-1", "exit 8", 8),
        ("node2", "kill -TERM $$", 128 + signal.SIGTERM),
        ("node2", "no-such-program", 127),
    ],
)
def test_exec_ends_as_its_command_did(lab: RunningLab, place: str, command: str, status: int) -> None:
    with Traces() as traces:
        assert traces.run("exec", "--lab", lab.name, place, "--", "sh", "-c", command).status == status


def test_exec_passes_input_output_and_arguments_as_they_are(lab: RunningLab) -> None:
    assert lab.command("exec", "node1", "--", "cat", stdin="a\n b\n").stdout == "a\n b\n"
    done = lab.command("exec", "node1", "--", "printf", "%s|", "-o", "a b", "--lab", "$HOME")
    assert done.stdout == "-o|a b|--lab|$HOME|"
    assert lab.command("exec", "node1", "--", "sh", "-c", "echo wrong >&2").stderr == "wrong\n"


def test_shell_is_in_the_node_or_pod_and_ends_with_its_status(lab: RunningLab) -> None:
    done = lab.command("shell", "node2", stdin="hostname\nexit 5\n")
    assert (done.status, done.stdout) == (5, "node2\n"), done
    done = lab.command("shell", "pod/node2-1", stdin="ip -o -4 address show eth0\n")
    assert (done.status, lab.address("pod/node2-1") in done.stdout) == (0, True), done


def test_only_the_owner_can_look_into_a_lab(lab: RunningLab) -> None:
    folder = state.base() / lab.name

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(state.base()) == 0o700
    assert mode(folder) == 0o700
    assert {path.name: mode(path) & 0o077 for path in folder.iterdir() if path.name != "lab.json"} == {
        "lock": 0,
        "log": 0,
        "control": 0,
        "kubeconfig": 0,
    }
    assert stat.S_ISSOCK((folder / "control").stat().st_mode)
    assert mode(folder / "control") == 0o600


def test_a_pipe_behind_up_ends_when_up_does(traces: Traces) -> None:
    name = fresh_name()
    command = shlex.join([*MININETES, "up", "--lab", name, "--nodes", "2", "--pods", "1"])
    piped = traces.popen("sh", "-c", f"{command} 2>&1 | cat", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert "node2-1" in finish(piped, 30.0).stdout
    traces.note()
    assert traces.supervisor() is not None
    assert traces.run("down", name).status == 0


# -- which lab


def test_without_a_lab_there_is_nothing_to_command(user: OrdinaryUser) -> None:
    with user.traces() as traces:
        assert _names(traces.run("ls", "-o", "json")) == []
        for command in (
            ["status"],
            ["down"],
            ["exec", "node1", "--", "true"],
            ["shell", "node1"],
            ["probe", "latency"],
        ):
            _one_line(traces.run(*command), 2, "no lab is up", "up")
        _one_line(traces.run("down", "nobody-has-this"), 2, "nobody-has-this")
        done = traces.run("down", "--all")
        assert (done.status, done.stdout) == (0, ""), done


def test_the_only_lab_is_meant_and_several_are_listed_and_all_end_together(user: OrdinaryUser) -> None:
    small = ("--nodes", "2", "--pods", "1")
    with user.traces() as traces:
        _up(traces, "one", *small)
        assert traces.run("exec", "node1", "--", "hostname").stdout == "node1\n"
        _up(traces, "two", *small)
        assert _names(traces.run("ls", "-o", "json")) == ["one", "two"]
        for command in (["status"], ["down"], ["exec", "node1", "--", "true"], ["shell", "node1"]):
            _one_line(traces.run(*command), 2, "several labs", "one", "two")
        assert traces.run("exec", "--lab", "two", "node2", "--", "hostname").stdout == "node2\n"
        _one_line(traces.run("down", "one", "--all"), 2, "--all", "one")
        done = traces.run("down", "--all")
        assert (done.status, done.stdout) == (0, "one is gone\ntwo is gone\n"), done
        traces.wait_until_gone()
        assert not any((user.runtime / "mininetes").iterdir())


def test_a_name_is_taken_once_and_who_has_it_lives_on(traces: Traces) -> None:
    first = _up(traces, name := fresh_name(), "--nodes", "2", "--pods", "1")
    facts = state.find(name).facts()
    _one_line(traces.run("up", "--lab", name), 2, name, "down")
    assert state.find(name).facts() == facts
    status = traces.run("status", name, "-o", "json")
    assert (status.status, json.loads(status.stdout)["pods"]) == (0, first["pods"])
    assert traces.run("down", name).status == 0


def test_two_labs_with_the_same_addresses_do_not_disturb_each_other() -> None:
    with ExitStack() as stack:
        # without agents, which would put the route back
        options = ("--pods", "2", "--set", "controlPlane.store=none")
        both = [stack.enter_context(running(*options)) for _ in range(2)]
        assert both[0].facts["hosts"][0]["address"] == both[1].facts["hosts"][0]["address"]
        assert [pod["address"] for pod in both[0].pods.values()] == [pod["address"] for pod in both[1].pods.values()]
        probes = [stack.enter_context(Traces()) for _ in both]
        started = [
            traces.start("probe", "reachability", "--lab", lab.name, "--protocol", "udp")
            for traces, lab in zip(probes, both, strict=True)
        ]
        assert [finish(each).status for each in started] == [0, 0]
        both[0].exec("node1", "ip", "route", "del", "10.244.2.0/24")
        assert [lab.probe().status for lab in both] == [1, 0]
        assert [lab.status()[0] for lab in both] == [1, 0]


# -- how it ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["run", "up"])
def test_interrupted_in_the_bring_up_it_ends_with_nothing_left(
    traces: Traces, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    arguments = ["up", "--lab", fresh_name(), "--pods", "40"]  # so that it takes a while
    if command == "run":
        arguments = ["--parts", str(PARTS), "run", "busy", "--set", "pods_per_node=40", "--out", str(tmp_path / "out")]
    started = traces.start(*arguments)
    name = arguments[2] if command == "up" else f"busy-{started.pid}"
    log = state.base() / name / "log"
    wait_until(lambda: log.exists() and "phase bring-up" in log.read_text(), "the bring-up")
    wait_until(lambda: (first := traces.first_process()) and pod_namespaces(first.pid), "a pod", every_s=0.002)
    traces.note()
    started.send_signal(number)
    done = finish(started)
    assert done.status == 128 + number, done
    assert "Traceback" not in done.stderr
    assert traces.held("net") > 6
    traces.wait_until_gone()
    assert not log.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_experiment_interrupted_at_work_ends_with_nothing_left(
    traces: Traces, tmp_path: Path, number: signal.Signals
) -> None:
    started = traces.start("--parts", str(PARTS), "run", "busy", "--out", str(tmp_path / "out"))
    log = state.base() / f"busy-{started.pid}" / "log"
    wait_until(lambda: log.exists() and "phase run" in log.read_text(), "the run")
    traces.note()
    started.send_signal(number)
    done = finish(started)
    assert done.status == 128 + number, done
    assert "Traceback" not in done.stderr
    assert traces.left() == []


def test_a_lab_ends_with_its_supervisor(traces: Traces) -> None:
    _up(traces, name := fresh_name(), "--nodes", "2", "--pods", "1")
    supervisor = traces.supervisor()
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    traces.wait_until_gone()
    assert name not in _names(traces.run("ls", "-o", "json"))
    assert not (state.base() / name).exists()


def test_a_lab_ends_in_order_when_its_supervisor_is_asked_to(traces: Traces) -> None:
    _up(traces, name := fresh_name(), "--nodes", "2", "--pods", "1")
    supervisor = traces.supervisor()
    assert supervisor is not None
    with (state.base() / name / "log").open() as log:
        os.kill(supervisor.pid, signal.SIGTERM)
        traces.wait_until_gone()
        assert "torn down" in log.read()
    assert not (state.base() / name).exists()


@pytest.mark.parametrize("left", ["lock", "log", "lab.json", ""])
def test_a_stale_state_folder_is_removed_and_its_name_is_free(traces: Traces, left: str) -> None:
    for _ in range(2):
        name = fresh_name()
        folder = state.base() / name
        folder.mkdir(mode=0o700)
        if left:
            (folder / left).write_text('{"pid": 1, "supervisor": 1}' if left == "lab.json" else "")
        # Two at the same time: each may find that the other was quicker.
        started = [traces.start("ls", "-o", "json") for _ in range(2)]
        assert [name in _names(finish(each)) for each in started] == [False, False]
        assert not folder.exists()
    folder.mkdir(mode=0o700)
    _up(traces, name, "--nodes", "2", "--pods", "1")
    assert traces.run("down", name).status == 0


def take_and_leave(name: str, until: float) -> int:
    """Take a name again and again, as `up` does, and look for labs in between; how often it was ours, alone."""
    taken = 0
    while time.time() < until:
        try:
            held = state.hold(name)
        except BadInput:
            state.labs()  # removes nothing of who has it
            continue
        held.state.log.write_text(str(os.getpid()))
        held.state.describe(owner=os.getpid())
        time.sleep(random.random() * 0.002)  # others try meanwhile
        assert held.state.is_up()
        assert name in [each.name for each in state.labs()]
        assert held.state.log.read_text() == str(os.getpid())
        assert held.state.facts() == {"owner": os.getpid()}
        held.release()
        taken += 1
    return taken


def test_of_several_who_take_one_name_each_has_it_alone() -> None:
    name = fresh_name()
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        taken = list(pool.map(take_and_leave, [name] * 3, [time.time() + 4.0] * 3))
    assert sum(taken) > 20
    assert not (state.base() / name).exists()


# -- building nothing


def test_a_dry_run_builds_nothing(traces: Traces) -> None:
    """It runs where no namespace can be made, and says what `up` would build, which is refused there."""
    name = fresh_name()
    kinds = "net mnt pid uts ipc user"
    nothing = f'for kind in {kinds}; do echo 0 >/proc/sys/user/max_${{kind}}_namespaces; done; exec "$@"'
    no_namespaces = f"mount -t tmpfs none /run; {nothing}"
    sandbox = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", no_namespaces, "sh"]
    options = ["up", "--lab", name, "--nodes", "2", "--pods", "1"]

    def run(*arguments: str) -> Done:
        return finish(traces.popen(*sandbox, *MININETES, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE))

    dry = run(*options, "--dry-run")
    assert (dry.status, dry.stderr) == (0, "")
    assert "node2" in dry.stdout
    assert not (state.base() / name).exists()
    as_json = run(*options, "--dry-run", "-o", "json")
    assert json.loads(as_json.stdout)
    refused = run(*options)
    assert refused.status == 3, refused
    assert "namespaces" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1, refused


def test_a_dry_run_says_the_same_every_time(traces: Traces) -> None:
    said = [traces.run("up", "--lab", "dry", "--dry-run") for _ in range(2)]
    assert said[0].status == 0
    assert said[0] == said[1]


# -- the control socket


GARBAGE = {
    "nothing": b"",
    "an empty line": b"\n",
    "no JSON": b"\x00\xff\xfe garbage \x80\n",
    "no object": b'[1, 2]\n"status"\nnull\n7\n',
    "no operation": b"{}\n",
    "an unknown operation": b'{"op": "format"}\n{"op": 7}\n{"op": ["status"]}\n{"op": {}}\n',
    "no arguments": b'{"op": "reachability"}\n{"op": "latency"}\n',
    "arguments of the wrong kind": b'{"op": "latency", "count": "many", "interval_s": [], "payload_bytes": null}\n'
    b'{"op": "reachability", "protocol": "pigeon", "attempts": {}, "timeout_s": "soon"}\n',
    "deep nesting": b"[" * 60_000 + b"\n",
    "a line longer than any buffer": b"x" * 300_000 + b"\n",
    "half a line": b'{"op": "status"',
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_on_the_control_socket_disturbs_nobody(lab: RunningLab, kind: str) -> None:
    control = state.base() / lab.name / "control"
    with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as neighbour:
        client.settimeout(10)
        neighbour.settimeout(10)
        neighbour.connect(str(control))
        client.connect(str(control))
        answers = _say(client, GARBAGE[kind])
        neighbour.sendall(b'{"op": "status"}\n')
        assert json.loads(neighbour.makefile().readline())["name"] == lab.name
    for answer in answers:
        assert json.loads(answer)["error"]
    expected = GARBAGE[kind].count(b"\n") if kind not in ("deep nesting", "a line longer than any buffer") else 0
    assert len(answers) >= expected, answers
    assert lab.command("status").status == 0


def _say(client: socket.socket, garbage: bytes) -> list[str]:
    """Send it all and return the lines that came back until the other side had enough."""
    try:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        return list(client.makefile())
    except (BrokenPipeError, ConnectionResetError):
        return []  # hung up on: as good an answer


def test_a_client_that_goes_before_its_answer_disturbs_nobody(lab: RunningLab) -> None:
    control = state.base() / lab.name / "control"
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(control))
            client.sendall(b'{"op": "status"}\n' * 50)
    assert lab.command("status").status == 0


def test_a_measurement_ends_when_the_one_who_asked_for_it_has_gone(lab: RunningLab) -> None:
    control = state.base() / lab.name / "control"
    long = {"op": "latency", "interval_s": 1.0, "count": 600, "payload_bytes": 56}
    for _ in range(3):  # one is at work, the others wait behind it
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(control))
            client.sendall(json.dumps(long).encode() + b"\n")
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.recv(1)
    started = time.monotonic()
    lab.probe()
    assert time.monotonic() - started < 10


def test_a_client_that_only_stopped_asking_gets_its_answer(lab: RunningLab) -> None:
    control = state.base() / lab.name / "control"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(control))
        short = {"op": "latency", "interval_s": 0.1, "count": 10, "payload_bytes": 56}
        client.sendall(json.dumps(short).encode() + b"\n" + b'{"op": "status"}\n')
        client.shutdown(socket.SHUT_WR)
        answers = [json.loads(line) for line in client.makefile()]
    assert answers[0]["summaries"]
    assert answers[1]["name"] == lab.name


def test_a_shell_that_allows_few_open_files_is_enough() -> None:
    """Every connection of every node's agents is one, and an ordinary user's shell allows 1,024 at first."""
    name = fresh_name()
    few = ["sh", "-c", 'ulimit -Sn 100; exec "$@"', "sh"]
    try:
        done = run([*few, *MININETES, "up", "--lab", name, "--pods", "1"])
        assert done.status == 0, done
        said = json.loads(mininetes("get", "nodes", "--lab", name, "-o", "json").stdout)
        assert len(said["items"]) == 3
    finally:
        mininetes("down", name)
