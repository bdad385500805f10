"""What is made of an engine's answer, by one that a test plays."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from mininetes.errors import MininetesError
from mininetes.lab import asking


def said(folder: Path, answer: bytes) -> dict[str, object]:
    """Ask an engine that says this, and ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(folder / "control"))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                assert client.recv(100) == b'{"op": "status"}\n'
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return asking.ask(folder / "control", op="status")
        finally:
            thread.join(10)


def test_an_answer_is_a_line_of_json(tmp_path: Path) -> None:
    assert said(tmp_path, b'{"pods": []}\n') == {"pods": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the lab's engine ended before it answered"),
        (b'{"pods": ["a", "b', "the answer is cut off, or longer than 256 MiB"),
        (b'{"error": "no such pod", "status": 2}\n', "no such pod"),
    ],
)
def test_what_is_no_whole_answer_is_said(tmp_path: Path, answer: bytes, words: str) -> None:
    with pytest.raises(MininetesError, match=words):
        said(tmp_path, answer)
