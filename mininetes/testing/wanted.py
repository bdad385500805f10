"""Which cluster a test asks for: a marker's keywords, a CLUSTER of its module, or a cluster file."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mininetes import parts
from mininetes.cli.options import description, from_folder
from mininetes.errors import BadInput
from mininetes.spec import API_VERSION, ClusterSpec, check_lab_name

_LONGEST_NAME = 20
_OWN = ("file", "name", "parts", "settings", "fresh")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Wanted:
    """What a test asks for, as it was written. ``folder``: where paths start, the test's own."""

    asked: Mapping[str, Any]
    folder: Path
    root: Path
    part_folders: tuple[Path, ...] = ()

    @property
    def key(self) -> str:
        """The same for tests that may share a cluster."""
        told = {key: value for key, value in self.asked.items() if key != "fresh"}
        return json.dumps([told, str(self.folder)], sort_keys=True, default=str)

    @property
    def fresh(self) -> bool:
        """Whether the test wants a cluster for itself alone."""
        return bool(self.asked.get("fresh", False))

    @contextmanager
    def with_parts(self) -> Iterator[None]:
        """Have parts looked for in the test's own folders for the block. Raises BadInput for one that is not there."""
        own = self.asked.get("parts", ())
        own = [own] if isinstance(own, (str, Path)) else list(own)
        before = parts.used()
        parts.use([*(self.folder / each for each in own), *self.part_folders, *before])
        try:
            yield
        finally:
            parts.use(before)

    def spec(self) -> ClusterSpec:
        """The checked description, with a name that no other lab has. Call it in `with_parts`. Raises BadInput."""
        asked = dict(self.asked)
        own = {key: asked.pop(key) for key in _OWN if key in asked}
        file = None if own.get("file") is None else self._file(str(own["file"]))
        name = str(own.get("name") or (Path(file).stem if file else "pytest"))
        check_lab_name(name)
        flags = {key: asked.pop(key) for key in ("nodes", "pods") if isinstance(asked.get(key), int)}
        fields = {**from_folder(asked, self.folder), **own.get("settings", {})}
        if isinstance(fields.get("proxy"), str):
            flags["proxy"] = fields.pop("proxy")
        for part in ("underlay", "fabric"):
            if isinstance(fields.get(part), str):
                flags[part] = fields.pop(part)
        unique = f"{name[:_LONGEST_NAME].rstrip('-')}-{os.getpid()}-{next(_numbers)}"
        settings = tuple(f"{field}={json.dumps(value, default=str)}" for field, value in fields.items())
        return description(file, unique, settings=settings, **flags)

    def _file(self, given: str) -> str:
        """A cluster file beside the test, one that is named from pytest's root folder, or one of the parts."""
        for place in (self.folder / given, self.root / given):
            if place.is_file():
                return str(place)
        return given


def asked_of(marker: Mapping[str, Any] | None, positional: tuple[Any, ...], module: Any) -> dict[str, Any]:
    """What is asked for by a marker (its keywords and arguments), else by a module's CLUSTER. Raises BadInput."""
    if marker is not None:
        if len(positional) > 1:
            raise BadInput(
                "@pytest.mark.cluster", str(positional), "keywords, and at most one cluster file before them"
            )
        return {**({"file": positional[0]} if positional else {}), **marker}
    if module is None:
        return {}
    if isinstance(module, (str, Path)):
        return {"file": str(module)}
    if not isinstance(module, Mapping):
        raise BadInput("CLUSTER", str(module), "a cluster file, or a mapping such as {'nodes': 3, 'fabric': 'vxlan'}")
    if "apiVersion" not in module:
        return dict(module)
    if module["apiVersion"] != API_VERSION or module.get("kind") != "Cluster":
        raise BadInput("CLUSTER", f"{module['apiVersion']} {module.get('kind')}", f"{API_VERSION} Cluster")
    name = (module.get("metadata") or {}).get("name")
    return {**(module.get("spec") or {}), **({"name": name} if name else {})}
