"""A running cluster in the hands of a test: what is there, commands at its places, its API, and mishaps to order."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mininetes.cli.api_access import kubeconfig_of, with_api
from mininetes.cli.entering import NODE_ENVIRONMENT, argv_in, path_inside
from mininetes.cli.objects import apply_one, checked_manifest, read_manifests
from mininetes.errors import BadInput, MininetesError, one_of
from mininetes.lab.asking import ask
from mininetes.lab.state import LabState
from mininetes.testing.commands import Done, run, succeeded

_T = TypeVar("_T")
Manifest = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]
_LOG_LINES = 40


@dataclass(frozen=True)
class Place:
    """A node, a pod or a client of the cluster: where it is, and commands in it."""

    cluster: Cluster
    where: str
    name: str
    node: str
    address: str

    def __str__(self) -> str:
        return self.where

    def exec(self, *argv: str, stdin: str = "", timeout_s: float = 60.0) -> str:
        """Run a command here and return what it printed. Raises CommandFailed (an AssertionError)."""
        __tracebackhide__ = True
        return self.cluster.exec(self.where, *argv, stdin=stdin, timeout_s=timeout_s)

    def try_exec(self, *argv: str, stdin: str = "", timeout_s: float = 60.0) -> Done:
        """Run a command here, whatever its status."""
        return self.cluster.try_exec(self.where, *argv, stdin=stdin, timeout_s=timeout_s)


class Cut:
    """A node whose cable is out; back in with `heal`, or with the block."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node

    def __enter__(self) -> Cut:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.heal(self._node)


class Cluster:
    """A cluster that is up. ``name`` is its lab's: `mininetes shell --lab NAME node1` looks around in it meanwhile."""

    def __init__(self, lab: LabState) -> None:
        self.lab = lab
        self.name = lab.name
        self._cut: set[str] = set()

    # --- what is there ---------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What `mininetes status -o json` says, but for drift."""
        return ask(self.lab.control, op="status")

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that there are now."""
        return [host["name"] for host in self.status()["hosts"] if host["podSubnet"]]

    @property
    def pods(self) -> list[str]:
        """The names of the pods that run now: NAME, or NAMESPACE/NAME outside the namespace default."""
        return [pod["name"] for pod in self.status()["pods"]]

    def node(self, name: str) -> Place:
        """A node, or a client outside (``client1``). Raises BadInput that names those there are."""
        hosts = {host["name"]: host for host in self.status()["hosts"]}
        if name not in hosts:
            raise BadInput("node", name, one_of(hosts, name))
        return Place(self, name, name, name, str(hosts[name]["address"]))

    def pod(self, name: str) -> Place:
        """A pod that runs. Raises BadInput that names those there are."""
        pods = {pod["name"]: pod for pod in self.status()["pods"]}
        if name not in pods:
            raise BadInput("pod", name, one_of(pods, name, "none: no pod runs"))
        return Place(self, f"pod/{name}", name, pods[name]["node"], str(pods[name]["address"]))

    @property
    def kubeconfig(self) -> Path:
        """The file with which kubectl and other clients reach the API server from this machine. Raises BadInput."""
        kubeconfig_of(self.lab)
        return self.lab.kubeconfig

    # --- commands --------------------------------------------------------------------------------------------------

    def try_exec(self, where: str | Place, *argv: str, stdin: str = "", timeout_s: float = 60.0) -> Done:
        """Run a command in a node, ``pod/NAME`` or ``container/NAME``, whatever its status. Raises BadInput."""
        command = argv_in(self.lab, str(where), list(argv))
        environment = {**NODE_ENVIRONMENT, "PATH": path_inside()}
        return run(command, str(where), argv, stdin=stdin, timeout_s=timeout_s, environment=environment)

    def exec(self, where: str | Place, *argv: str, stdin: str = "", timeout_s: float = 60.0) -> str:
        """Run a command at a place and return what it printed. Raises CommandFailed (an AssertionError), BadInput."""
        __tracebackhide__ = True
        return succeeded(self.try_exec(where, *argv, stdin=stdin, timeout_s=timeout_s))

    # --- the API ---------------------------------------------------------------------------------------------------

    def apply(self, manifest: Manifest, *, namespace: str = "default") -> list[dict[str, Any]]:
        """Create or change objects as `kubectl apply`; returns them as they are then.

        A file or folder, YAML (a text of several lines), an object, or several. All are read before the first is
        sent. Raises BadInput for what is no manifest, ApiError with the server's refusal.
        """
        from mininetes.apiserver.resources import by_kind  # noqa: PLC0415 - half a second that other tests need not wait

        objects = _objects(manifest)

        async def work(client: Any) -> list[dict[str, Any]]:
            made = []
            for obj in objects:
                resource = by_kind(obj["apiVersion"], obj["kind"])
                where = obj["metadata"].get("namespace", namespace) if resource.namespaced else None
                made.append((await apply_one(client, resource, obj, where, dry_run=False))[1])
            return made

        return self.ask_api(work)

    def get(self, kind: str, name: str, *, namespace: str = "default") -> dict[str, Any]:
        """An object, by a kind as kubectl knows it. Raises ApiError, BadInput."""
        from mininetes.apiserver.resources import by_name  # noqa: PLC0415

        resource = by_name(kind)
        place = namespace if resource.namespaced else None

        async def work(client: Any) -> dict[str, Any]:
            found: dict[str, Any] = await client.get(resource.resource_name, name, place)
            return found

        return self.ask_api(work)

    def objects(self, kind: str, *, namespace: str | None = "default", labels: str = "") -> list[dict[str, Any]]:
        """The objects of a kind, in one namespace or in all (None), with these labels (``app=web``)."""
        from mininetes.apiserver.resources import by_name  # noqa: PLC0415

        resource = by_name(kind)
        place = namespace if resource.namespaced else None

        async def work(client: Any) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await client.list(resource.resource_name, place, labels=labels))["items"]
            return found

        return self.ask_api(work)

    def delete(self, kind: str, name: str, *, namespace: str = "default") -> None:
        """Delete an object; does not wait until it is gone. Raises ApiError, BadInput."""
        from mininetes.apiserver.resources import by_name  # noqa: PLC0415

        resource = by_name(kind)

        async def work(client: Any) -> None:
            await client.delete(resource.resource_name, name, namespace if resource.namespaced else None)

        self.ask_api(work)

    def ask_api(self, work: Callable[[Any], Awaitable[_T]]) -> _T:
        """Run a coroutine function with a client of the API server, in a thread: a test may have a loop of its own."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(with_api, self.lab, work).result()

    # --- waiting ---------------------------------------------------------------------------------------------------

    def wait_for(
        self, what: str | Callable[[], _T], called: str = "", *, within_s: float = 30.0, every_s: float = 0.1
    ) -> _T | dict[str, Any]:
        """Wait until something holds, and return what it gave.

        ``what``: a function (an AssertionError or MininetesError in it means: not yet), or ``KIND/NAME`` of an object
        that is to be ready: a deployment with all its replicas, a pod, a node, a service with an endpoint; of other
        kinds, that is to be there. Raises AssertionError after the time, with what was seen last.
        """
        __tracebackhide__ = True
        holds = self._ready(what) if isinstance(what, str) else what
        name = called or (f"{what} ready" if isinstance(what, str) else getattr(what, "__name__", str(what)))
        end, seen = time.monotonic() + within_s, ""
        while True:
            try:
                found = holds()
                if found:
                    return found
                seen = "" if found in (None, False) else f": {found!r}"
            except (AssertionError, MininetesError) as not_yet:
                seen = f": {not_yet}"
            if time.monotonic() >= end:
                raise AssertionError(f"not within {within_s:g} s: {name}{seen}")
            time.sleep(every_s)

    def _ready(self, what: str) -> Callable[[], dict[str, Any]]:
        kind, slash, name = what.partition("/")
        if not slash or not name:
            raise BadInput("wait_for", what, "KIND/NAME, such as deployment/web, or a function")

        def ready() -> dict[str, Any]:
            obj = self.get(kind, name)
            slices = []
            if obj["kind"] == "Service":
                slices = self.objects("endpointslices", labels=f"kubernetes.io/service-name={name}")
            not_ready = unready(obj, slices)
            assert not not_ready, f"{what} {not_ready}"
            return obj

        return ready

    # --- mishaps ---------------------------------------------------------------------------------------------------

    def cut(self, node: str) -> Cut:
        """Pull a node's cable; with `heal`, at the end of a with block, or of the test, it is in again."""
        self.exec(node, "ip", "link", "set", "eth0", "down")
        self._cut.add(node)
        return Cut(self, node)

    def heal(self, node: str | None = None) -> None:
        """Put back the cable of a node, or those of all that were cut."""
        for each in sorted(self._cut) if node is None else [node]:
            self.exec(each, "ip", "link", "set", "eth0", "up")
            self._cut.discard(each)

    # --- what is shown of a failure --------------------------------------------------------------------------------

    def account(self) -> str:
        """The end of the engine's log, and what in the kernel is not as declared."""
        try:
            lines = self.lab.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            drift = ask(self.lab.control, op="drift")["drift"]
        except (OSError, MininetesError) as failed:
            return f"the lab does not say: {failed}"
        said = [f"drift of {host}: {change}" for host, changes in drift.items() for change in changes]
        return "\n".join([*lines, *(said or ["no drift"])])


