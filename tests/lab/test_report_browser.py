"""The report in a real browser: what it renders, what moves in it, and that it asks the network for nothing."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from headless_browser import Page, browsing
from PIL import Image

from mininetes import parts
from mininetes.experiments import report
from tests.unit import made_experiment

COLOURS = {"reached": (42, 157, 78), "lost": (214, 39, 40), "leaked": (255, 159, 28)}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A report of two results."""
    folder = tmp_path_factory.mktemp("report")
    before = parts.used()
    made_experiment.use(folder)
    made_experiment.write(folder / "results" / "one")
    made_experiment.write(folder / "results" / "two")
    yield report.write([folder / "results"], None).page
    parts.use(before)


def browsed(file: Path, look: Callable[[Page], Awaitable[Any]], width: int = 1400) -> Any:
    """What ``look`` returns of the page in a browser."""

    async def session() -> Any:
        async with browsing() as page:
            await page.open(file, width)
            return await look(page)

    return asyncio.run(session())


def test_it_renders_without_a_complaint_and_without_the_network(page_file: Path) -> None:
    async def look(page: Page) -> None:
        shown = "[...document.querySelectorAll('section')].map(each => each.querySelectorAll('%s').length)"
        assert await page.ask("document.title") == "2 experiments on an emulated Kubernetes network"
        assert await page.ask(shown % "h2") == [1, 1]
        assert await page.ask(shown % "canvas.matrix") == [4, 4]
        assert await page.ask(shown % "svg.topology") == [2, 2]
        assert await page.ask(shown % ".figures svg") == [1, 1]
        badges = "[...document.querySelectorAll('#overview .badge')].map(each => each.textContent)"
        assert await page.ask(badges) == ["yes", "no", "not at this size"] * 2
        sizes = "[...document.querySelectorAll('.figures svg')].map(each => each.getBoundingClientRect().width)"
        assert min(await page.ask(sizes)) > 300
        dead = "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.querySelector(a.hash)).length"
        assert await page.ask(dead) == 0
        assert await page.ask("performance.getEntriesByType('resource').length") == 0
        assert page.requests == [page_file.resolve().as_uri()]
        assert page.complaints == []

    browsed(page_file, look)


def test_a_matrix_is_drawn_in_its_colours_and_says_what_the_mouse_is_on(page_file: Path) -> None:
    async def look(page: Page) -> None:
        assert await page.ask("document.querySelector('canvas.matrix').dataset.drawn") == "12"
        await page.ask("document.querySelector('canvas.matrix').scrollIntoView({block: 'center', behavior: 'instant'})")
        place = await page.ask(
            "(box => ({x: box.x, y: box.y, w: box.width, h: box.height}))"
            "(document.querySelector('canvas.matrix').getBoundingClientRect())"
        )
        size, names = 19, ["node1", "node2", "pod/node1-1", "pod/node2-1"]
        left, top = place["w"] - 2 - 4 * size, place["h"] - 2 - 4 * size
        for source, target, verdict, words in (
            (0, 1, "lost", "node1 → node2: lost: expected and not reached"),
            (1, 0, "leaked", "node2 → node1: reached against expectation"),
            (2, 3, "reached", "pod/node1-1 → pod/node2-1: reached"),
        ):
            x, y = left + (target + 0.5) * size, top + (source + 0.5) * size
            colour = await page.ask(
                f"[...document.querySelector('canvas.matrix').getContext('2d').getImageData({x}, {y}, 1, 1).data]"
            )
            assert tuple(colour[:3]) == COLOURS[verdict], (names[source], names[target])
            await page.point_at(place["x"] + x, place["y"] + y)
            await page.until(f"document.getElementById('tip').textContent === {words!r}")
            assert await page.ask("getComputedStyle(document.getElementById('tip')).display") == "block"
        await page.point_at(place["x"] - 20, place["y"] + 5)
        await page.until("getComputedStyle(document.getElementById('tip')).display === 'none'")

    browsed(page_file, look)


def test_tables_sort_and_filter(page_file: Path) -> None:
    async def look(page: Page) -> None:
        column = (
            "[...document.getElementById('r1-table').tHead.rows[0].cells].findIndex(c => c.textContent === 'median')"
        )
        at = await page.ask(column)
        values = (
            "[...document.getElementById('r1-table').tBodies[0].rows].filter(row => !row.hidden)"
            f".map(row => row.cells[{at}].dataset.value).filter(text => text !== '').map(Number)"
        )
        click = f"document.getElementById('r1-table').tHead.rows[0].cells[{at}].click()"
        before = await page.ask(values)
        await page.ask(click)
        assert await page.ask(values) == sorted(before) != before
        await page.ask(click)
        assert await page.ask(values) == sorted(before, reverse=True)
        await page.ask(
            "(field => { field.value = 'nftables first_us'; field.dispatchEvent(new Event('input')); })"
            "(document.querySelector('input[data-filters=r1-table]'))"
        )
        assert 0 < len(await page.ask(values)) < len(before)
        rows = (
            "[...document.getElementById('r1-table').tBodies[0].rows].filter(row => !row.hidden).map(r => r.innerText)"
        )
        assert all("nftables" in row and "first_us" in row for row in await page.ask(rows))

    browsed(page_file, look)


@pytest.mark.parametrize("width", [1400, 480])
def test_nothing_sticks_out_and_the_picture_is_not_empty(page_file: Path, width: int) -> None:
    async def look(page: Page) -> bytes:
        assert await page.ask("document.documentElement.scrollWidth") <= width
        return await page.screenshot()

    picture = Image.open(io.BytesIO(browsed(page_file, look, width))).convert("RGB")
    assert picture.width == width
    seen = {colour for _, colour in picture.getcolors(1 << 24) or []}
    assert set(COLOURS.values()) <= seen
