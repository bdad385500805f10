"""What a node's proxy would run at its first sync, as command lines and the texts that they read: nothing is run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mininetes.agents.kubeproxy.compiling import compiler, mode_like, view_of
from mininetes.agents.kubeproxy.configuration import kube_proxy_config
from mininetes.agents.kubeproxy.objects import Objects
from mininetes.agents.kubeproxy.restoring import Backend, NodeTools
from mininetes.agents.kubeproxy.rule_keeper import applier_of
from mininetes.agents.kubeproxy.sysctls import wanted_sysctls
from mininetes.kernel.processes import HERE, Completed


class PaperTools(NodeTools):
    """The programs of a node that has no rules yet: ``calls`` are those that would change something."""

    def __init__(self, backend: Backend | None = None) -> None:
        super().__init__(HERE, backend)
        self.calls: list[tuple[str, str]]
        object.__setattr__(self, "calls", [])

    def run(self, *argv: str, stdin: str = "", check: bool = True) -> Completed:
        """Note what changes something. To a question the answer is: there is none such."""
        if stdin or argv[:3] == ("ip", "link", "add") or argv[:2] == ("ipvsadm", "--set"):
            self.calls.append((shlex.join(argv), stdin))
            return Completed(argv, HERE, 0, "", "")
        return Completed(argv, HERE, 0 if check else 1, "", "")

    def restore(self, argv: Sequence[str], text: str) -> None:
        """Note the text."""
        self.calls.append((shlex.join(argv), text))


def first_sync(
    objects: Objects, node: str, mode: str, config: Mapping[str, Any], backend: Backend | None = None
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The sysctls that a node's proxy sets, and the command lines it runs with what they read, for these objects.

    Raises BadInput.
    """
    like = mode_like(mode)
    view, settings = view_of(objects, node, like, config), kube_proxy_config(config)
    tools = PaperTools(backend)
    applier_of(like, settings, tools).whole(compiler(mode)(view))
    return wanted_sysctls(settings, like, view), tools.calls
