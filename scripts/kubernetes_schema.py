"""Writes mininetes/apiserver/kubernetes-1.30.json: the fields of Kubernetes' types, for the kinds served.

    pip download --no-deps --dest DIR kubernetes==30.1.0
    python scripts/kubernetes_schema.py DIR/kubernetes-30.1.0-py2.py3-none-any.whl

Names, types and which fields are required come from the models of that package (whose release number
follows that of Kubernetes); the wheel is read, not run. What the models do not tell comes from
kubernetes_schema_additions.yaml. The package's descriptions are left out.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
RESULT = HERE.parent / "mininetes" / "apiserver" / "kubernetes-1.30.json"
SCALARS = {
    "str": "string",
    "int": "int32",
    "bool": "boolean",
    "float": "double",
    "object": "object",
    "datetime": "time",
}
REQUIRED = re.compile(r"Invalid value for `(\w+)`, must not be `None`")
Field = dict[str, Any]


def read_models(wheel: Path) -> dict[str, dict[str, tuple[str, bool]]]:
    """The models of the package: class name to field name to (Python type in the package's words, required)."""
    models = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not re.fullmatch(r"kubernetes/client/models/(v1|core_v1|events_v1|discovery_v1)_\w+\.py", name):
                continue
            source = archive.read(name).decode()
            tree = ast.parse(source)
            model = next(each for each in tree.body if isinstance(each, ast.ClassDef))
            tables = {
                statement.targets[0].id: ast.literal_eval(statement.value)
                for statement in model.body
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
            }
            required = set(REQUIRED.findall(source))
            models[re.sub("^V1", "", model.name)] = {
                json_name: (tables["openapi_types"][python_name], python_name in required)
                for python_name, json_name in tables["attribute_map"].items()
            }
    return models


def reachable(models: dict[str, dict[str, tuple[str, bool]]], roots: list[str]) -> list[str]:
    """The roots and every type that their fields have, sorted."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            types = " ".join(kind for kind, _ in models[name].values())
            waiting += [re.sub("^V1", "", found) for found in re.findall(r"[A-Z]\w+", types)]
    return sorted(seen)


class Joiner:
    """Joins the models with the additions; ``used`` are the additions that found their field."""

    def __init__(self, additions: dict[str, Any]) -> None:
        self.additions = additions
        self.packages = {name: package for package, names in additions["packages"].items() for name in names}
        self.narrower = {field: kind for kind, fields in additions["narrower"].items() for field in fields}
        self.used: set[str] = set()

    def full_name(self, model: str) -> str:
        """``core.v1.Event`` for the package's ``CoreV1Event``."""
        return f"{self.packages.get(model, 'core.v1')}.{re.sub('^(Core|Events|Discovery)V1', '', model)}"

    def addition(self, section: dict[str, Any] | list[str], key: str) -> Any:
        """What a section says about a type or field; None when nothing."""
        if key not in section:
            return None
        self.used.add(key)
        return section[key] if isinstance(section, dict) else True

    def field(self, model: str, name: str, kind: str, required: bool) -> Field:
        """One field, in the words of the result."""
        key = f"{model}.{name}"
        collection, inner = "", kind
        if found := re.fullmatch(r"(list\[|dict\(str, )(.+)[\])]", kind):
            collection, inner = ("list" if found[1] == "list[" else "map"), found[2]
        narrower = self.addition(self.narrower, key) or self.addition(self.narrower, name)
        plain = narrower or SCALARS.get(inner)
        result: Field = {"type": plain or self.full_name(re.sub("^V1", "", inner))}
        if collection:
            result["of"] = collection
        if required and not self.addition(self.additions["optional"], key):
            result["required"] = True
        if merged := self.addition(self.additions["lists"]["map"], key):
            result |= merged
        elif self.addition(self.additions["lists"]["set"], key):
            result["set"] = True
        if self.addition(self.additions["retain"], key):
            result["retain"] = True
        if about := self.addition(self.additions["descriptions"], key):
            result["about"] = about
        return result

    def type_entry(self, model: str, fields: dict[str, tuple[str, bool]]) -> dict[str, Any]:
        """One type with its fields."""
        about = self.addition(self.additions["descriptions"], model)
        entry: dict[str, Any] = {"about": about} if about else {}
        entry["fields"] = {name: self.field(model, name, *fields[name]) for name in sorted(fields)}
        return entry

    def unused(self) -> list[str]:
        """Additions that name nothing: a slip in the file, or a type that another release no longer has."""
        sections = self.additions
        there = [*self.narrower, *sections["lists"]["map"], *sections["lists"]["set"]]
        there += [*sections["retain"], *sections["optional"], *sections["descriptions"]]
        return sorted(set(there) - self.used)


def main() -> None:
    """Write the file anew from the wheel that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    additions = yaml.safe_load((HERE / "kubernetes_schema_additions.yaml").read_text())
    models = read_models(Path(sys.argv[1]))
    joiner = Joiner(additions)
    names = reachable(models, additions["roots"])
    types = {joiner.full_name(name): joiner.type_entry(name, models[name]) for name in names}
    if unused := joiner.unused():
        raise SystemExit(f"kubernetes_schema_additions.yaml names what is not there: {', '.join(unused)}")
    lines = [f"{json.dumps(name)}: {json.dumps(types[name])}" for name in sorted(types)]
    RESULT.write_text('{"release": "1.30", "types": {\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main()
