"""`mininetes run` with many runs: their order, failures, signals, kills, and labs beside each other."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_traces import Traces, finish
from running_lab import REPOSITORY, Done, mininetes
from waiting import wait_until

from mininetes.experiments import context, results
from mininetes.experiments.definition import load
from mininetes.experiments.published import read_verdicts
from mininetes.experiments.results import ROWS, Row, Run
from mininetes.experiments.schedule import schedule, seed_of

PARTS = Path(__file__).parent / "parts"
LOTS = str(PARTS / "experiments" / "drawing_lots.py")
COMMAND = ("--parts", str(PARTS), "run", "drawing_lots")


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Commands of which nothing may be left when the test is over."""
    with Traces() as found:
        yield found
        found.wait_until_gone()


def lots(*arguments: str, out: Path) -> Done:
    """Run the experiment by its bare name, which is found in the folder of parts."""
    return mininetes(*COMMAND, "--out", str(out), *arguments)


def rows_of(folder: Path) -> list[Row]:
    return list(results.read(folder))


def runs_of(folder: Path) -> list[Run]:
    return results.runs(rows_of(folder)) if (folder / ROWS).exists() else []


def planned(*settings: str, repetitions: int | None = None, seed: int = 1) -> list[tuple[str, int]]:
    """The keys of all runs, in the order that the seed decides."""
    experiment = load(LOTS, settings, repetitions=repetitions)
    return [run.key for lab in schedule(experiment, seed) for run in lab.runs]


def draws(folder: Path) -> list[tuple[str, int, float | None]]:
    """What was drawn, in the order in which it was written."""
    return [(row.cell["kind"], row.repetition, row.measurement.value) for row in rows_of(folder) if not row.ends_run]


def test_runs_come_in_the_seeds_order_with_what_they_ran_on_and_verdicts(tmp_path: Path) -> None:
    done = lots(out=tmp_path / "one")
    assert done.status == 0, done
    assert [run.key for run in runs_of(tmp_path / "one")] == planned()
    assert "8 runs in 2 labs" in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in lines] == [f"[{number}/8" for number in range(1, 9)]
    assert all("20 values in" in line for line in lines)
    assert all("left" in line for line in lines[:-1])
    for kind, repetition, value in draws(tmp_path / "one")[::20]:
        assert value == random.Random(seed_of(1, repetition)).random(), (kind, repetition)
    said = context.read(tmp_path / "one")
    assert said["runs"] == {"planned": 8, "done": 8, "failed": 0, "saturated": said["runs"]["saturated"]}
    assert (said["complete"], said["seed"], len(said["starts"])) == (True, 1, 1)
    assert "experiment/drawing_lots.py" in said["parts"]
    assert "fabric/static.py" in " ".join(said["parts"])
    assert said["tools"]["ip"]
    (cluster,) = said["clusters"]
    assert cluster["cells"] == [{}]
    assert (cluster["spec"]["nodes"], cluster["spec"]["pods"]["perNode"]) == ({"workers": 0, "controlPlane": 1}, 1)
    judged = read_verdicts(tmp_path / "one")
    assert judged is not None
    assert [(each.holds, each.row) for each in judged.verdicts] == [("yes", "nothing: it draws lots")]
    assert "lots lie between 0 and 1" in done.stdout

    done = lots("-o", "json", out=tmp_path / "two")
    assert done.status == 0, done
    said = json.loads(done.stdout)
    assert (said["runs"], said["failed"], said["verdicts"][0]["holds"]) == (8, [], "yes")
    assert draws(tmp_path / "two") == draws(tmp_path / "one")


