"""What kubelets say of pods that do not get ready, for somebody who waits for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from mininetes.apiserver.client import Client
from mininetes.errors import MininetesError

NO_SANDBOX = "FailedCreatePodSandBox"
"""The reason of the event about a pod whose CNI plugins failed."""

_SANDBOX_ID = re.compile(r' for sandbox "[0-9a-f]{64}"')
"""Another one at each attempt, and of no use to people."""


class PodTroubles:
    """The last warning about each pod, as of the last `look`; ``tell`` hears of each that is new."""

    def __init__(self, client: Client, tell: Callable[[str], None]) -> None:
        self._client = client
        self._tell = tell
        self._known: dict[str, tuple[str, str]] = {}

    async def look(self, pods: Collection[str]) -> None:
        """Read what is said of these pods ("namespace/name"). An API that does not answer says nothing."""
        try:
            events = await self._client.list("events", fields="type=Warning")
        except MininetesError:
            return
        found = {}
        for event in sorted(events["items"], key=lambda each: str(each.get("lastTimestamp") or "")):
            about = event.get("involvedObject") or {}
            name = f"{about.get('namespace', '')}/{about.get('name', '')}"
            if about.get("kind") == "Pod" and name in pods:
                host = (event.get("source") or {}).get("host")
                message = _SANDBOX_ID.sub("", str(event.get("message", "")))
                found[name] = str(event.get("reason", "")), f"on {host}: {message}" if host else message
        for name, said in found.items():
            if self._known.get(name) != said:
                self._known[name] = said
                self._tell(f"pod {name} {said[1]}")

    def of(self, pod: str) -> str:
        """The node and message of the last warning about a pod; "" when there was none."""
        return self._known.get(pod, ("", ""))[1]

    def reason(self, pod: str) -> str:
        """That warning's reason; "" when there was none."""
        return self._known.get(pod, ("", ""))[0]
