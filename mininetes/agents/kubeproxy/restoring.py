"""Running iptables-restore, nft, ipset and the like in a node, and saying which line of a text they refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mininetes.errors import MininetesError
from mininetes.kernel.processes import Completed, Namespaces, run

Backend = Literal["nft", "legacy"]

_LINE = re.compile(r"(?:line:? |<stdin>:|/dev/stdin:|standard input:)(\d+)", re.IGNORECASE)
_TIMEOUT_S = 600.0
"""iptables-nft takes a minute and a half for 10,000 services on a machine that does nothing else."""
_MOST_SAID = 500


_TOO_LONG = "Message too long"
_LINES_AT_ONCE = 100


class RestoreFailed(MininetesError):
    """A tool refused a text. ``line`` is the number of the line at fault (0 unknown), ``text`` that line."""

    def __init__(self, tool: str, said: str, line: int, text: str) -> None:
        where = f": line {line}: {text}" if line else ""
        super().__init__(f"{tool}: {said}{where}")
        self.tool, self.said, self.line, self.text = tool, said, line, text

    @property
    def is_too_long(self) -> bool:
        """Whether it was well, but more than the kernel takes at once: from an ordinary user net.core.wmem_max."""
        return _TOO_LONG in self.said


def parts_of(text: str) -> Iterator[str]:
    """An iptables-restore text as several with some lines each, in the same order. Pure."""
    table, lines = "", list[str]()
    for line in text.splitlines():
        if line.startswith("*"):
            table = line
        elif line != "COMMIT":
            lines.append(line)
        if lines and (line == "COMMIT" or len(lines) == _LINES_AT_ONCE):
            yield "\n".join([table, *lines, "COMMIT", ""])
            lines = []


@dataclass(frozen=True)
class NodeTools:
    """The programs of a node, as its proxy runs them. Every call blocks: for worker threads.

    ``backend`` picks iptables-nft or iptables-legacy; None is what the system's ``iptables`` is.
    """

    where: Namespaces
    backend: Backend | None = None

    def iptables(self, program: str = "", backend: Backend | None = None) -> str:
        """The name of ``iptables``, ``iptables-restore`` or ``iptables-save`` of the back end in use."""
        chosen = backend or self.backend
        return "-".join(word for word in ("iptables", chosen, program) if word)

    @property
    def is_nft(self) -> bool:
        """Whether the iptables in use are iptables-nft. Runs a program when no back end was picked."""
        return "legacy" not in (self.backend or self.run("iptables", "--version").stdout)

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> Completed:
        """Run a program to its end. Raises ProcessFailed with ``check``, FileNotFoundError without the program."""
        return run(argv, namespaces=self.where, stdin=stdin, check=check, timeout_s=_TIMEOUT_S)

    def restore(self, argv: Sequence[str], text: str) -> None:
        """Give a text to a tool. Raises RestoreFailed that names the line at fault."""
        done = self.run(*argv, stdin=text, check=False)
        if done.status == 0:
            return
        said = (done.stderr or done.stdout).strip() or f"status {done.status}"
        found = _LINE.search(said)
        number = int(found[1]) if found else 0
        lines = text.splitlines()
        at_fault = lines[number - 1] if 0 < number <= len(lines) else ""
        # iptables-nft says its name in the first line, and the reason in the next
        raise RestoreFailed(argv[0], " ".join(said.split())[:_MOST_SAID], number if at_fault else 0, at_fault)
