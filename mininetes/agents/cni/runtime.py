"""Running CNI plugins for the pods of one node (CNI sections 2 to 4).

Plugins run in the node's network and mount namespace, from its bin dir, with the configuration
that its conf dir holds. What ADD gave is cached as libcni caches it, so that DEL and CHECK get the
same configuration and the previous result however the conf dir has changed.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mininetes.agents.cni.configuration import NetworkConfiguration, first_of
from mininetes.agents.cni.warm_plugin import Files, WarmPlugin, offers, what_it_is_made_of
from mininetes.errors import MininetesError
from mininetes.kernel.processes import Completed, Namespaces, run
from mininetes.lab.filesystem import node_path

BIN_DIR = "/opt/cni/bin"
CONF_DIR = "/etc/cni/net.d"
CACHE_DIR = "/var/lib/cni/results"
PLUGIN_TIMEOUT_S = 60.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CniFailed(MininetesError):
    """A plugin refused: ``code`` is that of the CNI specification's error result (section 5)."""

    def __init__(self, plugin: str, command: str, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{plugin} {command}: {message}{f' ({details})' if details else ''} (CNI code {code})")
        self.code = code


@dataclass(frozen=True)
class Attachment:
    """What a plugin call is about: a container, its network namespace as the node has it, and an interface."""

    container_id: str
    netns: str | None
    interface: str = "eth0"
    args: tuple[tuple[str, str], ...] = ()


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
        configuration = first_of(node_path(self.node, CONF_DIR))
        result: dict[str, Any] | None = None
        try:
            for plugin in configuration.plugins:
                result = self._call("ADD", configuration, plugin, attachment, result)
            assert result is not None
            self._cache(configuration, attachment, result)
        except MininetesError:
            self._delete(configuration, attachment, result, ignore_errors=True)
            raise
        return result

    def check(self, attachment: Attachment) -> None:
        """Have the plugins check that the attachment is as ADD left it. Raises CniFailed when it is not."""
        configuration, result = self._cached(attachment)
        if configuration.disable_check:
            return
        for plugin in configuration.plugins:
            self._call("CHECK", configuration, plugin, attachment, result)

    def delete(self, attachment: Attachment) -> None:
        """Detach a container; does nothing when it is not attached. May be called twice. Raises CniFailed."""
        configuration, result = self._cached(attachment)
        self._delete(configuration, attachment, result)
        self._cache_path(configuration, attachment, unlink=True)

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
        attachment: Attachment,
        previous: dict[str, Any] | None,
    ) -> dict[str, Any] | None:
        kind = str(plugin["type"])
        executable = f"{BIN_DIR}/{kind}"
        if not os.path.lexists(node_path(self.node, executable)):
            raise MininetesError(f"{self.node}: no plugin {kind!r} in {BIN_DIR}, which {configuration.name!r} needs")
        given = {**plugin, "name": configuration.name, "cniVersion": configuration.cni_version}
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

    def _run(self, command: str, kind: str, executable: str, attachment: Attachment, configuration: str) -> Completed:
        """Have a plugin do a command: by its process that stays, if it has one, else by one of its own."""
        args = ";".join(f"{key}={value}" for key, value in attachment.args)
        common = {"PATH": PATH, "CNI_PATH": BIN_DIR}
        if command == "ADD" and attachment.netns is not None:
            warm = self._warm_plugin(kind, executable, common)
            words = (attachment.container_id, attachment.netns, attachment.interface, args)
            done = warm.add(words, configuration, PLUGIN_TIMEOUT_S) if warm is not None else None
            if done is not None:
                return done
        environment = {
            **common,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_IFNAME": attachment.interface,
        }
        if attachment.netns is not None:
            environment["CNI_NETNS"] = attachment.netns
        if args:
            environment["CNI_ARGS"] = args
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

    def _cache_path(self, configuration: NetworkConfiguration, of: Attachment, *, unlink: bool = False) -> str:
        folder = node_path(self.node, CACHE_DIR)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = f"{folder}/{configuration.name}-{of.container_id}-{of.interface}"
        if unlink and os.path.exists(path):
            os.unlink(path)
        return path

    def _cache(self, configuration: NetworkConfiguration, attachment: Attachment, result: dict[str, Any]) -> None:
        entry = {
            "kind": "cniCacheV1",
            "containerId": attachment.container_id,
            "config": base64.b64encode(json.dumps(configuration.to_json()).encode()).decode(),
            "ifName": attachment.interface,
            "networkName": configuration.name,
            "cniArgs": [list(pair) for pair in attachment.args],
            "result": result,
        }
        path = self._cache_path(configuration, attachment)
        with open(path + ".new", "w") as file:
            json.dump(entry, file)
        os.rename(path + ".new", path)

    def _cached(self, attachment: Attachment) -> tuple[NetworkConfiguration, dict[str, Any] | None]:
        """Configuration and result of the attachment's ADD; today's configuration when there was none."""
        folder = node_path(self.node, CACHE_DIR)
        ending = f"-{attachment.container_id}-{attachment.interface}"
        if os.path.isdir(folder):
            for name in os.listdir(folder):
                if name.endswith(ending):
                    with open(f"{folder}/{name}") as file:
                        entry = json.load(file)
                    text = base64.b64decode(entry["config"]).decode()
                    return NetworkConfiguration.parse(text, f"{CACHE_DIR}/{name}"), entry["result"]
        return first_of(node_path(self.node, CONF_DIR)), None


def _failure(plugin: str, command: str, stdout: str, stderr: str, status: int) -> CniFailed:
    """Read a plugin's error result; one that is none is reported with what it said instead."""
    try:
        said = json.loads(stdout)
        return CniFailed(plugin, command, int(said["code"]), str(said["msg"]), str(said.get("details", "")))
    except (ValueError, KeyError, TypeError):
        text = (stderr.strip() or stdout.strip() or "no output")[-500:]
        return CniFailed(plugin, command, 0, f"ended with status {status} and no error result: {text}")
