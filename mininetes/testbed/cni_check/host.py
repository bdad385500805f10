"""A throw-away host with containers, and calls of the plugin under test as a runtime makes them (CNI sections 2, 3).

+---- host: network, mount and UTS namespace of a node's holder ----+      +-- container --+
|  /opt/cni/bin: links to all plugins     /run, /var/lib/cni: its own|      | /run/netns/a  |
|  uplink0 10.89.0.1/24 (a veth end), if a configuration has a master|      |     eth0      |
+--------------------------------------------------------------------+      +---------------+
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mininetes.kernel.netns import add_named, delete_named
from mininetes.kernel.processes import Namespaces, ProcessFailed, run
from mininetes.lab.filesystem import HOST as HOST_TREE
from mininetes.lab.filesystem import netns_path, node_path
from mininetes.testbed.cni_check import kernel_state, results
from mininetes.testbed.cni_check.rule import Failed, NotApplicable, expect, number
from mininetes.testbed.cni_check.subject import Subject

BIN_DIR = "/opt/cni/bin"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DATA_FOLDERS = ("/run", "/var/lib/cni", "/etc/cni/net.d")
_MOVED = ("/etc/", "/opt/", "/var/lib/")


@dataclass(frozen=True)
class Answer:
    """What a call came to. ``status`` is None when it was not done in time, negative after a signal."""

    command: str
    status: int | None
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0

    def json(self) -> Any:
        """What it printed, as JSON; None when that is none."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return None

    def __str__(self) -> str:
        if self.status is None:
            return f"{self.command} was not done in time"
        said = self.stdout.strip() or self.stderr.strip()
        return f"{self.command} ended with status {self.status} and {said or 'no output'}"


@dataclass(frozen=True)
class Container:
    """A container of the host: its ID, and its network namespace as the host knows it and as this process does."""

    name: str
    id: str
    netns: str
    path: str

    @property
    def namespaces(self) -> Namespaces:
        """Its network namespace."""
        return Namespaces(net=self.path)


@dataclass
class Attachment:
    """A container that is, or was, attached. ``result`` is what ADD gave, raw; ``previous`` the plugins before it."""

    container: Container
    ifname: str
    previous: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)


