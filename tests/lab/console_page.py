"""A page of the guide as a test: what its console blocks say is typed into a shell, and what they show is compared.

    ```console
    $ mininetes exec node1 -- ip route
    default via 192.168.1.1 dev eth0
    ...
    ```

A line with "$ " is a command, lines with "> " after it go on with it, the rest is what it prints. There "..." alone in
a line stands for any lines, and elsewhere for any text in the line; a command without output may print anything.
"(status 1)" as the last line says how it ends; without it a command has to succeed.

A file that the page shows, whole and below its name, which begins with my/, is there when the commands run; a command
of the page makes it executable where it has to be.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

COMMAND_WITHIN_S = 60.0
_END = "\x1e"


@dataclass
class Step:
    """One command with the lines that the page shows below it."""

    line: int
    command: str
    shown: list[str] = field(default_factory=list)
    status: int = 0


def steps(page: Path, kind: str = "console") -> list[Step]:
    """The commands of a page, in order: of "console" blocks, or of "console vm" ones, for a machine of its own."""
    found: list[Step] = []
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.strip().startswith("```"):
            inside = line.strip() == f"```{kind}"
            continue
        if not inside:
            continue
        if line.startswith("$ "):
            found.append(Step(number, line[2:]))
        elif line.startswith("> "):
            found[-1].command += "\n" + line[2:]
        elif ended := re.fullmatch(r"\(status (\d+)\)", line):
            found[-1].status = int(ended.group(1))
        else:
            found[-1].shown.append(line)
    return found


_FILE = re.compile(r"`(my/[\w./-]+)`[^`]*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files(page: Path) -> dict[str, str]:
    """The files that a page shows, by their names."""
    return dict(_FILE.findall(page.read_text()))


def as_shown(shown: list[str], printed: str) -> bool:
    """Whether a command printed what the page shows. How wide the blanks in a line are does not matter."""
    pattern = ""
    for line in shown:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            words = [re.escape(part) for part in _narrow(line).split("...")]
            pattern += r"[^\n]*".join(words) + r"\n"
    lines = printed.rstrip("\n").splitlines() if printed.strip() else []
    text = "".join(_narrow(line) + "\n" for line in lines)
    return re.fullmatch(pattern, text) is not None


def _narrow(line: str) -> str:
    return re.sub(r"[ \t]+", " ", line.rstrip())


class Shell:
    """One bash for a whole page, so that what a command exports is there for the next."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def type(self, command: str, within_s: float = COMMAND_WITHIN_S) -> tuple[str, int]:
        """Run a command; what it printed, and its status. Raises TimeoutError or EOFError."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\nprintf '{_END}%d{_END}' $?\n".encode())
        deadline = time.monotonic() + within_s
        said = b""
        while not (done := re.search(rb"\x1e(\d+)\x1e$", said)):
            ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError(f"{command}: not done within {within_s:g} s; it printed ...{said.decode()[-400:]!r}")
            assert self._process.stdout is not None
            block = os.read(self._process.stdout.fileno(), 65536)
            if not block:
                raise EOFError(f"{command}: the shell has ended; it printed ...{said.decode()[-400:]!r}")
            said += block
        return said[: done.start()].decode(errors="replace"), int(done.group(1))


def wrong_in(
    page: Path, folder: Path, environment: dict[str, str], kind: str = "console", within_s: float = COMMAND_WITHIN_S
) -> list[str]:
    """Type a page's commands into a shell in a folder; what went otherwise than the page says, in words."""
    for name, text in files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    wrong = []
    with shell(folder, environment) as terminal:
        for step in steps(page, kind):
            printed, status = terminal.type(step.command, within_s)
            where = f"{page.name}:{step.line}: $ {step.command}\n"
            if status != step.status:
                wrong.append(f"{where}ended with status {status}, not {step.status}, and printed:\n{printed}")
            elif step.shown and not as_shown(step.shown, printed):
                wrong.append(f"{where}printed:\n{printed}\nand the page shows:\n" + "\n".join(step.shown))
    return wrong


@contextmanager
def shell(folder: Path, environment: dict[str, str]) -> Iterator[Shell]:
    """A shell in a folder, in which no labs but its own are seen where that can be had (as root); they end with it."""
    hide = 'exec 2>&1; if [ "$(id -u)" = 0 ]; then mkdir -p /run/mininetes; mount -t tmpfs labs /run/mininetes; fi\n'
    process = subprocess.Popen(
        ["unshare", "--mount", "bash", "--norc"] if os.geteuid() == 0 else ["bash", "--norc"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        env=environment,
        bufsize=0,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(hide.encode())
        yield Shell(process)
    finally:
        enter = ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "--"] if os.geteuid() == 0 else []
        down = [*enter, "mininetes", "down", "--all"]
        subprocess.run(down, env=environment, capture_output=True, check=False, timeout=60)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()
