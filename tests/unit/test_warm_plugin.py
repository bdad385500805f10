"""Plugins that stay for several ADDs, with small scripts as plugins."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mininetes.agents.cni.warm_plugin import WarmPlugin, offers, what_it_is_made_of
from mininetes.kernel.processes import HERE, ProcessFailed

STAYS = """#!/bin/bash
# MININETES_SERVE=1 makes it stay
[[ $MININETES_SERVE$CNI_PATH == 1/plugins && -z ${CNI_COMMAND-} ]] || exit 99
while read -r -N 8 size; do
    read -r -N "$((10#$size))" request
    mapfile -t lines <<<"$request"
    case ${lines[4]} in
        fail) echo '{"code": 7}' && echo why >&2 && exit 1 ;;
        silent) exit 3 ;;
        idle) exit 0 ;;
        hang) exec sleep 1000 ;;
        wait) : >"${lines[5]}.begun" && read -r <"${lines[5]}" ;;
    esac
    printf '%s;' "$$" "${lines[@]}"
    printf '\\0'
done
"""
WORDS = ("web", "/run/netns/web", "eth0", "A=1;B=2")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "plugin"
    path.write_text(STAYS)
    path.chmod(0o755)
    return path


@pytest.fixture
def plugin(script: Path) -> Iterator[WarmPlugin]:
    warm = WarmPlugin(str(script), {"PATH": "/usr/bin:/bin", "CNI_PATH": "/plugins"}, HERE)
    yield warm
    warm.close()


def ask(plugin: WarmPlugin, configuration: str, timeout_s: float = 10.0) -> tuple[int, str, str] | None:
    done = plugin.add(WORDS, configuration, timeout_s)
    return None if done is None else (done.status, done.stdout, done.stderr)


def answered_by(answer: tuple[int, str, str] | None) -> str:
    """The process that answered, with all that it was told."""
    assert answer is not None
    status, stdout, stderr = answer
    pid, _, rest = stdout.partition(";")
    assert (status, rest.split(";")[:4], stderr) == (0, ["web", "/run/netns/web", "eth0", "A=1"], "")
    return pid


def test_one_process_does_several_adds(plugin: WarmPlugin) -> None:
    first, second = (answered_by(ask(plugin, text)) for text in ("x", "ä" * 100_000))
    assert first == second


def test_an_add_that_fails_says_why_and_the_next_one_has_a_new_process(plugin: WarmPlugin) -> None:
    first = answered_by(ask(plugin, "x"))
    assert ask(plugin, "fail") == (1, '{"code": 7}\n', "why\n")
    assert ask(plugin, "silent") == (3, "", "")
    assert answered_by(ask(plugin, "x")) != first


def test_one_that_had_just_gone_did_not_begin(plugin: WarmPlugin) -> None:
    assert ask(plugin, "idle") is None
    assert answered_by(ask(plugin, "x"))


def test_one_that_ended_meanwhile_is_no_zombie(plugin: WarmPlugin) -> None:
    pid = int(answered_by(ask(plugin, "x")))
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "nobody took note of its end"
        time.sleep(0.01)
    assert answered_by(ask(plugin, "x")) != str(pid)


def test_one_that_is_not_done_in_time_is_ended(plugin: WarmPlugin) -> None:
    with pytest.raises(ProcessFailed, match=r"not done after 0\.2 s"):
        ask(plugin, "hang", timeout_s=0.2)
    assert answered_by(ask(plugin, "x"))


def test_one_that_is_at_work_is_not_waited_for(plugin: WarmPlugin, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    answers = []
    other = threading.Thread(target=lambda: answers.append(ask(plugin, f"wait\n{gate}")))
    other.start()
    with gate.open("w") as opened:  # opens when the plugin reads from it
        assert ask(plugin, "x") is None
        opened.write("\n")
    other.join(10)
    assert answered_by(answers[0])


def test_words_that_are_no_lines_are_left_to_the_environment(plugin: WarmPlugin) -> None:
    assert plugin.add(("web\n", *WORDS[1:]), "x", 10.0) is None


def test_closing_ends_the_process_and_may_be_done_twice(plugin: WarmPlugin) -> None:
    pid = answered_by(ask(plugin, "x"))
    plugin.close()
    plugin.close()
    assert not Path(f"/proc/{pid}").exists()


def test_only_scripts_that_say_so_are_taken_to_stay(script: Path, tmp_path: Path) -> None:
    assert offers(str(script))
    for text in (STAYS.replace("# MININETES", "echo MININETES"), STAYS[2:], "\x7fELF MININETES_SERVE=1", ""):
        script.write_text(text)
        assert not offers(str(script)), text
    assert not offers(str(tmp_path / "nothing"))


def test_a_change_of_any_file_beside_it_is_seen(script: Path, tmp_path: Path) -> None:
    link = tmp_path / "bin" / "plugin"
    link.parent.mkdir()
    link.symlink_to(script)
    before = what_it_is_made_of(str(link))
    assert before == what_it_is_made_of(str(link))
    (tmp_path / "library.bash").write_text(":")
    assert before != what_it_is_made_of(str(link))
    assert what_it_is_made_of(str(tmp_path / "no" / "plugin")) == ()
