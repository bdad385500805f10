"""Rules about address plugins that a plugin calls (CNI section 4), seen by one that records how it was called.

The recorder answers ADD with 10.99.0.7/24, and fails a command for which /run/delegate/fail-COMMAND is there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mininetes.lab.filesystem import node_path
from mininetes.testbed.cni_check.host import BIN_DIR, Attachment, Host, told
from mininetes.testbed.cni_check.rule import expect, number, rule

RECORDER = "cni-check-recorder"
ADDRESS = "10.99.0.7/24"
_FOLDER = "/run/delegate"
_VARIABLES = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH")
_SCRIPT = rf"""#!/bin/bash
IFS= read -r -d '' conf || :
[[ $conf =~ \"cniVersion\"[[:space:]]*:[[:space:]]*\"([^\"]*)\" ]] && version=${{BASH_REMATCH[1]}}
printf '%s\0' {" ".join(f'"${name}"' for name in _VARIABLES)} "$conf" >"{_FOLDER}/$EPOCHREALTIME.$CNI_COMMAND.$$"
if [[ -e {_FOLDER}/fail-$CNI_COMMAND ]]; then
    printf '{{"cniVersion": "%s", "code": 117, "msg": "the recorder was told to fail"}}' "$version"
    exit 1
fi
case $CNI_COMMAND-$version in
    VERSION-*) printf '{{"cniVersion": "%s", "supportedVersions":
        ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}}' "$version" ;;
    ADD-0.[12].0) printf '{{"cniVersion": "%s", "ip4": {{"ip": "{ADDRESS}", "gateway": "10.99.0.1"}}}}' "$version" ;;
    ADD-*) more=; [[ $version != 0.* ]] || more='"version": "4", '
        printf '{{"cniVersion": "%s", "ips": [{{%s"address": "{ADDRESS}", "gateway": "10.99.0.1"}}]}}' \
            "$version" "$more" ;;
esac
"""


@dataclass(frozen=True)
class Call:
    """One call of the recorder: the CNI variables and the configuration's text."""

    variables: dict[str, str]
    stdin: str

    @property
    def command(self) -> str:
        """CNI_COMMAND."""
        return self.variables["CNI_COMMAND"]


class Recorder:
    """The address plugin that records its calls, in place of the configured one."""

    def __init__(self, host: Host) -> None:
        host.needs_addresses()
        self._folder = Path(node_path(host.node, _FOLDER))
        self._folder.mkdir()
        script = Path(node_path(host.node, f"{BIN_DIR}/{RECORDER}"))
        script.write_text(_SCRIPT)
        script.chmod(0o755)
        self.ipam: dict[str, Any] = {"type": RECORDER, "flavour": "own"}

    def fail(self, command: str) -> None:
        """Have the next calls of a command fail."""
        (self._folder / f"fail-{command}").touch()

    def calls(self, *commands: str) -> list[Call]:
        """The calls so far of these commands, in order."""
        found = []
        for path in sorted(self._folder.glob("*.*.*")):
            *values, stdin = path.read_text().rstrip("\0").split("\0")
            found.append(Call(dict(zip(_VARIABLES, values, strict=True)), stdin))
        return [call for call in found if call.command in commands]


def _lives(host: Host, recorder: Recorder) -> Attachment:
    """An attachment's whole life with the recorder."""
    at = host.add(ipam=recorder.ipam)
    if number(host.version) >= (0, 4):
        answer = host.check(at)
        expect(answer.ok, "CHECK succeeds", answer)
    host.delete(at)
    return at


@rule("4 Plugin Delegation", kinds=("interface",))
def delegate_called(host: Host) -> None:
    """ADD, CHECK and DEL call the address plugin with the same environment."""
    recorder = Recorder(host)
    at = _lives(host, recorder)
    commands = ["ADD", "CHECK", "DEL"] if number(host.version) >= (0, 4) else ["ADD", "DEL"]
    for command in commands:
        calls = recorder.calls(command)
        expect(calls, f"{command} calls the address plugin", "it was not called")
        wanted = host.environment(command, at, {})
        for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"):
            given = calls[-1].variables[name]
            expect(given == wanted[name], f"{command} with {name}={wanted[name]}", f"{name}={given}")


@rule("4 Plugin Delegation", kinds=("interface",))
def delegate_configuration(host: Host) -> None:
    """The address plugin gets the whole configuration on standard input."""
    recorder = Recorder(host)
    at = _lives(host, recorder)
    wanted = {**host.configuration(at)}
    for call in recorder.calls("ADD", "CHECK", "DEL"):
        try:
            given = json.loads(call.stdin)
        except ValueError:
            given = {}
        missing = {key: value for key, value in wanted.items() if given.get(key) != value}
        expect(not missing, f"{call.command} with the members {', '.join(wanted)}", call.stdin or "nothing")


@rule("4 Plugin Delegation", kinds=("interface",))
def delegate_address_used(host: Host) -> None:
    """The interface gets the address that the address plugin gave."""
    at = host.add(ipam=Recorder(host).ipam)
    there = host.inside(at.container).interfaces
    real = there[at.ifname].addresses if at.ifname in there else []
    expect(ADDRESS in real, f"{ADDRESS} on {at.ifname}", sorted(real))


@rule("4 Plugin Delegation", kinds=("interface",))
def delegate_add_error(host: Host) -> None:
    """When the address plugin's ADD fails, so does the plugin's."""
    recorder = Recorder(host)
    recorder.fail("ADD")
    at = host.attachment(ipam=recorder.ipam)
    told(host.call("ADD", at))


@rule("4 Plugin Delegation", level="should", kinds=("interface",))
def delegate_undone(host: Host) -> None:
    """When the address plugin's ADD fails, its DEL is called before the error is returned."""
    recorder = Recorder(host)
    recorder.fail("ADD")
    at = host.attachment(ipam=recorder.ipam)
    answer = host.call("ADD", at)
    expect(recorder.calls("DEL"), "DEL of the address plugin after its ADD failed", f"no DEL; {answer}")


@rule("4 Plugin Delegation", since="0.4.0", kinds=("interface",))
def delegate_check_error(host: Host) -> None:
    """When the address plugin's CHECK fails, so does the plugin's."""
    recorder = Recorder(host)
    at = host.add(ipam=recorder.ipam)
    answer = host.check(at)
    expect(answer.ok, "CHECK succeeds before", answer)
    recorder.fail("CHECK")
    told(host.check(at))


@rule("4 Plugin Delegation", kinds=("interface",))
def delegate_del_error(host: Host) -> None:
    """When the address plugin's DEL fails, so does the plugin's."""
    recorder = Recorder(host)
    at = host.add(ipam=recorder.ipam)
    recorder.fail("DEL")
    told(host.call("DEL", at))
