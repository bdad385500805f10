"""The commands that a page names in its sentences and tables, and in blocks of shell that no console shows."""

from __future__ import annotations

import re
from pathlib import Path

PROGRAMS = "mininetes|kubectl|make|mn|sudo|vagrant|git|pip|pytest|export"
ON_A_NODE = "ip|bridge|sh|cat"
"""What stands alone behind `mininetes exec node1 -- ...` in a table, and is typed so."""
_BLOCK = re.compile(r"^ *```(?P<kind>.*)\n(?P<block>(?:.*\n)*?) *```$", re.MULTILINE)
_SPAN = rf"`(?P<span>(?:{PROGRAMS}|{ON_A_NODE})\s(?:[^`\n]|\n(?!\n))+)`"
_EITHER = re.compile(f"{_BLOCK.pattern}|{_SPAN}", re.MULTILINE)


def commands(page: Path) -> list[str]:
    """A page's commands in its order, each once, without those of its console blocks, which test_guide.py types."""
    found: list[str] = []
    for match in _EITHER.finditer(page.read_text()):
        if match["span"] is not None:
            found.append(" ".join(match["span"].split()))
        elif not match["kind"].strip():
            parts = (part for line in match["block"].splitlines() for part in re.split(r" {3,}", line))
            found += [part for part in parts if re.match(rf"(?:{PROGRAMS}) ", part)]
    return list(dict.fromkeys(found))
