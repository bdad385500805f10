"""A shell as a reader of the pages has it: Mininetes on its path, the files that they speak of, and no lab yet."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from console_page import Shell, shell
from test_guide_parts import OBJECTS, write_examples

ROOT = Path(__file__).resolve().parents[2]
KIND = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes: [{role: control-plane}, {role: worker}]\n"
WITHIN_S = 240.0
_WRITES_HERE = re.compile(r"(?:^|[|;&(])\s*(?:sudo\s+)?(?:ip|ip6?tables[\w-]*|nft|ipset|ipvsadm)\b")


def write_files(folder: Path) -> None:
    """The files that pages and help texts speak of. ``own`` has the parts of docs/parts.md and docs/cni-script.md."""
    (folder / "web.yaml").write_text((ROOT / "docs" / "web.yaml").read_text())
    (folder / "my-cluster.yaml").write_text((ROOT / "topologies" / "clusters" / "islands.yaml").read_text())
    (folder / "kind.yaml").write_text(KIND)
    (folder / "objects.yaml").write_text(OBJECTS)
    (folder / "objects.json").write_text(json.dumps({"kind": "List", "items": [*yaml.safe_load_all(OBJECTS)]}))
    own = folder / "own"
    write_examples(own)
    shutil.copy(own / "cni_scripts" / "wire", folder / "my-plugin")
    configuration = (own / "cni_scripts" / "mine.conflist").read_text()
    (folder / "my.conflist").write_text(configuration.replace("wire", "my-plugin"))
    for name in ("experiments", "topologies"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])


@contextmanager
def reader(folder: Path) -> Iterator[Shell]:
    """The shell, in a folder with these files. Its labs end with it."""
    write_files(folder)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "TERM": "dumb", "HOME": str(folder)}
    environment.pop("MININETES_LAB", None)
    environment["KUBECONFIG"] = str(folder / "kubeconfig")
    with tempfile.TemporaryDirectory(prefix="mn-") as runtime:  # of a short name: sockets' paths have few bytes
        if os.geteuid() != 0:
            environment["XDG_RUNTIME_DIR"] = runtime
        with shell(folder, environment) as found:
            yield found


def wrong_of(terminal: Shell, lines: Iterable[str]) -> list[str]:
    """Type these, each in a subshell of its own, without an input; what went wrong, in words.

    None may write links or rules of this machine: a page's example has to do that in a node.
    """
    wrong = []
    for line in lines:
        assert not _WRITES_HERE.search(line), line
        printed, status = terminal.type(f"(set -eo pipefail; {line}\n) </dev/null", WITHIN_S)
        if status != 0:
            wrong.append(f"$ {line}\nended with status {status}, and printed:\n{printed[-1500:]}")
    return wrong
