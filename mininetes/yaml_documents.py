"""Reading YAML as people mean it: a key that is given twice in one mapping is a mistake, not the last one's win."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml


class RepeatedKey(yaml.YAMLError):
    """A mapping gives a key twice. ``path`` leads to it ("spec.pods.perNode"), ``lines`` (from 1) are its places."""

    def __init__(self, path: str, lines: tuple[int, int]) -> None:
        super().__init__(f"{path} is given twice, in lines {lines[0]} and {lines[1]}")
        self.path = path
        self.lines = lines


class _Loader(yaml.SafeLoader):
    """yaml's safe loader, which looks the document over before it makes objects of it."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        for repeated in _repeated(node, "", set()):
            raise repeated
        return node


def _repeated(node: yaml.Node | None, path: str, seen: set[int]) -> Iterator[RepeatedKey]:
    """The keys given twice in ``node`` and below it; what an alias leads to again is in ``seen``."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, f"{path}[{index}]", seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            below = path
            if isinstance(key, yaml.ScalarNode):
                below = f"{path}.{key.value}".lstrip(".")
                same, line = (key.tag, key.value), key.start_mark.line + 1
                if same in lines:
                    yield RepeatedKey(below, (lines[same], line))
                lines[same] = line
            yield from _repeated(value, below, seen)


def load(text: str) -> Any:
    """Return the one document in ``text`` as plain objects, None when there is none.

    Raises yaml.YAMLError; RepeatedKey, which is one, for a key given twice.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
