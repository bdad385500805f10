"""Rules about every call: VERSION, and errors for a wrong environment or configuration (CNI sections 1, 2 and 5)."""

from __future__ import annotations

import json
from typing import Any

from mininetes.testbed.cni_check.host import Answer, Host, told
from mininetes.testbed.cni_check.rule import expect, rule

SPECIFIED_CODES = (1, 2, 3, 4, 5, 6, 7, 11, 50, 51)
UNKNOWN_VERSION = "9.9.9"


@rule("2 VERSION")
def version_answers(host: Host) -> None:
    """VERSION, with nothing but CNI_COMMAND set, tells the versions that are supported."""
    said = host.raw("VERSION", None, json.dumps({"cniVersion": host.version}))
    supported_versions(said)


def supported_versions(answer: Answer) -> list[str]:
    """The versions that an answer to VERSION announces. Raises Failed."""
    expect(answer.ok, "VERSION succeeds", answer)
    said = answer.json()
    expect(isinstance(said, dict) and isinstance(said.get("cniVersion"), str), "a JSON object with cniVersion", answer)
    versions = said.get("supportedVersions")
    right = isinstance(versions, list) and versions and all(isinstance(each, str) for each in versions)
    expect(right, "supportedVersions is a list of versions", answer)
    return list(versions)


@rule("5 VERSION Success", since="1.0.0")
def version_echoes(host: Host) -> None:
    """The answer to VERSION has the cniVersion of the question."""
    for version in dict.fromkeys(("0.4.0", host.version)):
        answer = host.raw("VERSION", None, json.dumps({"cniVersion": version}))
        supported_versions(answer)
        expect(answer.json()["cniVersion"] == version, f"cniVersion {version}, as asked", answer)


def _refused(host: Host, command: str, *, naming: str = "", code: tuple[int, ...] = (), **call: Any) -> dict[str, Any]:
    """The error result of a call that must fail, with one of these codes, and naming a variable."""
    at = host.attachment()
    env = call.pop("env", {})
    if command not in host.ATTACHMENT_COMMANDS:
        env = {**host.environment("ADD", at, {}), "CNI_COMMAND": command, **env}
    answer = host.raw(command, at, call["stdin"], env) if "stdin" in call else host.call(command, at, env, **call)
    said = told(answer)
    if code:
        expect(said["code"] in code, f"error code {' or '.join(map(str, code))}", answer)
    if naming:
        expect(naming in f"{said['msg']} {said.get('details', '')}", f"an error that names {naming}", answer)
    return said


@rule("5 Error")
def command_missing(host: Host) -> None:
    """Without CNI_COMMAND there is error 4, which names it."""
    _refused(host, "ADD", env={"CNI_COMMAND": None}, naming="CNI_COMMAND", code=(4,))


@rule("5 Error")
def command_unknown(host: Host) -> None:
    """An unknown CNI_COMMAND is error 4, which names it."""
    _refused(host, "FLY", naming="CNI_COMMAND", code=(4,))


def _variable_missing(host: Host, name: str, *commands: str) -> None:
    for command in commands:
        for value in (None, ""):
            _refused(host, command, env={name: value}, naming=name, code=(4,))


@rule("5 Error")
def container_id_missing(host: Host) -> None:
    """ADD and DEL without CNI_CONTAINERID are error 4, which names it."""
    _variable_missing(host, "CNI_CONTAINERID", "ADD", "DEL")


@rule("5 Error")
def ifname_missing(host: Host) -> None:
    """ADD and DEL without CNI_IFNAME are error 4, which names it."""
    _variable_missing(host, "CNI_IFNAME", "ADD", "DEL")


@rule("5 Error")
def netns_missing(host: Host) -> None:
    """ADD without CNI_NETNS is error 4, which names it."""
    _variable_missing(host, "CNI_NETNS", "ADD")


@rule("2 Parameters", since="0.4.0")
def container_id_wrong(host: Host) -> None:
    """A CNI_CONTAINERID with other characters is error 4, which names it."""
    for wrong in ("-a", "a/b", "a b", ".a"):
        _refused(host, "ADD", env={"CNI_CONTAINERID": wrong}, naming="CNI_CONTAINERID", code=(4,))


@rule("2 Parameters", since="0.4.0")
def ifname_wrong(host: Host) -> None:
    """A CNI_IFNAME that Linux would not take is error 4, which names it."""
    for wrong in ("sixteen-letters-", "a/b", "a:b", "a b", ".", ".."):
        _refused(host, "ADD", env={"CNI_IFNAME": wrong}, naming="CNI_IFNAME", code=(4,))


@rule("2 ADD", kinds=("interface",))
def netns_not_there(host: Host) -> None:
    """ADD to a namespace that does not exist is an error."""
    for wrong in ("/run/netns/nobody", "/etc/hostname"):
        _refused(host, "ADD", env={"CNI_NETNS": wrong})


@rule("5 Error")
def json_broken(host: Host) -> None:
    """A configuration that is no JSON is error 6."""
    whole = json.dumps(host.configuration())
    for broken in (whole[:-1], "cniVersion: 1.0.0", whole + "}", '{"a" 1}'):
        _refused(host, "ADD", stdin=broken, code=(6,))


@rule("5 Error")
def stdin_empty(host: Host) -> None:
    """No configuration at all is error 5 or 6."""
    _refused(host, "ADD", stdin="", code=(5, 6))


@rule("5 Error")
def version_unknown(host: Host) -> None:
    """A cniVersion that the plugin does not speak is error 1."""
    _refused(host, "ADD", cniVersion=UNKNOWN_VERSION, code=(1,))


@rule("1 Configuration format", since="0.4.0")
def name_wrong(host: Host) -> None:
    """A network name that is missing, or has other characters, is error 7."""
    for wrong in (None, "", "-a", "a b", "a/b"):
        _refused(host, "ADD", name=wrong, code=(7,))


@rule("5 Error")
def error_codes(host: Host) -> None:
    """Error codes below 100 are those that the specification has."""
    wrong: list[dict[str, Any]] = [
        {"env": {"CNI_CONTAINERID": None}},
        {"env": {"CNI_NETNS": "/run/netns/nobody"}},
        {"stdin": "{"},
        {"stdin": "[]"},
        {"cniVersion": UNKNOWN_VERSION},
        {"name": None},
    ]
    for call in wrong:
        answer = host.call("ADD", host.attachment(), call["env"]) if "env" in call else None
        if answer is None and "stdin" in call:
            answer = host.raw("ADD", host.attachment(), call["stdin"])
        answer = answer or host.call("ADD", host.attachment(), **call)
        if answer.ok and "env" in call and host.subject.kind != "interface":
            continue  # it need not look at the namespace
        code = told(answer)["code"]
        right = code >= 100 or code in SPECIFIED_CODES
        expect(right, f"one of the codes {', '.join(map(str, SPECIFIED_CODES))}, or 100 and above", answer)


@rule("5 Error")
def error_version(host: Host) -> None:
    """An error has the cniVersion of the configuration."""
    at = host.attachment()
    for answer in (host.call("ADD", at, {"CNI_CONTAINERID": None}), host.call("ADD", at, name=None)):
        expect(told(answer).get("cniVersion") == host.version, f"an error with cniVersion {host.version}", answer)
