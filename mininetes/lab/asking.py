"""Asking a running engine something over its control socket, from the host."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from mininetes.errors import MininetesError, Reported

_LINE_BYTES = 256 << 20


def ask(path: Path, answer_within_s: float = 300.0, **request: Any) -> dict[str, Any]:
    """Send one request (``op`` and its arguments) and return the answer. Raises MininetesError with a refusal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(answer_within_s)
        try:
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            answer = client.makefile("rb").readline(_LINE_BYTES)
        except OSError as failed:
            raise MininetesError(f"the lab's engine does not answer: {failed}") from None
    if not answer:
        raise MininetesError("the lab's engine ended before it answered")
    if not answer.endswith(b"\n"):
        raise MininetesError(f"the answer is cut off, or longer than {_LINE_BYTES >> 20} MiB")
    said: dict[str, Any] = json.loads(answer)
    if "error" in said:
        raise Reported(said["error"], said.get("status", 1))
    return said
