"""The one resolver of parts: underlays, fabrics, clusters, CNI configurations, proxy modes, experiments.

A part is a file in a folder of its kind. Folders given with ``--parts`` go first, then those that
come with Mininetes: the repository's root in a checkout, a copy inside the package otherwise.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from mininetes.errors import BadInput, MininetesError

Kind = Literal["underlay", "fabric", "cluster", "cni", "proxy", "experiment"]

_FOLDERS: dict[Kind, tuple[str, str]] = {
    "underlay": ("topologies/underlays", ".py"),
    "fabric": ("topologies/fabrics", ".py"),
    "cluster": ("topologies/clusters", ".yaml"),
    "cni": ("cni_scripts", ".conflist"),
    "proxy": ("proxy_rules", ".py"),
    "experiment": ("experiments", ".py"),
}

_CONFIGURATIONS = (".conflist", ".conf", ".json")
"""What the names of CNI configurations end in."""

_extra: list[Path] = []

_YOUNG_S = 2.0
"""A file written so recently is not taken from Python's cache, nor put there: that goes by its size and the second."""


def _built_in() -> Path:
    package = Path(__file__).resolve().parent
    copied = package / "_parts"
    return copied if copied.is_dir() else package.parent


def use(folders: list[Path]) -> None:
    """Look into these folders first (``--parts``). Replaces what an earlier call set. Raises BadInput."""
    for folder in folders:
        if not folder.is_dir():
            raise BadInput("--parts", str(folder), "a folder")
    _extra[:] = [folder.resolve() for folder in folders]


def use_of_lab(lab: str, folders: Iterable[str], files: Iterable[str]) -> None:
    """Look also into the folders that a lab was made with, after those in use, as far as they are still there.

    Raises BadInput when one of the lab's ``files`` is gone: another part of its name would not be the lab's.
    """
    for file in files:
        if not Path(file).is_file():
            raise BadInput(f"lab {lab}", file, "a file that is still there: it is a part of the lab")
    use([*used(), *(Path(folder) for folder in folders if Path(folder).is_dir())])


def used() -> list[Path]:
    """The folders given to `use`."""
    return list(_extra)


def folders(kind: Kind) -> list[Path]:
    """Where parts of this kind are looked for, first come first served."""
    place = _FOLDERS[kind][0]
    return [root / place for root in (*_extra, _built_in()) if (root / place).is_dir()]


def names(kind: Kind) -> list[str]:
    """The names of all parts of this kind."""
    ending = _FOLDERS[kind][1]
    found = {
        path.name if kind == "cni" else path.stem for folder in folders(kind) for path in folder.glob(f"*{ending}")
    }
    return sorted(name for name in found if not name.startswith("_"))


@dataclass(frozen=True)
class Part:
    """A part that was found. ``sha256`` of its file goes into every result; ``field`` is where it was asked for."""

    kind: Kind
    name: str
    path: Path
    sha256: str
    field: str

    def module(self) -> ModuleType:
        """Import the part's file. Raises BadInput when it cannot be imported."""
        qualified = f"mininetes_part_{self.kind}_{self.name}"
        description = importlib.util.spec_from_file_location(qualified, self.path)
        if description is None or description.loader is None:
            raise BadInput(self.field, str(self.path), "a Python file")
        module = importlib.util.module_from_spec(description)
        sys.modules[qualified] = module
        try:
            if time.time() - self.path.stat().st_mtime < _YOUNG_S:
                exec(compile(self.path.read_bytes(), str(self.path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
            else:
                description.loader.exec_module(module)
        except Exception as failed:
            raise BadInput(self.field, str(self.path), f"importable: {type(failed).__name__}: {failed}") from failed
        return module

    def told(self, failed: Exception) -> str:
        """See the function of this name."""
        return told(self.path, failed)


def told(path: Path, failed: Exception) -> str:
    """An exception in a line, with the line of a part's file where it came from, if it did."""
    text = str(failed) if isinstance(failed, MininetesError) else f"{type(failed).__name__}: {failed}".rstrip(": ")
    files, line, place = {str(path), str(path.resolve())}, 0, failed.__traceback__
    while place is not None:
        if place.tb_frame.f_code.co_filename in files:
            line = place.tb_lineno
        place = place.tb_next
    return f"{text} ({path.name}:{line})" if line else text


def absolute(name_or_path: str, base: Path | None = None) -> str:
    """A part's path made absolute (from ``base``, else the working directory); a name, as `find` has it, as it is."""
    path = (base or Path.cwd()) / name_or_path
    return str(path.absolute()) if "/" in name_or_path or (path.suffix and path.is_file()) else name_or_path


def absolute_program(name_or_path: str, base: Path | None = None) -> str:
    """The same for a program, whose file needs no ending."""
    path = (base or Path.cwd()) / name_or_path
    return str(path.absolute()) if "/" in name_or_path or path.is_file() else name_or_path


def absolute_mode(mode: str, base: Path | None = None) -> str:
    """The same for a proxy mode, of which only what ends in .py is a path: files called iptables are no parts."""
    return absolute(mode, base) if mode.endswith(".py") else mode


def find(kind: Kind, name_or_path: str, field: str = "") -> Part:
    """Find a part by its name, or by a path to its file. Raises BadInput that lists the names there are.

    What has neither a slash nor an ending is a name, whatever file lies in the working directory. Beside CNI
    configurations lie plugins, which are no parts. ``field`` is what errors name in place of the kind: the field of a
    file that has the name.
    """
    ending, path, field = _FOLDERS[kind][1], Path(name_or_path), field or kind
    if "/" in name_or_path or (path.suffix and path.is_file()):
        if not path.is_file():
            raise BadInput(field, name_or_path, "a file that exists, or one of: " + ", ".join(names(kind)))
        return _part(kind, path.resolve(), field)
    whole = [] if kind == "cni" and path.suffix not in _CONFIGURATIONS else [name_or_path]
    for folder in folders(kind):
        for name in (*whole, name_or_path + ending):
            if (folder / name).is_file():
                return _part(kind, folder / name, field)
    plugin = not whole and any((folder / name_or_path).is_file() for folder in folders(kind))
    right = f"a configuration (a plugin is there, and no {name_or_path}{ending})" if plugin else "a file that exists"
    raise BadInput(field, name_or_path, f"{right}, or one of: " + ", ".join(names(kind)))


def load(kind: Kind, name_or_path: str, field: str = "") -> ModuleType:
    """Find a part as `find` does and import it. Raises BadInput."""
    return find(kind, name_or_path, field).module()


def _part(kind: Kind, path: Path, field: str) -> Part:
    if kind == "cni" and path.suffix not in _CONFIGURATIONS:
        raise BadInput(field, str(path), f"a configuration, whose name ends in {', '.join(_CONFIGURATIONS)}")
    return Part(kind, path.stem, path, hashlib.sha256(path.read_bytes()).hexdigest(), field)