def unready(obj: Mapping[str, Any], slices: Sequence[Mapping[str, Any]] = ()) -> str:
    """Why an object is not ready, or "". ``slices``: a service's endpoint slices. Pure."""
    status, spec = obj.get("status") or {}, obj.get("spec") or {}
    kind = obj["kind"]
    if kind in ("Pod", "Node"):
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
        return "" if ready else f"is not Ready ({status.get('phase', 'no condition Ready')})"
    if kind in ("Deployment", "ReplicaSet"):
        if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
            return "was not seen by its controller yet"
        wanted, there = spec.get("replicas", 1), status.get("readyReplicas", 0)
        updated = status.get("updatedReplicas", 0) if kind == "Deployment" else wanted
        if there != wanted:
            return f"has {there} of {wanted} replicas ready"
        return "" if updated == wanted else f"has {updated} of {wanted} replicas updated"
    if kind == "Service":
        ready = any(
            (endpoint.get("conditions") or {}).get("ready", True)
            for each in slices
            for endpoint in each.get("endpoints") or ()
        )
        return "" if ready else "has no endpoint that is ready"
    return ""


def _objects(manifest: Manifest) -> list[dict[str, Any]]:
    """The objects of a manifest, checked. Raises BadInput."""
    if isinstance(manifest, Path) or (isinstance(manifest, str) and "\n" not in manifest):
        return read_manifests([os.fspath(manifest)])
    if isinstance(manifest, str):
        try:
            given = [each for each in yaml.safe_load_all(manifest) if each is not None]
        except yaml.YAMLError as wrong:
            raise BadInput("manifest", None, "not YAML: " + " ".join(str(wrong).split())) from None
    else:
        given = [manifest] if isinstance(manifest, Mapping) else list(manifest)
    if not given:
        raise BadInput("manifest", None, "at least one object")
    return [checked_manifest(each, f"manifest: object {number}") for number, each in enumerate(given, start=1)]
