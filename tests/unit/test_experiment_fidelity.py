"""Whether a machine kept up: the kernel's files, what lies between two readings, and each threshold from both sides."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from mininetes.experiments.fidelity import Figures, Reading, Watch, between, judge, parse_cpu, parse_softnet, read

STAT = """cpu  100 5 50 1000 20 3 4 7 9 0
cpu0 50 2 25 500 10 2 2 3 4 0
cpu1 50 3 25 500 10 1 2 4 5 0
intr 1 2 3
"""
SOFTNET = "\n".join(
    [
        "0162c389 00000002 00000010 " + "00000000 " * 8 + "00000007 00000000",
        "01918241 00000492 00000001 " + "00000000 " * 8 + "0000000b 00000001",
    ]
)
CALM = Figures(10.0, 0.6, 0.2, 0.1, 0.1, 0.0, 0, 0.0, 0, 1000, 0.1, 0.5, 1.0)


def test_processor_times_are_read_with_waiting_for_disks_as_idle() -> None:
    assert parse_cpu(STAT) == (2, 105, 50, 1020, 7, 7)


def test_backlogs_of_all_processors_are_read() -> None:
    assert parse_softnet(SOFTNET) == (0x494, 0x11, 0xB)
    assert parse_softnet("\n".join(line[:80] for line in SOFTNET.splitlines())) == (0x494, 0x11, 0)  # an older kernel


def test_shares_are_of_all_processors_time() -> None:
    before = Reading(100.0, 2, 1000, 500, 5000, 100, 0, 3, 10, 0, 1_000_000, 700)
    after = Reading(102.0, 2, 1100, 560, 5200, 130, 10, 5, 30, 4, 1_500_000, 800)
    seen = between(before, after, backlog_limit=1000, backlog=9)
    assert seen.seconds == 2.0
    assert (seen.idle, seen.own, seen.others, seen.interrupts, seen.steal) == (0.5, 0.25, 0.15, 0.075, 0.025)
    assert (seen.dropped, seen.squeezed_a_s, seen.backlog, seen.pressure, seen.busiest) == (2, 5.0, 9, 0.25, 0.5)


def test_a_calm_run_is_good_and_says_with_which_figures() -> None:
    said = judge(CALM, saturates=False)
    assert (said["verdict"], said["why"]) == ("good", [])
    assert (said["idle"], said["backlog_limit"], said["load"]) == (0.6, 1000, 1.0)


@pytest.mark.parametrize(
    ("saturated", "good", "word"),
    [
        ({"idle": 0.049}, {"idle": 0.051}, "idle"),
        ({"idle": 0.24, "others": 0.26}, {"idle": 0.26, "others": 0.26}, "other processes"),
        ({"idle": 0.2, "others": 0.26}, {"idle": 0.2, "others": 0.24}, "other processes"),
        ({"steal": 0.021}, {"steal": 0.019}, "hypervisor"),
        ({"dropped": 1}, {"dropped": 0}, "dropped"),
        ({"backlog": 901}, {"backlog": 900}, "backlog of 901"),
        ({"squeezed_a_s": 51.0}, {"squeezed_a_s": 50.0}, "left behind"),
        ({"pressure": 0.51}, {"pressure": 0.5}, "waited for a CPU"),
        ({"pressure": 0.51}, {"pressure": None}, "waited for a CPU"),
    ],
)
def test_each_threshold_from_both_sides(saturated: dict[str, float], good: dict[str, float], word: str) -> None:
    said = judge(replace(CALM, **saturated), saturates=False)  # type: ignore[arg-type]
    assert said["verdict"] == "saturated"
    assert word in said["why"][0]
    assert judge(replace(CALM, **good), saturates=False)["verdict"] == "good"  # type: ignore[arg-type]


def test_an_experiment_that_saturates_is_only_held_to_what_others_take() -> None:
    full = replace(CALM, idle=0.0, own=0.6, others=0.05, dropped=12, squeezed_a_s=500.0, pressure=0.9)
    assert judge(full, saturates=False)["verdict"] == "saturated"
    assert judge(full, saturates=True)["verdict"] == "good"
    assert judge(replace(full, others=0.11), saturates=True)["verdict"] == "saturated"
    assert judge(replace(full, steal=0.05), saturates=True)["verdict"] == "saturated"


def test_what_is_too_short_or_not_told_is_unknown() -> None:
    assert judge(None, saturates=False)["verdict"] == "unknown"
    assert judge(replace(CALM, seconds=0.1, idle=0.0), saturates=False)["verdict"] == "unknown"
    assert judge(replace(CALM, seconds=0.1, dropped=1), saturates=False)["verdict"] == "saturated"


def test_this_machine_is_watched() -> None:
    watch = Watch({})
    watch.start()
    until = time.monotonic() + 0.7
    while time.monotonic() < until:  # so that this process has used a processor
        pass
    seen = watch.stop()
    assert seen is not None
    assert 0.7 <= seen.seconds < 10
    assert 0.0 <= seen.idle < 1.0
    assert 0.0 < seen.own <= 1.0
    assert seen.busiest >= 1 - seen.idle
    first, second = read(), read()
    assert first is not None
    assert second is not None
    assert second.at_s >= first.at_s
