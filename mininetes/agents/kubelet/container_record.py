"""What a kubelet knows of one container: its starts and ends, for status and checkpoint. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mininetes.agents.kubelet.pod_spec import Kind
from mininetes.agents.objects import rfc3339

RUNTIME = "mininetes"
CRASH_LOOP = "CrashLoopBackOff"


@dataclass
class ContainerRecord:
    """One container of a pod. Times are in seconds since 1970."""

    name: str
    kind: Kind
    image: str
    is_init: bool = False
    is_sidecar: bool = False
    """An init container that goes on running beside the others (KEP-753)."""
    state: Literal["waiting", "running", "terminated"] = "waiting"
    reason: str = ""
    message: str = ""
    starts: int = 0
    """How often it was started: the number of its next log file."""
    process: str = ""
    """The shim's name of its process, while it has one."""
    container_id: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    last: dict[str, Any] | None = None
    """The terminated state before this one."""
    started: bool = False
    """Whether its startup probe succeeded (or there is none)."""
    ready: bool = False
    backoff_s: float = 0.0
    """How long the last wait before a restart was to be."""

    @property
    def _is_to_end(self) -> bool:
        """Whether the others wait for its end."""
        return self.is_init and not self.is_sidecar

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return max(0, self.starts - 1)

    def begin(self, now: float, process: str, container_id: str, *, started: bool, ready: bool) -> None:
        """Note a start."""
        if self.state == "terminated":
            self.last = self.terminated()
        self.state, self.reason, self.message = "running", "", ""
        self.started_at, self.finished_at, self.exit_code = now, 0.0, 0
        self.process, self.container_id = process, container_id
        self.started, self.ready = started, ready
        self.starts += 1

    def end(self, now: float, exit_code: int, reason: str = "", message: str = "") -> None:
        """Note the end of a run."""
        self.state, self.exit_code, self.finished_at = "terminated", exit_code, now
        self.reason = reason or ("Completed" if exit_code == 0 else "Error")
        self.message = message
        self.started = self.ready = False
        self.process = ""

    def wait(self, reason: str, message: str = "") -> None:
        """Note why it does not run (yet, or again)."""
        if self.state == "terminated":
            self.last = self.terminated()
        self.state, self.reason, self.message = "waiting", reason, message

    def terminated(self) -> dict[str, Any]:
        """The terminated state, as the API has it."""
        return {
            "exitCode": self.exit_code,
            "reason": self.reason,
            **({"message": self.message} if self.message else {}),
            "startedAt": rfc3339(self.started_at) if self.started_at else None,
            "finishedAt": rfc3339(self.finished_at),
            "containerID": self.container_id,
        }

    def status(self) -> dict[str, Any]:
        """The container's entry in the pod's status."""
        if self.state == "running":
            state: dict[str, Any] = {"running": {"startedAt": rfc3339(self.started_at)}}
        elif self.state == "terminated":
            state = {"terminated": self.terminated()}
        else:
            waiting = {"reason": self.reason or "ContainerCreating"}
            state = {"waiting": {**waiting, **({"message": self.message} if self.message else {})}}
        image = self.image or "mininetes/responder"
        return {
            "name": self.name,
            "state": state,
            "lastState": {"terminated": self.last} if self.last else {},
            "ready": self.state == "terminated" and self.exit_code == 0 if self._is_to_end else self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "image": image,
            "imageID": f"{RUNTIME}://{image}",
            **({"containerID": self.container_id} if self.container_id else {}),
        }

    def wants_start(self, policy: str) -> bool:
        """Whether it is to be started (again) under a restart policy."""
        if self.state == "running":
            return False
        if not self.starts:
            return True
        if self._is_to_end:
            return self.exit_code != 0 and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and self.exit_code != 0)

    def restart_at(self, now: float, longest_s: float) -> float:
        """When it may be started again: at once after the first end, then after waits that double.

        A run of twice the longest wait makes the next wait short again, as a kubelet's does.
        """
        if not self.finished_at:
            return now
        if self.started_at and self.finished_at - self.started_at > 2 * longest_s:
            self.backoff_s = 0.0
        return self.finished_at + self.backoff_s if self.backoff_s else now

    def lengthen_backoff(self, first_s: float, longest_s: float) -> None:
        """Have the next wait be twice as long: called when it is started again."""
        self.backoff_s = min(self.backoff_s * 2, longest_s) if self.backoff_s else first_s
