"""A headless Chromium of the test's own, spoken to over its debugging protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

WITHIN_S = 60.0
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--mute-audio",
    "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


def binary() -> str:
    """The browser's path; `make setup-tests` installs one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "no browser: make setup-tests installs chromium"
    return found


class Page:
    """One page; ``requests`` are the addresses that it asked for, ``complaints`` its errors and warnings."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; what happens meanwhile is noted."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            said = await self._socket.receive_json(timeout=WITHIN_S)
            if said.get("id") == number:
                assert "error" not in said, f"{method}: {said['error']}"
                return dict(said["result"])
            self._note(said)

    def _note(self, event: dict[str, Any]) -> None:
        facts = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(facts["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.complaints.append(facts["entry"]["text"])

    async def open(self, file: Path, width: int = 1400, height: int = 1000) -> None:
        """Go to a file and wait until its script has run."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Page.navigate", url=file.resolve().as_uri())
        await self.until("document.documentElement?.dataset.ready === 'yes'")

    async def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        said = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait for an expression to be true."""
        deadline = time.monotonic() + WITHIN_S
        while not await self.ask(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            await asyncio.sleep(0.05)

    async def point_at(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window."""
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def screenshot(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", captureBeyondViewport=True))["data"])


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Page]:
    """A page of a fresh browser, which is ended afterwards."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        said = Path(profile) / "said"
        with said.open("wb") as log:
            browser = subprocess.Popen(
                [binary(), *QUIET, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log
            )
        try:
            port = Path(profile) / "DevToolsActivePort"
            await _until(lambda: port.is_file() and port.read_text().count("\n") > 0, browser, said)
            address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}"
            async with aiohttp.ClientSession() as session:
                async with session.get(f"{address}/json/list") as answer:
                    pages = [each for each in await answer.json(content_type=None) if each["type"] == "page"]
                async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            browser.terminate()
            try:
                browser.wait(10)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


async def _until(holds: Callable[[], bool], browser: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert browser.poll() is None, f"the browser ended: {said.read_text()}"
        assert time.monotonic() < deadline, f"the browser does not answer: {said.read_text()}"
        await asyncio.sleep(0.05)
