"""Killed with SIGKILL at random moments, a lab leaves no process, namespace, mount, link, route, rule or setting.

Each phase of a lab's life (its own log says which) x each process that holds it up:

    launcher   the command `run`; for `up` the supervisor, or the command while it waits for the bring-up
    PID 1      the lab's first process
    engine     the first child of PID 1

Only kills count that hit a living process in the wanted phase, with a pod's namespace there.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from lab_traces import Process, Traces, finish, pod_namespaces, process
from running_lab import fresh_name
from waiting import wait_until

from mininetes.lab import state

Target = Literal["launcher", "PID 1", "engine"]
PHASES = ("bring-up", "run", "tear-down")
TARGETS: tuple[Target, ...] = ("launcher", "PID 1", "engine")
COMMANDS = ("run", "up")
KILLS_OF_EACH = 3
"""For each phase, target and command: 54 in all, 18 in each phase."""

LONGEST_S = {"bring-up": 0.2, "run": 0.4, "tear-down": 0.01}
"""The random delay after the phase has begun (in bring-up: after the first pod's namespace was there)."""

MOST_MISSED = 60
"""Attempts of a phase that may hit nothing before the test gives up."""

PARTS = Path(__file__).parent / "parts"


@dataclass(frozen=True)
class Kill:
    """One that counts."""

    phase: str
    target: str
    command: str
    delay_ms: float
    gone_ms: float


class Log:
    """A lab's log, readable to its last line although the state folder goes with the lab."""

    def __init__(self, path: Path, lab_gone: subprocess.Popen[str]) -> None:
        wait_until(lambda: path.exists() or lab_gone.poll() is not None, f"{path} is there", every_s=0.002)
        self._file = path.open()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def phase(self) -> str:
        """The phase that was logged last; empty before the first."""
        self._file.seek(0)
        phases = [line.rsplit(" ", 1)[1].strip() for line in self._file if ": phase " in line]
        return phases[-1] if phases else ""

    def wait_for(self, phase: str) -> None:
        """Return as soon as that phase was logged."""
        wait_until(lambda: self.phase() == phase, f"phase {phase}", every_s=0.0002)


class Attempt:
    """A lab that is to be killed in a phase."""

    def __init__(self, traces: Traces, command: str, name: str, out: Path) -> None:
        self.traces = traces
        self.is_up = command == "up"
        if self.is_up:
            self.started = traces.start("up", "--lab", name, "--pods", "8")
        else:
            self.started = traces.start("--parts", str(PARTS), "run", "busy", "--out", str(out))
        self.name = name if self.is_up else f"busy-{self.started.pid}"
        self.ending: subprocess.Popen[str] | None = None

    def find(self, phase: str, target: Target, chance: random.Random) -> Process | None:
        """The process to kill. A lab that is up is its supervisor's: the end of `up` is none of the lab's then."""
        if target == "engine":
            return self.traces.engine()
        if target == "PID 1":
            return self.traces.first_process()
        command = process(self.started.pid)
        if not self.is_up:
            return command
        supervisor = self.traces.supervisor()
        waits = phase == "bring-up" and command is not None and command.is_alive
        return chance.choice([command, supervisor]) if waits else supervisor

    def has_pods(self) -> bool:
        """Whether a pod's namespace is there."""
        first = self.traces.first_process()
        return first is not None and bool(pod_namespaces(first.pid))

    def kill(self, phase: str, target: Target, delay_s: float, chance: random.Random) -> float | None:
        """Kill the target in that phase after that delay, and see that nothing is left.

        Returns how long that took; None when the target was not hit in that phase.
        """
        with Log(state.base() / self.name / "log", self.started) as log:
            log.wait_for("bring-up")
            wait_until(self.has_pods, "the first pod's namespace", every_s=0.002)
            if phase != "bring-up":
                log.wait_for("run")
            if phase == "tear-down":
                if self.is_up:
                    self.started.wait(30)
                victim, first = self._note(phase, target, chance)
                self._begin_tear_down()
                log.wait_for("tear-down")
                time.sleep(delay_s)
            else:
                time.sleep(delay_s)
                victim, first = self._note(phase, target, chance)
            hit = bool(victim and first and pod_namespaces(first.pid) and _strike(victim) and log.phase() == phase)
            start = time.monotonic()
            if not hit:
                self._begin_tear_down()
            assert self.traces.held("net") > 6, "the network namespaces of nodes and pods were not found"
            self.traces.wait_until_gone()
            return time.monotonic() - start if hit and log.phase() == phase else None

    def _note(self, phase: str, target: Target, chance: random.Random) -> tuple[Process | None, Process | None]:
        self.traces.note()
        return self.find(phase, target, chance), self.traces.first_process()

    def _begin_tear_down(self) -> None:
        """Ask for the lab's end, as its user does."""
        if not self.is_up:
            self.started.send_signal(signal.SIGTERM)
        elif self.ending is None:
            self.started.wait(30)
            self.ending = self.traces.start("down", self.name)

    def check_last_words(self, target: Target) -> None:
        """The commands that were not killed themselves end soon, and say in one line what happened, if anything."""
        for started in (self.started, self.ending):
            if started is not None:
                done = finish(started, 30.0)
                words = [line for line in done.stderr.splitlines() if line.startswith("mininetes:")]
                assert "Traceback" not in done.stderr, done
                assert len(words) <= 1, done
                assert target == "launcher" or done.status in (0, 1, 2, 143), done

    def check_name_is_free(self) -> None:
        """The next command removes a stale state folder and shows no such lab."""
        done = self.traces.run("ls", "-o", "json")
        assert done.status == 0, done
        assert self.name not in [each["name"] for each in json.loads(done.stdout)]
        assert not (state.base() / self.name).exists()


def _strike(victim: Process) -> bool:
    """Kill a process if it is alive and the one that we mean."""
    now = process(victim.pid)
    if now is None or not now.is_alive or now.inside != victim.inside:
        return False
    os.kill(victim.pid, signal.SIGKILL)
    return True


def _table(kills: list[Kill], missed: Counter[str], seed: int) -> str:
    lines = [
        f"{len(kills)} kills, seed {seed}; tried again because nothing was hit in its phase: {dict(missed)}",
        f"{'phase':<10} {'target':<9} {'by':<4} kills  delay, and time until all was gone, in ms",
    ]
    for phase, target, command in itertools.product(PHASES, TARGETS, COMMANDS):
        of = [k for k in kills if (k.phase, k.target, k.command) == (phase, target, command)]
        times = ", ".join(f"{k.delay_ms:.1f} {k.gone_ms:.0f}" for k in of)
        if of:
            lines.append(f"{phase:<10} {target:<9} {command:<4} {len(of):>5}  {times}")
    return "\n".join(lines)


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_left(phase: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("MININETES_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    chance = random.Random(f"{seed} {phase}")
    name = fresh_name("killed")  # always the same: the one before it must leave it free
    kills: list[Kill] = []
    missed: Counter[str] = Counter()
    wanted = deque(KILLS_OF_EACH * [*itertools.product(TARGETS, COMMANDS)])
    try:
        while wanted:
            target, command = wanted[0]
            delay_s = chance.uniform(0, LONGEST_S[phase])
            with Traces() as traces:
                attempt = Attempt(traces, command, name, tmp_path / f"{len(kills)}-{missed.total()}")
                gone_s = attempt.kill(phase, target, delay_s, chance)
                attempt.check_last_words(target)
                attempt.check_name_is_free()
            if gone_s is None:
                missed[f"{target}, {command}"] += 1
                assert missed.total() < MOST_MISSED, "the phase is too short for its delays"
            else:
                kills.append(Kill(phase, target, command, delay_s * 1e3, gone_s * 1e3))
                wanted.popleft()
    finally:
        print(_table(kills, missed, seed))
    assert len(kills) == KILLS_OF_EACH * len(TARGETS) * len(COMMANDS)