def test_a_run_that_fails_or_dies_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    settings = ["kind=a", "bad=none,raises,dies"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    done = lots(*arguments, "--repetitions", "3", out=tmp_path)
    assert done.status == 1, done
    assert "Traceback" not in done.stderr
    ended = runs_of(tmp_path)
    assert sorted(run.key for run in ended) == sorted(planned(*settings, repetitions=3))
    failed = {(run.cell["bad"], run.repetition): run.error for run in ended if run.error is not None}
    assert failed == {
        ("raises", 1): f"RuntimeError: lots are out (drawing_lots.py:{_line('lots are out')})",
        ("dies", 1): "the lab's engine was ended by SIGKILL",
    }
    told = [line for line in done.stderr.splitlines() if line.startswith("mininetes: failed: ")]
    assert sorted(told) == sorted(
        f"mininetes: failed: bad={bad} repetition 1: {error}" for (bad, _), error in failed.items()
    )
    assert context.read(tmp_path)["runs"]["failed"] == 2

    again = lots(*arguments, "--repetitions", "3", "--resume", out=tmp_path)
    assert again.status == 1, again  # what failed stays failed
    assert [run.key for run in runs_of(tmp_path)] == [run.key for run in ended]


def _line(text: str) -> int:
    lines = Path(LOTS).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_going_on_keeps_to_the_cluster_and_describes_it_where_an_older_result_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "moody.py", tmp_path / "out"
    source = Path(LOTS).read_text()
    file.write_text(source.replace('{"perNode": 1}', '{"perNode": int(os.environ["MOOD"])}'))
    arguments = ("run", str(file), "--set", "kind=a,b", "--repetitions", "1", "--out", str(out))
    monkeypatch.setenv("MOOD", "1")
    done = mininetes(*arguments)
    assert done.status == 0, done
    first = context.read(out)

    monkeypatch.setenv("MOOD", "2")
    done = mininetes(*arguments, "--resume")
    assert done.status == 2, done
    assert "changed: the cluster (pods.perNode 1, now 2); choose another --out" in done.stderr
    assert context.read(out) == first

    monkeypatch.setenv("MOOD", "1")
    older = {key: value for key, value in first.items() if key != "clusters"}
    context.write(out, {**older, "schema": 2})
    done = mininetes(*arguments, "--resume")
    assert done.status == 0, done
    again = context.read(out)
    assert (again["schema"], len(again["starts"])) == (context.SCHEMA, 2)
    assert again["clusters"] == first["clusters"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_was_written_and_goes_on(
    traces: Traces, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    arguments = [*COMMAND, "--out", str(out), "--set", "pause_s=0.3"]
    started = traces.start(*arguments)
    wait_until(lambda: len(runs_of(out)) >= 2, "two runs", within_s=60)
    traces.note()
    started.send_signal(number)
    done = finish(started)
    assert done.status == 128 + number, done
    assert "Traceback" not in done.stderr
    written = rows_of(out)
    count = len(results.runs(written))
    assert 2 <= count < 8
    assert f"of 8 runs are done; --out {out} --resume goes on" in done.stderr
    assert all(run.error is None for run in results.runs(written))
    said = context.read(out)
    assert (said["complete"], said["runs"]["done"], said["runs"]["planned"]) == (False, count, 8)

    done = traces.run(*arguments, "--resume")
    assert done.status == 0, done
    assert f"{count} of 8 were done before" in done.stderr
    assert rows_of(out)[: len(written)] == written
    assert [run.key for run in runs_of(out)] == planned("pause_s=0.3")
    said = context.read(out)
    assert (said["complete"], len(said["starts"])) == (True, 2)
    assert [start["runs"] for start in said["starts"]] == [count, 8 - count]

    before = (out / ROWS).read_bytes()
    done = traces.run(*arguments, "--resume")
    assert done.status == 0, done
    assert (out / ROWS).read_bytes() == before


def test_labs_beside_each_other_only_when_asked_twice_for_what_is_sensitive_to_timing(tmp_path: Path) -> None:
    folder = tmp_path / "met"
    folder.mkdir()
    arguments = ["--set", "bad=meets", "--set", f"folder={folder}", "--repetitions", "2", "--jobs", "2"]
    done = lots(*arguments, out=tmp_path / "out")
    assert done.status == 2, done
    assert "--jobs: 2 is not valid: 1: labs beside each other disturb" in done.stderr
    assert not (tmp_path / "out").exists()
    # each run waits for the same repetition in the other lab
    done = lots(*arguments, "--jobs", "2", out=tmp_path / "out")
    assert done.status == 0, done
    ended = runs_of(tmp_path / "out")
    assert sorted(run.key for run in ended) == sorted(planned("bad=meets", f"folder={folder}", repetitions=2))
    assert all(run.rows == 20 for run in ended)


def test_a_run_on_a_machine_without_idle_time_is_marked_and_left_out(tmp_path: Path) -> None:
    done = lots("--set", "bad=burns", "--repetitions", "1", out=tmp_path)
    assert done.status == 0, done
    rows = rows_of(tmp_path)
    for run in results.runs(rows):
        assert run.is_saturated, run
        assert run.fidelity["idle"] < 0.2, run
        assert run.fidelity["own"] > 0.1, run
        assert run.fidelity["why"]
    assert results.trusted(rows) == []
    assert len(results.trusted(rows, saturated=True)) == len(rows) == 42
    assert context.read(tmp_path)["runs"]["saturated"] == 2
    judged = read_verdicts(tmp_path)
    assert judged is not None
    assert (judged.saturated, judged.left_out) == (True, 0)  # there were no others
    assert "the machine did not keep up in 2 of 2 runs" in done.stderr
    assert "verdicts count them in" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "draws=0"], "draws: 0 is not valid: at least 1"),
        (["--set", "kind=c,c"], "each value once"),
        (["--repetitions", "0"], "--repetitions: 0"),
        (["--retry-failed"], "--retry-failed: together with --resume"),
        (["--resume"], "--resume: with --out DIR"),
        (["--size", "huge"], "huge"),
        (["--jobs", "0"], "0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_refused_in_a_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = mininetes(*COMMAND, *arguments, cwd=tmp_path)
    assert done.status == 2, done
    assert words in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_result_of_other_parameters_is_not_gone_on_with(tmp_path: Path) -> None:
    done = lots("--size", "figures", "--set", "kind=a", out=tmp_path)
    assert done.status == 0, done
    assert [run.rows for run in runs_of(tmp_path)] == [5, 5]
    assert context.read(tmp_path)["experiment"]["size"] == "figures"
    before = (tmp_path / ROWS).read_bytes()
    done = lots("--resume", "--set", "kind=a", "--seed", "2", out=tmp_path)
    assert done.status == 2, done
    assert "changed: the parameters (" in done.stderr
    assert "the repetitions (2, now 4), the seed (1, now 2); choose another --out" in done.stderr
    assert (tmp_path / ROWS).read_bytes() == before


def test_the_experiments_are_listed() -> None:
    done = mininetes("--parts", str(PARTS), "run", "--list", "-o", "json")
    assert done.status == 0, done
    said: dict[str, Any] = {each["name"]: each for each in json.loads(done.stdout)}
    assert said["drawing_lots"]["repetitions"] == 4
    assert said["quickstart"]["title"].startswith("The main job")
    assert mininetes("run", cwd=REPOSITORY).status == 2
