"""The kubectls that there are: the machine's own, and those that set-up keeps for tests (scripts/kubectl_clients.sh).

    path     the one on PATH
    new      1.33 (exec over WebSocket)
    debian   1.20, Debian 12's: applies and creates only with --validate=false

Tests of real clients run once for each that is there; there must be one at least.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running_lab import REPOSITORY, Done, RunningLab, mininetes
from waiting import wait_until

KEPT = REPOSITORY / ".venv" / "kubectl"


@dataclass(frozen=True)
class Client:
    """A kubectl: a name for people, where it is, its minor version, and whether it hands over to kubectls of others.

    Google's dispatcher does: it runs one of the server's version where it has it.
    """

    name: str
    path: str
    minor: int
    dispatches: bool = False

    def __str__(self) -> str:
        return f"{self.name}-1.{self.minor}"

    @property
    def is_new(self) -> bool:
        """Whether it works without flags."""
        return self.minor >= 30

    @property
    def speaks_websocket(self) -> bool:
        """Whether its exec does."""
        return self.minor >= 31 and not self.dispatches


def find() -> list[Client]:
    """All that are here, the newest ways first."""
    places = {"path": shutil.which("kubectl"), "new": str(KEPT / "kubectl-new"), "debian": str(KEPT / "kubectl-debian")}
    found = []
    for name, path in places.items():
        if path is None or not os.access(path, os.X_OK):
            continue
        done = subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, text=True, check=False)
        version = re.search(r'"gitVersion":\s*"v1\.(\d+)\.([^"]*)"', done.stdout)
        if version is not None:
            found.append(Client(name, path, int(version[1]), "dispatcher" in version[2]))
    return found


KUBECTLS = find()
NEW = [client for client in KUBECTLS if client.is_new]
WITH_WEBSOCKET = [client for client in KUBECTLS if client.speaks_websocket]
WITH_SPDY = [client for client in KUBECTLS if client.minor < 30]
assert NEW, "no kubectl of 1.30 or newer: run scripts/kubectl_clients.sh"
ANY = NEW[-1]
"""One that works without flags, for tests that are not about the client."""


class Kubectl:
    """A kubectl that is set up for a lab, with a home of its own, so that nothing is cached from another lab."""

    def __init__(self, client: Client, kubeconfig: Path, home: Path) -> None:
        self.client = client
        self._env = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(home), "LC_ALL": "C.UTF-8"}
        self._before: list[str] = []

    def within(self, namespace: str) -> Kubectl:
        """The same for another namespace."""
        made = copy.copy(self)
        made._before = [f"--namespace={namespace}"]
        return made

    def told(self, env: Mapping[str, str]) -> Kubectl:
        """The same with these environment variables."""
        made = copy.copy(self)
        made._env = {**self._env, **env}
        return made

    def argv(self, *arguments: str) -> list[str]:
        """The whole command."""
        return [self.client.path, *self._before, *arguments]

    def attempt(self, *arguments: str, stdin: str = "") -> Done:
        """Run it, whatever comes of it."""
        done = subprocess.run(
            self.argv(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env=self._env,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run it, expect success, and return what it printed."""
        done = self.attempt(*arguments, stdin=stdin)
        assert done.status == 0, f"{self.client}: kubectl {' '.join(arguments)}: {done}"
        return done.stdout

    def fails(self, *arguments: str, stdin: str = "") -> str:
        """Run it, expect a failure, and return what it said on stderr."""
        done = self.attempt(*arguments, stdin=stdin)
        assert done.status != 0, f"{self.client}: kubectl {' '.join(arguments)}: {done}"
        return done.stderr.strip()

    @property
    def unchecked(self) -> list[str]:
        """The flag without which an old one asks for a schema in protobuf."""
        return [] if self.client.is_new else ["--validate=false"]

    def apply(self, manifest: str) -> str:
        """Apply a manifest's text."""
        return self("apply", *self.unchecked, "-f", "-", stdin=manifest)

    def json(self, *arguments: str) -> Any:
        """What it prints with -o json."""
        return json.loads(self(*arguments, "-o", "json"))

    def rows(self, *arguments: str) -> list[dict[str, str]]:
        """What it prints as a table, by column; columns are apart by two spaces and more, as kubectl prints them."""
        lines = self(*arguments).splitlines()
        if not lines:
            return []
        starts = [found.start() for found in re.finditer(r"(?:(?<=^)|(?<=   ))\S", lines[0])]
        ends = [*starts[1:], None]
        names = [lines[0][a:b].strip() for a, b in zip(starts, ends, strict=True)]
        return [
            dict(zip(names, (line[a:b].strip() for a, b in zip(starts, ends, strict=True)), strict=True))
            for line in lines[1:]
        ]

    def wait(self, condition: Callable[[], Any], what: str, within_s: float = 30.0) -> Any:
        """Ask until it is so."""
        return wait_until(condition, what, within_s=within_s, every_s=0.1)

    @contextlib.contextmanager
    def watching(self, *arguments: str) -> Iterator[Watching]:
        """A `kubectl get --watch` that goes on during the block."""
        argv = self.argv("get", *arguments, "--watch", "--output-watch-events")
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._env)
        watching = Watching(process)
        try:
            yield watching
        finally:
            process.terminate()
            process.wait(10)
            watching.join()


