"""What a description says of kube-proxy: its mode and its configuration, or the program in its place.

Programs that the truth table is to measure are read here too, from command lines.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from mininetes import parts
from mininetes.agents.kubeproxy.compiling import compiler, mode_like, mode_title
from mininetes.agents.kubeproxy.configuration import DEFAULT_MODE, MODES, KubeProxyConfig, Mode, kube_proxy_config
from mininetes.errors import BadInput
from mininetes.lab.filesystem import node_path
from mininetes.spec import ClusterSpec


def proxy_config(spec: ClusterSpec) -> KubeProxyConfig:
    """kube-proxy's configuration, as the cluster file has it, laid over what the cluster gives it. Raises BadInput."""
    return kube_proxy_config({"clusterCIDR": str(spec.network.pods), **spec.proxy.config})


def proxy_mode(spec: ClusterSpec) -> str:
    """kube-proxy's mode, or one of somebody's own: the description's, else its configuration's, else iptables."""
    return parts.absolute_mode(str(spec.proxy.mode or spec.proxy.config.get("mode") or DEFAULT_MODE))


def check_mode(spec: ClusterSpec) -> None:
    """See that there is a file that writes the mode's rules, and that it says what it is like. Raises BadInput.

    So it does for a back end of iptables where the mode has none.
    """
    mode = proxy_mode(spec)
    compiler(mode, "spec.proxy.mode")
    if mode_like(mode, "spec.proxy.mode") == "nftables" and spec.proxy.backend:
        right = f"left out with mode {mode_title(mode)}, which does not use iptables"
        raise BadInput("spec.proxy.backend", spec.proxy.backend, right)


def check_program(spec: ClusterSpec) -> None:
    """See that the program of ``proxy: {exec: [...]}`` is there. Raises BadInput."""
    if shutil.which(spec.proxy.exec[0]) is None:
        raise BadInput("spec.proxy.exec", spec.proxy.exec[0], "a program that can be executed")


@dataclass(frozen=True)
class ProxyProgram:
    """An outside program to measure: its argv, the program by its full path, and its name in what is printed."""

    argv: tuple[str, ...]
    title: str


def proxy_programs(texts: Sequence[str], field: str = "--proxy-exec") -> list[ProxyProgram]:
    """Programs by their command lines, words as a shell splits them. Raises BadInput for one that cannot be run.

    Arguments that name files from here are made full paths. A program is called as its command line has it,
    without its folders; two of one name by their full command lines.
    """
    found = [_program(text, field) for text in texts]
    short = [shlex.join([os.path.basename(words[0]), *words[1:]]) for words in found]
    titles: list[str] = []
    for words, name in zip(found, short, strict=True):
        title = name if short.count(name) == 1 else shlex.join(words)
        titles.append(title if title not in titles else f"{title} ({len(titles) + 1})")
    return [
        ProxyProgram(tuple(_from_here(word) for word in words), title)
        for words, title in zip(found, titles, strict=True)
    ]


def _from_here(word: str) -> str:
    """A word of a command line with the full path of the file that it names, where it names one."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{option}{equals}{os.path.abspath(value)}" if os.path.isfile(value) else word


def _program(text: str, field: str) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError as wrong:
        raise BadInput(field, text, f"a command line as a shell reads it ({wrong})") from None
    if not words:
        raise BadInput(field, text, "a program and its arguments")
    path = shutil.which(words[0])
    if path is None:
        there = os.path.exists(words[0])
        right = "a program that may be executed" if there else "a program that is there"
        raise BadInput(field, words[0], right + ("" if not there else " (a file with the x permission)"))
    argv = (os.path.abspath(path), *words[1:])
    _option(argv, "proxy-mode", field)
    return argv


def _option(argv: Sequence[str], name: str, field: str = "--proxy-exec") -> str:
    """The value of an option, ``--name=value`` or in two words; "" without it. Raises BadInput for a mode unknown."""
    found = ""
    for index, word in enumerate(argv):
        option, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and option == name:
            found = value if equals else (*argv, "")[index + 1]
    if found and name == "proxy-mode" and found not in MODES:
        raise BadInput(f"{field}: --proxy-mode", found, "one of " + ", ".join(MODES))
    return found


def program_mode(argv: Sequence[str], node: str) -> Mode:
    """The mode whose behaviour is expected of a program: that of its ``--proxy-mode``, or of the file in ``--config``.

    Without either it is kube-proxy's own default. The file is looked for where ``node`` has it. Raises BadInput.
    """
    wanted = _option(argv, "proxy-mode")
    path = _option(argv, "config")
    if not wanted and path:
        of_node = node_path(node, path)
        with contextlib.suppress(OSError, yaml.YAMLError), open(of_node if os.path.exists(of_node) else path) as file:
            said = yaml.safe_load(file)
            wanted = str((said.get("mode") if isinstance(said, dict) else "") or "")
    return MODES[MODES.index(wanted)] if wanted in MODES else DEFAULT_MODE
