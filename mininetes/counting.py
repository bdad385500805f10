"""Numbers of things in words: 1 node, 2 nodes."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """So many of ``what``, which is the word for one of them and gets an s for others."""
    return f"{number} {what}{'' if number == 1 else 's'}"
