"""What all tests share: golden data, and the flag that writes it anew (--rewrite-golden), to be reviewed as a diff."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure() -> None:
    """Have Ctrl-C mean what it does, also where the tests were started in the background of a script, and `make` too.

    What a test starts with `make` is no part of the `make test` above it: it would say which directory it enters.
    """
    for name in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"):
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="Write tests/golden/ anew; then look at 'git diff' before a commit.",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With --dist loadfile, files go to workers one by one, but those of tests/vm/inside share one virtual machine."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415 - not there without xdist

    inside = "tests/vm/inside"

    class OneMachine(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return inside if nodeid.startswith(f"{inside}/") else super()._split_scope(nodeid)

        def schedule(self) -> None:
            super().schedule()
            if inside in self.workqueue:  # it takes the longest where all is emulated, so it comes next
                self.workqueue.move_to_end(inside, last=False)

    return OneMachine(config, log)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Compare a value, byte for byte, with tests/golden/NAME.json."""

    def compare(name: str, value: Any) -> None:
        path = GOLDEN / f"{name}.json"
        text = json.dumps(value, indent=2, sort_keys=True) + "\n"
        if request.config.getoption("--rewrite-golden"):
            path.write_text(text)
        assert path.is_file(), f"no golden data {path.name}: write it with --rewrite-golden, and look at it"
        assert text == path.read_text(), f"differs from {path.name}: on purpose? then --rewrite-golden"

    return compare
