"""Commands as an ordinary user without sudo, with a home and a runtime folder of its own.

    with ordinary_user() as user, user.traces() as traces:
        traces.run("up")

Nobody, when the tests run as root; then the checkout is shown to it at a place that it can read (a clone
in /root is not), in a mount namespace of each command's own. The user who runs the tests otherwise.
Its labs are not seen from outside its runtime folder, so that `ls` and `down --all` are its own affair.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab_traces import Traces
from running_lab import REPOSITORY

NOBODY = 65534


@dataclass(frozen=True)
class OrdinaryUser:
    """An ordinary user. ``home`` is its working directory; ``checkout`` this repository, as it sees it."""

    home: Path
    runtime: Path
    checkout: Path
    prefix: tuple[str, ...]

    def traces(self) -> Traces:
        """Run commands as this user."""
        python = Path(sys.executable)
        if python.is_relative_to(REPOSITORY):
            python = self.checkout / python.relative_to(REPOSITORY)
        env = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PYTHONPATH": str(self.checkout),
            "PATH": "/usr/local/bin:/usr/bin:/bin",  # as Debian's is for ordinary users: without iptables, tc, ...
        }
        return Traces(self.prefix, env, (str(python), "-m", "mininetes"))

    def state_folder(self, lab: str) -> Path:
        """Where that lab's state folder is."""
        return self.runtime / "mininetes" / lab


@contextlib.contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """An ordinary user for the block."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)  # pytest's own temporary folders are for one user alone
        for name in ("home", "runtime"):
            (place / name).mkdir(mode=0o700)
        if os.geteuid() != 0:
            go_home = ("sh", "-c", f'cd {shlex.quote(str(place / "home"))} && exec "$@"', "sh")
            yield OrdinaryUser(place / "home", place / "runtime", REPOSITORY, go_home)
            return
        checkout = place / "checkout"
        checkout.mkdir()
        for name in ("home", "runtime"):
            os.chown(place / name, NOBODY, NOBODY)
        become = (
            f"mount --bind {shlex.quote(str(REPOSITORY))} {checkout} && cd {place}/home && "
            f'exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups "$@"'
        )
        prefix = ("unshare", "--mount", "sh", "-c", become, "sh")
        yield OrdinaryUser(place / "home", place / "runtime", checkout, prefix)
