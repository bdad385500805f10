"""How errors that no command expects end one: in a line, with the status that says whose fault it was."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import mininetes.cli.main  # noqa: F401 - the package's `main` is the function

module = sys.modules["mininetes.cli.main"]
LOCKED = "is not valid: one that can be used here: "
REFUSED = [
    (["validate", "/locked/a.yaml"], "/locked/a.yaml", 2, f"path: '/locked/a.yaml' {LOCKED}Permission"),
    (["report", "/locked"], "/locked/rows.jsonl", 2, f"path: '/locked' {LOCKED}/locked/rows.jsonl: "),
    (["report", "a", "--out=/locked/x.html"], "/locked/x.html", 2, "path: '/locked/x.html' is not valid"),
    (["up", "--lab", "a"], "/run/mininetes/a/lab.json", 1, "[Errno 13] Permission denied: '/run/mininetes/a/lab.json'"),
    (["up"], None, 1, "[Errno 13] Permission denied"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "file", "status", "words"), REFUSED)
def test_a_file_that_may_not_be_used_is_the_users_where_an_argument_names_it(
    arguments: list[str],
    file: str | None,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", file) if file else PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "cli", refuse)
    monkeypatch.setattr("sys.argv", ["mininetes", *arguments])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == status
    said = capsys.readouterr().err
    assert said.startswith(f"mininetes: {words}")
    assert len(said.splitlines()) == 1


def test_a_path_through_a_file_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("sys.argv", ["mininetes", "new", str(tmp_path / "file" / "paper")])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("mininetes: path: ")


MISTYPED = [
    (["up", "--nodez"], "mininetes: No such option '--nodez'. (Did you mean one of: ", "See 'mininetes up --help'."),
    (["up", "--proxy"], "mininetes: Option '--proxy' requires an argument", ""),
    (["upp"], "mininetes: No such command 'upp'. ", "See 'mininetes --help'."),
    (["exec"], "mininetes: Missing argument 'NODE", "See 'mininetes exec --help'."),
    (["probe", "latency", "--count=x"], "mininetes: Invalid value for '--count': 'x'", "latency --help'."),
]  # fmt: skip


@pytest.mark.parametrize(("words", "first", "last"), MISTYPED)
def test_what_is_mistyped_is_said_in_a_line(
    words: list[str], first: str, last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["mininetes", *words])
    with pytest.raises(SystemExit) as ended:
        module.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith(first)
    assert said.err.endswith(f"{last}\n")
    assert len(said.err.splitlines()) == 1


def test_a_group_alone_shows_its_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["mininetes", "node"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("Usage: mininetes node ")