class Watching:
    """The lines that a watch has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[list[str]] = []
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.split())

    def join(self) -> None:
        """Wait until all that was printed is read."""
        self._thread.join(10)

    def names(self, event: str) -> list[str]:
        """The objects of these events (ADDED, MODIFIED, DELETED), in order."""
        return [line[1] for line in list(self.lines) if line[0] == event]

    def states(self, name: str) -> list[tuple[str, str]]:
        """READY and STATUS of a pod, as they went by."""
        return [(line[2], line[3]) for line in list(self.lines) if line[1] == name]


@contextlib.contextmanager
def set_up(lab: RunningLab, client: Client, folder: Path) -> Iterator[Kubectl]:
    """A kubectl for a lab, as `mininetes kubeconfig` sets it up."""
    done = mininetes("kubeconfig", lab.name)
    assert done.status == 0, done
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(done.stdout)
    kubeconfig.chmod(0o600)
    (folder / "home").mkdir(exist_ok=True)
    yield Kubectl(client, kubeconfig, folder / "home")


@contextlib.contextmanager
def namespace(kubectl: Kubectl, name: str) -> Iterator[Kubectl]:
    """A namespace of the test's own, gone in the end."""
    kubectl.apply(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
    try:
        yield kubectl.within(name)
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def deployment(name: str, replicas: int, *, port: int = 8080, more: Sequence[str] = ()) -> str:
    """A deployment of built-in responders with a service, as people write them."""
    return "\n".join(
        [
            "apiVersion: apps/v1",
            "kind: Deployment",
            f"metadata: {{name: {name}, labels: {{app: {name}}}}}",
            "spec:",
            f"  replicas: {replicas}",
            f"  selector: {{matchLabels: {{app: {name}}}}}",
            "  template:",
            f"    metadata: {{labels: {{app: {name}}}}}",
            "    spec:",
            "      containers:",
            "      - name: web",
            "        image: web",
            f"        ports: [{{containerPort: {port}}}]",
            *more,
            "---",
            "apiVersion: v1",
            "kind: Service",
            f"metadata: {{name: {name}}}",
            "spec:",
            f"  selector: {{app: {name}}}",
            f"  ports: [{{port: 80, targetPort: {port}}}]",
            "",
        ]
    )


def talking_pod(name: str, command: str, *, node: str = "") -> str:
    """A pod that runs a shell command."""
    lines = ["apiVersion: v1", "kind: Pod", f"metadata: {{name: {name}}}", "spec:"]
    lines += [f"  nodeName: {node}"] if node else []
    lines += ["  terminationGracePeriodSeconds: 0", "  containers:", "  - name: main", "    image: any"]
    lines += [f"    command: {json.dumps(['sh', '-c', command])}", ""]
    return "\n".join(lines)