class Host:
    """One host for one rule. Its methods may be called from several threads for different containers."""

    ATTACHMENT_COMMANDS = ("ADD", "DEL", "CHECK")

    def __init__(self, subject: Subject, version: str, node: str, holder_pid: int, plugins: Mapping[str, str]) -> None:
        self.subject = subject
        self.version = version
        self.node = node
        self.namespaces = Namespaces(of_pid=holder_pid)
        self._containers: dict[str, Container] = {}
        self._ready: dict[tuple[str, str], Any] = {}
        """By container and interface: the result of the plugins that go before the one under test."""
        for name, path in plugins.items():
            os.symlink(self._in_lab(path), node_path(node, f"{BIN_DIR}/{name}"))
        lines = ["link set lo up"]
        for index, master in enumerate(subject.masters):
            lines += [f"link add {master} type veth peer name {master[:12]}-p", f"link set {master} up"]
            lines += [f"link set {master[:12]}-p up", f"address add 10.{89 + index}.0.1/24 dev {master}"]
        self.ip(lines, self.namespaces)

    @staticmethod
    def _in_lab(path: str) -> str:
        return HOST_TREE + path if path.startswith(_MOVED) else path

    # --- containers and the kernel's state -----------------------------------------------------------------------

    def container(self, name: str = "a") -> Container:
        """The container of that name, made when it is first asked for. Its ID is long, as runtimes' are."""
        if name not in self._containers:
            identity = hashlib.sha256(f"{self.node}/{name}".encode()).hexdigest()
            path = netns_path(self.node, name)
            add_named(path)
            self._containers[name] = Container(name, identity, f"/run/netns/{name}", path)
            if self.subject.ifname != "lo":
                self.ip(["link set lo up"], self._containers[name].namespaces)
        return self._containers[name]

    def remove_container(self, container: Container) -> None:
        """End a container: its interfaces go, which the kernel would let live on for a moment, and its namespace."""
        inside = [name for name in self.inside(container).interfaces if name != "lo"]
        self.ip([f"link delete {name}" for name in inside], container.namespaces, check=False)
        delete_named(container.path)
        self._ready = {at: result for at, result in self._ready.items() if at[0] != container.name}

    def ip(self, lines: Iterable[str], namespaces: Namespaces, *, check: bool = True) -> None:
        """Give ip(8) a batch of commands."""
        run(["ip", "-force", "-batch", "-"] if not check else ["ip", "-batch", "-"], stdin="\n".join(lines) + "\n",
            namespaces=namespaces, check=check)  # fmt: skip

    def state(self) -> kernel_state.NetworkState:
        """What the host's namespace has."""
        return kernel_state.read(self.namespaces)

    def inside(self, container: Container) -> kernel_state.NetworkState:
        """What a container has."""
        return kernel_state.read(container.namespaces)

    def files(self) -> dict[str, str]:
        """The files below the host's own data folders, by path, and where each is in the lab."""
        found = {}
        for folder in DATA_FOLDERS:
            top = node_path(self.node, folder)
            for place, inner, names in os.walk(top):
                inner[:] = [name for name in inner if f"{place}/{name}" != node_path(self.node, "/run/netns")]
                for name in names:
                    found[f"{place}/{name}".removeprefix(node_path(self.node, ""))] = f"{place}/{name}"
        return found

    def everything(self) -> frozenset[str]:
        """Interfaces, addresses, routes, rules and files of the host, as lines. MACs of bridges follow their ports."""
        lines = {" ".join(w for w in line.split() if w.count(":") != 5) for line in self.state().lines()}
        files = {f"file {path}" for path in self.files()}
        return frozenset(lines | files | kernel_state.packet_rules(self.namespaces))

    # --- configuration ---------------------------------------------------------------------------------------------

    def configuration(
        self, at: Attachment | None = None, plugin: Mapping[str, Any] | None = None, **changes: Any
    ) -> dict[str, Any]:
        """What the plugin gets on standard input: name and version of the list, and what its capabilities ask for."""
        own = {**(self.subject.plugin if plugin is None else plugin)}
        own |= {"name": self.subject.network, "cniVersion": self.version}
        capabilities = own.pop("capabilities", None) or {}
        wanted = {name: self._capability(name, at) for name, asked in capabilities.items() if asked}
        runtime = {name: value for name, value in wanted.items() if value is not None}
        if runtime:
            own["runtimeConfig"] = {**own.get("runtimeConfig", {}), **runtime}
        own |= (at.more if at is not None and plugin is None else {}) | changes
        return {key: value for key, value in own.items() if value is not None}

    def _capability(self, name: str, at: Attachment | None) -> Any:
        """What a runtime passes for a well-known capability: each container has a port of the host of its own."""
        place = list(self._containers).index(at.container.name) if at is not None else 0
        if name == "portMappings":
            return [{"hostPort": 8000 + place, "containerPort": 80, "protocol": "tcp"}]
        if name == "bandwidth":
            rate = {"Rate": 8_000_000, "Burst": 8_000_000}
            return {f"{way}{what}": value for way in ("ingress", "egress") for what, value in rate.items()}
        return None

    # --- calls -----------------------------------------------------------------------------------------------------

    def environment(self, command: str, at: Attachment | None, changes: Mapping[str, str | None]) -> dict[str, str]:
        """The environment of a call; None as a value takes a variable away."""
        full: dict[str, str | None] = {"PATH": PATH, "CNI_COMMAND": command}
        if command != "VERSION":
            full["CNI_PATH"] = BIN_DIR
        if at is not None and command in self.ATTACHMENT_COMMANDS:
            full |= {"CNI_CONTAINERID": at.container.id, "CNI_NETNS": at.container.netns, "CNI_IFNAME": at.ifname}
        return {name: value for name, value in {**full, **changes}.items() if value is not None}

    def raw(
        self,
        command: str,
        at: Attachment | None,
        stdin: str,
        env: Mapping[str, str | None] = {},
        *,
        plugin: str | None = None,
    ) -> Answer:
        """One call of the plugin under test (or of ``plugin``), with exactly this input."""
        argv = [f"{BIN_DIR}/{plugin or self.subject.name}"]
        environment = self.environment(command, at, env)
        try:
            done = run(argv, stdin=stdin, env=environment, namespaces=self.namespaces, timeout_s=self.subject.timeout_s,
                       check=False)  # fmt: skip
        except ProcessFailed as late:
            return Answer(command, None, late.completed.stdout, late.completed.stderr)
        except OSError as failed:
            return Answer(command, 127, "", str(failed))
        return Answer(command, done.status, done.stdout, done.stderr)

    def call(
        self,
        command: str,
        at: Attachment | None,
        env: Mapping[str, str | None] = {},
        **changes: Any,
    ) -> Answer:
        """One call with the usual input, some of whose members are changed (None takes one away)."""
        configuration = self.configuration(at)
        if at is not None and command in ("DEL", "CHECK") and at.result is not None and number(self.version) >= (0, 4):
            configuration["prevResult"] = at.result
        if at is not None and command == "ADD" and at.previous is not None:
            configuration["prevResult"] = at.previous
        configuration |= changes
        configuration = {key: value for key, value in configuration.items() if value is not None}
        return self.raw(command, at, json.dumps(configuration), env)

    def attachment(self, name: str = "a", ifname: str | None = None, **more: Any) -> Attachment:
        """A container that the plugins before the one under test are through with; ``more`` changes its configuration.

        Those plugins are called once for a container and an interface. Raises NotApplicable when one of them fails.
        """
        at = Attachment(self.container(name), ifname or self.subject.ifname, more=more)
        ready = self._ready.get((name, at.ifname))
        if ready is not None:
            at.previous = copy.deepcopy(ready)
            return at
        for plugin in self.subject.behind:
            given = self.configuration(at, plugin)
            if at.previous is not None:
                given["prevResult"] = at.previous
            answer = self.raw("ADD", at, json.dumps(given), plugin=str(plugin["type"]))
            if not answer.ok:
                raise NotApplicable(f"{plugin['type']}, which goes before it, does not do its part: {answer}")
            at.previous = answer.json()
        if at.previous is not None:
            self._ready[name, at.ifname] = copy.deepcopy(at.previous)
        return at

    def add(self, name: str = "a", ifname: str | None = None, **more: Any) -> Attachment:
        """Attach a container. Raises Failed when the plugin fails."""
        at = self.attachment(name, ifname, **more)
        return self.added(at, self.call("ADD", at))

    def added(self, at: Attachment, answer: Answer) -> Attachment:
        """Keep an ADD's result. Raises Failed when there is none."""
        expect(answer.ok, "ADD succeeds", answer)
        at.result = answer.json()
        expect(isinstance(at.result, dict), "a JSON object on standard output, and nothing else", answer.stdout)
        return at

    def result(self, at: Attachment) -> results.AddResult:
        """An attachment's result, read. Raises NotApplicable when its shape is wrong: that is one rule's to say."""
        try:
            return self.shaped(at)
        except Failed as wrong:
            raise NotApplicable(f"not tested: the result is unusable (see result-shape): {wrong}") from None

    def shaped(self, at: Attachment) -> results.AddResult:
        """The same. Raises Failed when its shape is wrong."""
        return results.read(at.result, self.version, ipam=self.subject.kind == "ipam")

    def delete(self, at: Attachment, env: Mapping[str, str | None] = {}, **changes: Any) -> None:
        """Detach a container, from the plugins before the one under test as well. Raises Failed when DEL fails."""
        answer = self.call("DEL", at, env, **changes)
        expect(answer.ok, "DEL succeeds", answer)
        self.delete_rest(at, env)

    def delete_rest(self, at: Attachment, env: Mapping[str, str | None] = {}) -> None:
        """DEL of the plugins that go before the one under test."""
        self._ready.pop((at.container.name, at.ifname), None)
        for plugin in reversed(self.subject.behind):
            given = self.configuration(at, plugin)
            if at.result is not None and number(self.version) >= (0, 4):
                given["prevResult"] = at.result
            self.raw("DEL", at, json.dumps(given), env, plugin=str(plugin["type"]))

    def check(self, at: Attachment) -> Answer:
        """Have an attachment checked."""
        return self.call("CHECK", at)

    def needs_addresses(self) -> None:
        """Raises NotApplicable when the configuration names no address plugin."""
        if not self.subject.ipam:
            raise NotApplicable("its configuration gives no addresses")

    @property
    def gives_addresses(self) -> bool:
        """Whether each container gets an address of its own, from a range."""
        return self.subject.kind != "chained" and bool(self.subject.ipam) and not self.subject.fixed

    def small_range(self, usable: int = 2) -> dict[str, Any]:
        """The ipam section with room for ``usable`` containers. Raises NotApplicable when it cannot be made small."""
        self.needs_addresses()
        if self.subject.fixed:
            raise NotApplicable("its configuration says which address each container has")
        ipam = json.loads(json.dumps(self.subject.ipam))
        ranges = ipam.get("ranges") or []
        place = ranges[0][0] if ranges else ipam
        if not isinstance(place.get("subnet"), str):
            raise NotApplicable(f"the range of {ipam.get('type')} cannot be made small: it names no subnet")
        start = place["subnet"].split("/")[0].rsplit(".", 1)[0]
        place |= {"rangeStart": f"{start}.10", "rangeEnd": f"{start}.{9 + usable}"}
        if ranges:
            ipam["ranges"] = [[place]]
        return dict(ipam)


def told(answer: Answer) -> dict[str, Any]:
    """A failed call's error result. Raises Failed when it succeeded, or when there is no such result (section 5)."""
    expect(answer.status not in (0, None), "an error", answer)
    said = answer.json()
    if not isinstance(said, dict):
        raise Failed("an error result as JSON on standard output", answer)
    code, message = said.get("code"), said.get("msg")
    right = isinstance(code, int) and not isinstance(code, bool) and code > 0
    expect(right and isinstance(message, str) and message, "an error result with a code and a msg", answer)
    return said
