"""The hooks of a container's life, postStart and preStop: a command, an HTTP request or a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from mininetes.agents.kubelet import executing
from mininetes.agents.kubelet.container_runs import ContainerRuns
from mininetes.agents.kubelet.context import Context
from mininetes.agents.kubelet.prober import ProbeSpec, probe
from mininetes.errors import MininetesError

HTTP_TIMEOUT_S = 60.0
_BAD_STATUS = "HTTP probe failed with statuscode"


async def run_hook(
    context: Context, runs: ContainerRuns, spec: Mapping[str, Any], hook: Mapping[str, Any], timeout_s: float | None
) -> str:
    """Run a hook of the container that ``spec`` describes; returns what went wrong, "" when nothing did."""
    try:
        if "sleep" in hook:
            await asyncio.sleep(float(hook["sleep"].get("seconds") or 0))
        elif "exec" in hook:
            command = [str(word) for word in hook["exec"].get("command") or []]
            status, output = await executing.run(context, runs.place(spec), command, timeout_s)
            return "" if status == 0 else output.strip() or f"command exited with status {status}"
        elif "httpGet" in hook:
            asked = ProbeSpec("startup", hook, 0, 0, timeout_s or HTTP_TIMEOUT_S, 1, 1)
            wrong = await probe(asked, runs.target(spec))
            return "" if wrong.startswith(_BAD_STATUS) else wrong  # a kubelet only wants an answer, whatever it says
        else:
            return f"{', '.join(hook) or 'nothing'} is not known here: exec, httpGet or sleep"
    except asyncio.TimeoutError:
        return f"it took longer than {timeout_s:g} s"
    except (MininetesError, OSError) as failed:
        return str(failed)
    return ""
