"""Running CNI plugins for the pods of one node (CNI sections 2 to 4).

Plugins run in the node's network and mount namespace, from its bin dir, with the configuration
that its conf dir holds at the time of an ADD. What ADD gave is cached as libcni caches it, so that DEL and
CHECK get the same configuration and the previous result however the conf dir has changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mininetes.agents.cni.cache import Entry, ResultCache
from mininetes.agents.cni.conf_dir import ConfDir
from mininetes.agents.cni.configuration import FIRST_WITH_CHECK, FIRST_WITH_GC, NetworkConfiguration, knows
from mininetes.agents.cni.versions import PATH, announced, newest_common, speakers
from mininetes.agents.cni.warm_plugin import Files, WarmPlugin, offers, what_it_is_made_of
from mininetes.errors import MininetesError
from mininetes.kernel.processes import Completed, Namespaces, run
from mininetes.lab.filesystem import node_path

BIN_DIR = "/opt/cni/bin"
CONF_DIR = "/etc/cni/net.d"
PLUGIN_TIMEOUT_S = 60.0
GC_KEY = "cni.dev/valid-attachments"


class CniFailed(MininetesError):
    """A plugin refused: ``code`` is that of the CNI specification's error result (section 5)."""

    def __init__(self, plugin: str, command: str, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{plugin} {command}: {message}{f' ({details})' if details else ''} (CNI code {code})")
        self.code = code


@dataclass(frozen=True)
class Attachment:
    """What a plugin call is about: a container, its network namespace as the node has it, and an interface.

    ``capabilities`` are what plugins that ask for them get as runtimeConfig: "portMappings", "bandwidth", ...
    """

    container_id: str
    netns: str | None
    interface: str = "eth0"
    args: tuple[tuple[str, str], ...] = ()
    capabilities: Mapping[str, Any] = field(default_factory=dict)


class CniRuntime:
    """The CNI runtime of one node. Calls for different attachments may run in parallel, on any threads.

    Plugins that offer it stay for some seconds after an ADD, for the next ones (see `warm_plugin`); without
    ``keep_plugins`` each call is a process of its own.
    """

    def __init__(self, node: str, holder_pid: int, *, keep_plugins: bool = True) -> None:
        self.node = node
        self._namespaces = Namespaces(of_pid=holder_pid)
        self._keep_plugins = keep_plugins
        self._warm: dict[str, tuple[Files, WarmPlugin | None]] = {}
        self._warming = threading.Lock()
        self._cache = ResultCache(node)
        self._gate = _Gate()
        self._conf_dir = ConfDir(node_path(node, CONF_DIR))

    def close(self) -> None:
        """End the plugins that stay. They come back when they are needed; may be called twice."""
        with self._warming:
            plugins, self._warm = list(self._warm.values()), {}
        for _, plugin in plugins:
            if plugin is not None:
                plugin.close()

    def add(self, attachment: Attachment) -> dict[str, Any]:
        """Attach a container to the network and return the last plugin's result.

        A chain that fails half-way is taken back before the error is raised. Raises CniFailed,
        BadInput for a wrong configuration, MininetesError for a missing plugin.
        """
        with self._gate.shared():
            configuration = self.configuration()
            result: dict[str, Any] | None = None
            try:
                for plugin in configuration.plugins:
                    result = self._call("ADD", configuration, plugin, attachment, result)
                assert result is not None
                self._cache.write(_entry(configuration, attachment, result))
            except (MininetesError, OSError):
                self._delete(configuration, attachment, result, ignore_errors=True)
                raise
        return result

    def check(self, attachment: Attachment) -> None:
        """Have the plugins check that the attachment is as ADD left it.

        Raises CniFailed when it is not, MininetesError when its version has no CHECK.
        """
        with self._gate.shared():
            configuration, attachment, result = self._added(attachment)
            if not knows(configuration.cni_version, FIRST_WITH_CHECK):
                raise MininetesError(f"{configuration.name}: version {configuration.cni_version} has no CHECK")
            if configuration.disable_check:
                return
            for plugin in configuration.plugins:
                self._call("CHECK", configuration, plugin, attachment, result)

    def delete(self, attachment: Attachment) -> None:
        """Detach a container; does nothing when it is not attached. May be called twice. Raises CniFailed."""
        with self._gate.shared():
            self._detach(attachment)

    def _detach(self, attachment: Attachment) -> None:
        configuration, attachment, result = self._added(attachment)
        self._delete(configuration, attachment, result)
        self._cache.drop(configuration.name, attachment.container_id, attachment.interface)

    def attachments(self) -> list[Attachment]:
        """Those of which there is a result in the cache."""
        return [_attachment(entry) for entry in self._cache.entries()]

    def collect_garbage(self, valid: Callable[[], Collection[tuple[str, str]]]) -> list[str]:
        """Take back what belongs to no valid attachment, as libcni does it; returns what went wrong.

        ``valid`` gives containers and interfaces. It is asked while no other call runs, and those that come meanwhile
        wait. Cached attachments to today's network that are not among them are deleted; then plugins of version 1.1.0
        or newer get GC. Does nothing where the configuration says disableGC. Raises BadInput for a wrong configuration.
        """
        with self._gate.alone():
            configuration = self.configuration()
            if configuration.disable_gc:
                return []
            kept = set(valid())
            wrong: list[str] = []
            for entry in self._cache.entries():
                if entry.network == configuration.name and (entry.container_id, entry.interface) not in kept:
                    with _noting(wrong):
                        self._detach(_attachment(entry))
            if knows(configuration.cni_version, FIRST_WITH_GC):
                known = [{"containerID": container, "ifname": interface} for container, interface in sorted(kept)]
                for plugin in configuration.plugins:
                    with _noting(wrong):
                        self._call("GC", configuration, {**plugin, GC_KEY: known}, None, None)
        return wrong

    def check_status(self) -> None:
        """Ask the plugins whether they could serve an ADD; only those of version 1.1.0 or newer can say.

        Raises CniFailed with the first one's code and words, BadInput for a wrong configuration.
        """
        configuration = self.configuration()
        if knows(configuration.cni_version, FIRST_WITH_GC):
            for plugin in configuration.plugins:
                self._call("STATUS", configuration, plugin, None, None)

    def configuration(self) -> NetworkConfiguration:
        """What an ADD would go by now, at the newest version that all its plugins speak.

        Raises BadInput for a wrong one, MininetesError when a plugin is missing or none of the versions is common.
        """
        configuration = self._conf_dir.first()
        if len(configuration.cni_versions) == 1:
            return configuration  # a plugin that does not speak it says so itself
        spoken = speakers(configuration, lambda kind: self._announced(configuration, kind))
        version = newest_common(configuration, spoken)
        if version is None:
            raise MininetesError(
                f"{self.node}: not all plugins of {configuration.name!r} speak one of the versions "
                + ", ".join(configuration.cni_versions)
            )
        return self._conf_dir.at(configuration, version)

    def _announced(self, configuration: NetworkConfiguration, kind: str) -> tuple[str, ...]:
        executable = self._executable(configuration, kind)
        path = node_path(self.node, executable)
        return announced(path, executable=executable, namespaces=self._namespaces)

    def _executable(self, configuration: NetworkConfiguration, kind: str) -> str:
        executable = f"{BIN_DIR}/{kind}"
        if not os.path.lexists(node_path(self.node, executable)):
            raise MininetesError(f"{self.node}: no plugin {kind!r} in {BIN_DIR}, which {configuration.name!r} needs")
        return executable

    def _delete(
        self,
        configuration: NetworkConfiguration,
        attachment: Attachment,
        result: dict[str, Any] | None,
        *,
        ignore_errors: bool = False,
    ) -> None:
        for plugin in reversed(configuration.plugins):
            try:
                self._call("DEL", configuration, plugin, attachment, result)
            except MininetesError:
                if not ignore_errors:
                    raise

    def _call(
        self,
        command: str,
        configuration: NetworkConfiguration,
        plugin: Mapping[str, Any],
        attachment: Attachment | None,
        previous: dict[str, Any] | None,
    ) -> dict[str, Any] | None:
        kind = str(plugin["type"])
        executable = self._executable(configuration, kind)
        given = plugin_input(configuration, plugin, attachment)
        if previous is not None:
            given["prevResult"] = previous
        done = self._run(command, kind, executable, attachment, json.dumps(given))
        if done.status != 0:
            raise _failure(kind, command, done.stdout, done.stderr, done.status)
        if command != "ADD":
            return None
        try:
            result: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise CniFailed(kind, command, 6, "its result is not JSON", done.stdout[:200]) from None
        return result

    def _run(
        self, command: str, kind: str, executable: str, attachment: Attachment | None, configuration: str
    ) -> Completed:
        """Have a plugin do a command: by its process that stays, if it has one, else by one of its own."""
        common = {"PATH": PATH, "CNI_PATH": BIN_DIR}
        environment = {**common, "CNI_COMMAND": command}
        if attachment is None:
            return self._start(executable, configuration, environment)
        args = ";".join(f"{key}={value}" for key, value in attachment.args)
        if command == "ADD" and attachment.netns is not None:
            warm = self._warm_plugin(kind, executable, common)
            words = (attachment.container_id, attachment.netns, attachment.interface, args)
            done = warm.add(words, configuration, PLUGIN_TIMEOUT_S) if warm is not None else None
            if done is not None:
                return done
        return self._start(executable, configuration, environment | attachment_environment(attachment))

    def _start(self, executable: str, configuration: str, environment: Mapping[str, str]) -> Completed:
        return run(
            [executable],
            stdin=configuration,
            env=environment,
            namespaces=self._namespaces,
            timeout_s=PLUGIN_TIMEOUT_S,
            check=False,
        )

    def _warm_plugin(self, kind: str, executable: str, environment: Mapping[str, str]) -> WarmPlugin | None:
        """The plugin's process that stays, a new one when a file has changed; None when the plugin offers none."""
        if not self._keep_plugins:
            return None
        path = node_path(self.node, executable)
        files = what_it_is_made_of(path)
        with self._warming:
            known, warm = self._warm.get(kind, ((), None))
            if files == known:
                return warm
            fresh = WarmPlugin(executable, environment, self._namespaces) if offers(path) else None
            self._warm[kind] = files, fresh
        if warm is not None:
            warm.close()
        return fresh

    def _added(self, attachment: Attachment) -> tuple[NetworkConfiguration, Attachment, dict[str, Any] | None]:
        """Configuration, arguments and result of the attachment's ADD; today's configuration when there was none."""
        entry = self._cache.find(attachment.container_id, attachment.interface)
        if entry is None:
            return self.configuration(), attachment, None
        configuration = NetworkConfiguration.parse(entry.configuration, entry.path)
        then = _attachment(entry)
        now = Attachment(
            attachment.container_id,
            attachment.netns,
            attachment.interface,
            then.args or attachment.args,
            then.capabilities or attachment.capabilities,
        )
        return configuration, now, entry.result if knows(configuration.cni_version, FIRST_WITH_CHECK) else None


def plugin_input(
    configuration: NetworkConfiguration, plugin: Mapping[str, Any], attachment: Attachment | None
) -> dict[str, Any]:
    """What one of a configuration's plugins reads from standard input, but for the result of the one before it."""
    given = {**plugin, "name": configuration.name, "cniVersion": configuration.cni_version}
    if attachment is not None:
        wanted = [key for key, on in plugin.get("capabilities", {}).items() if on and key in attachment.capabilities]
        if wanted:
            given["runtimeConfig"] = {key: attachment.capabilities[key] for key in wanted}
    return given


def attachment_environment(attachment: Attachment) -> dict[str, str]:
    """The variables that tell a plugin what it is about."""
    found = {"CNI_CONTAINERID": attachment.container_id, "CNI_IFNAME": attachment.interface}
    if attachment.netns is not None:
        found["CNI_NETNS"] = attachment.netns
    if attachment.args:
        found["CNI_ARGS"] = ";".join(f"{key}={value}" for key, value in attachment.args)
    return found


class _Gate:
    """Lets many through, or one alone: GC must not run beside other calls (CNI section 2)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


@contextlib.contextmanager
def _noting(wrong: list[str]) -> Iterator[None]:
    """What fails is noted, and the next thing done."""
    try:
        yield
    except (MininetesError, OSError) as failed:
        wrong.append(str(failed))


def _entry(configuration: NetworkConfiguration, attachment: Attachment, result: dict[str, Any]) -> Entry:
    return Entry(
        network=configuration.name,
        container_id=attachment.container_id,
        interface=attachment.interface,
        netns=attachment.netns,
        configuration=configuration.text,
        args=attachment.args,
        capabilities=attachment.capabilities,
        result=result,
    )


def _attachment(entry: Entry) -> Attachment:
    return Attachment(entry.container_id, entry.netns, entry.interface, entry.args, entry.capabilities)


def _failure(plugin: str, command: str, stdout: str, stderr: str, status: int) -> CniFailed:
    """Read a plugin's error result; one that is none is reported with what it said instead."""
    try:
        said = json.loads(stdout)
        return CniFailed(plugin, command, int(said["code"]), str(said["msg"]), str(said.get("details", "")))
    except (ValueError, KeyError, TypeError):
        text = (stderr.strip() or stdout.strip() or "no output")[-500:]
        return CniFailed(plugin, command, 0, f"ended with status {status} and no error result: {text}")
