"""A plugin that stays, started by a thread that then enters namespaces itself."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import netbox

from mininetes.agents.cni.warm_plugin import WarmPlugin
from mininetes.kernel.processes import HERE, Namespaces, let_thread_enter, run

STAYS = """#!/bin/bash
# MININETES_SERVE=1 makes it stay
while read -r -N 8 size; do
    read -r -N "$((10#$size))" request
    printf 'answered\\0'
done
"""


def enters_after_an_add() -> list[Any]:
    """What the plugin answers, and the status of a program in the mount namespace.

    A thread that shares its root directory with another may not enter one.
    """
    script = Path("/run/plugin")
    script.write_text(STAYS)
    script.chmod(0o755)
    plugin = WarmPlugin(str(script), {"PATH": "/usr/bin:/bin"}, HERE)
    found: list[Any] = []

    def work() -> None:
        let_thread_enter()
        answer = plugin.add(("web", "/run/netns/web", "eth0", ""), "{}", 10.0)
        found.append(answer and answer.stdout)
        found.append(run(["true"], namespaces=Namespaces(of_pid=os.getpid())).status)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(10)
    plugin.close()
    return found


if netbox.INSIDE not in os.environ:

    def test_threads_that_enter_namespaces_still_can() -> None:
        assert netbox.run(enters_after_an_add, user_namespace=True) == ["answered", 0]
