"""A list-and-watch client written to the rules of client-go's informers, which checks every answer against the truth.

list (in pages) -> watch from its version -> events, bookmarks -> connection lost: watch on from the last version seen
       ^                                                                     |
       +---------------------- 410 Gone: the version is too old -------------+

It shares no code with the engine's own informer, and hides nothing: an event that comes twice, late or
never is an error here, where an informer would drop it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import aiohttp
import orjson

from mininetes.apiserver.store import connector_in

Object = dict[str, Any]
Told = tuple[str, str, int]
"""ADDED, MODIFIED or DELETED; the object's name; its version."""

_PAGE = 7
_LONGEST_PAUSE_S = 0.1


class Gone(Exception):
    """410: history is lost."""


class StrictInformer:
    """Follows a collection at any of several servers. ``segments`` holds all that it was told, for `check`."""

    def __init__(self, servers: list[str], path: str, *, netns: str, token: str, seed: int) -> None:
        self._servers = servers
        self._path = path
        self._connect = connector_in(netns)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._random = random.Random(seed)
        self._response: aiohttp.ClientResponse | None = None
        self._http: aiohttp.ClientSession | None = None
        self.may_connect = asyncio.Event()
        """While it is cleared, a client that lost its connection stays away."""
        self.may_connect.set()
        self.version = 0
        self.listed: list[tuple[int, dict[str, int]]] = []
        """Each list: its version, and the objects' versions by name."""
        self.segments: list[tuple[int, list[Told]]] = []
        """Each watch: the version it began after, and its events."""
        self.gone = 0
        self.broken = 0

    @property
    def watching(self) -> bool:
        """Whether a watch is open."""
        return self._response is not None

    def disconnect(self) -> None:
        """Reset the connection of the watch, whatever is on its way."""
        if self._response is not None and self._response.connection is not None:
            transport = self._response.connection.transport
            if transport is not None:
                self.broken += 1
                transport.abort()

    async def run(self) -> None:
        """List and watch until cancelled."""
        async with aiohttp.ClientSession(connector=self._connect(), headers=self._headers) as self._http:
            while True:
                try:
                    if not self.version:
                        await self._list()
                    await self._watch()
                except Gone:
                    self.gone += 1
                    self.version = 0
                except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
                    pass
                await asyncio.sleep(self._random.uniform(0, _LONGEST_PAUSE_S))
                await self.may_connect.wait()

    async def _get(self, query: dict[str, Any]) -> aiohttp.ClientResponse:
        assert self._http is not None
        url = self._random.choice(self._servers) + self._path
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0)
        response = await self._http.get(url, params=query, ssl=False, timeout=timeout)
        if response.status == 410:
            raise Gone
        if response.status >= 500:
            response.close()
            raise aiohttp.ClientError(response.status)
        assert response.status == 200, await response.text()
        return response

    async def _list(self) -> None:
        found: dict[str, int] = {}
        token, version = "", 0
        while token or not version:
            answer = await (await self._get({"limit": _PAGE, **({"continue": token} if token else {})})).json()
            for obj in answer["items"]:
                assert obj["metadata"]["name"] not in found, "one object twice in a list"
                found[obj["metadata"]["name"]] = int(obj["metadata"]["resourceVersion"])
            token = answer["metadata"].get("continue", "")
            now = int(answer["metadata"]["resourceVersion"])
            assert version in (0, now), "the pages of a list have different versions"
            version = now
        self.listed.append((version, found))
        self.version = version

    async def _watch(self) -> None:
        query = {"watch": "1", "resourceVersion": self.version, "allowWatchBookmarks": "true", "timeoutSeconds": 2}
        self._response = await self._get(query)
        events: list[Told] = []
        self.segments.append((self.version, events))
        try:
            while (line := await self._response.content.readline()).endswith(b"\n"):
                event = orjson.loads(line)
                kind, obj = event["type"], event["object"]
                if kind == "ERROR":
                    assert obj["code"] == 410, obj
                    raise Gone
                self.version = int(obj["metadata"]["resourceVersion"])
                if kind != "BOOKMARK":
                    events.append((kind, obj["metadata"]["name"], self.version))
        finally:
            with contextlib.suppress(Exception):
                self._response.close()
            self._response = None

    def check(self, truth: list[Told]) -> None:
        """Every list showed what was there at its version; every watch told each change since, once and in order."""
        for version, found in self.listed:
            assert found == state_at(truth, version), f"the list of version {version} is not what was there"
        for after, events in self.segments:
            expected = [change for change in truth if change[2] > after][: len(events)]
            assert events == expected, f"the watch after {after} told something else than what happened"
        starts = [version for version, _ in self.listed]
        for (_, events), (after, _) in zip(self.segments, self.segments[1:], strict=False):
            last = events[-1][2] if events else None
            skipped = [change for change in truth if last is not None and last < change[2] <= after]
            assert not skipped or after in starts, f"a bookmark of version {after} hid {skipped}"


def state_at(truth: list[Told], version: int) -> dict[str, int]:
    """The versions of the objects that were there, by name."""
    state: dict[str, int] = {}
    for kind, name, changed in truth:
        if changed > version:
            break
        if kind == "DELETED":
            del state[name]
        else:
            state[name] = changed
    return state
