"""get, apply, delete, kubeconfig: the objects of a running lab's API server, as kubectl does it."""

from __future__ import annotations

import asyncio
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from mininetes.cli.api_access import kubeconfig_of, with_api
from mininetes.cli.applying import patch_to, remembering
from mininetes.cli.options import lab_option, output_option
from mininetes.cli.rules_difference import rules_of, use_parts_of
from mininetes.errors import BadInput, MininetesError
from mininetes.lab import state

if TYPE_CHECKING:
    from mininetes.apiserver.client import Client
    from mininetes.apiserver.resources import Resource

DELETED_WITHIN_S = 60.0
_LOOK_S = 0.1

namespace_option = click.option("-n", "--namespace", metavar="NAME", default="default", show_default=True,
                                help="The namespace.")  # fmt: skip
files_option = click.option("-f", "--filename", "files", multiple=True, metavar="FILE",
                            help="A manifest in YAML or JSON, or a folder of them; - is standard input.")  # fmt: skip


@click.command("kubeconfig", epilog="Example: export KUBECONFIG=$(mininetes kubeconfig --path); kubectl get nodes")
@click.argument("name", required=False)
@lab_option
@click.option("--path", "only_path", is_flag=True, help="Print where the file is, not what it holds.")
def kubeconfig_command(name: str | None, lab: str | None, only_path: bool) -> int:
    """Print the kubeconfig with which kubectl reaches a lab from this machine."""
    found = state.find(name or lab)
    text = kubeconfig_of(found)
    click.echo(str(found.kubeconfig) if only_path else text, nl=only_path)
    return 0


@click.command("get", epilog="Example: mininetes get pods -A -o wide")
@lab_option
@click.argument("kind", metavar="KIND")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@namespace_option
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Objects of all namespaces.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="Only objects with these labels.")
@click.option("-o", "--output", type=click.Choice(["text", "wide", "json", "yaml", "name"]), default="text",
              show_default=True, help="How to print them.")  # fmt: skip
def get_command(
    lab: str | None, kind: str, names: tuple[str, ...], namespace: str, everywhere: bool, selector: str, output: str
) -> int:
    """List the API server's objects of a kind (nodes, pods, services, ...), of several with commas, or all."""
    if "/" in kind:  # TYPE/NAME, as kubectl takes it
        kind, _, name = kind.partition("/")
        names = (name, *names)
    kinds = _kinds(kind)
    if names and everywhere:
        raise BadInput("--all-namespaces", " ".join(names), "no names together with -A")
    if names and selector:
        raise BadInput("--selector", selector, "no names together with -l")
    if names and len(kinds) > 1:
        raise BadInput("NAME", " ".join(names), f"no names together with several kinds ({kind})")
    where = None if everywhere else namespace

    async def work(client: Client) -> dict[Resource, list[dict[str, Any]]]:
        if names:
            return {kinds[0]: [await client.get(kinds[0].resource_name, name, where) for name in names]}
        found: dict[Resource, list[dict[str, Any]]] = {}
        for each in kinds:
            items = (await client.list(each.resource_name, where, labels=selector))["items"]
            found[each] = [{"apiVersion": each.api_version, "kind": each.kind, **item} for item in items]
        return found

    found = with_api(state.find(lab), work)
    items = [item for each in found.values() for item in each]
    if output in ("json", "yaml"):
        whole: Any = items[0] if len(names) == 1 else {"apiVersion": "v1", "kind": "List", "items": items}
        text = json.dumps(whole, indent=4) + "\n" if output == "json" else yaml.safe_dump(whole, sort_keys=False)
        click.echo(text, nl=False)
    elif output == "name":
        for resource, each in found.items():
            for item in each:
                click.echo(f"{_prefix(resource)}{item['metadata']['name']}")
    elif items:
        prefix = len(kinds) > 1
        tables = [
            _as_table(resource, each, wide=output == "wide", namespaces=everywhere, prefix=prefix)
            for resource, each in found.items()
            if each
        ]
        click.echo("\n\n".join(tables))
    else:
        place = "" if everywhere or not any(each.namespaced for each in kinds) else f" in {namespace} namespace"
        click.echo(f"No resources found{place}.", err=True)
    return 0


def _kinds(text: str) -> list[Resource]:
    """The kinds that are asked for: one, several with commas, or the category ``all``. Raises BadInput."""
    from mininetes.apiserver.resources import RESOURCES, by_name  # noqa: PLC0415

    if text == "all":
        return [each for each in RESOURCES if "all" in each.categories]
    return [by_name(name) for name in text.split(",")]


def _prefix(resource: Resource) -> str:
    return f"{resource.singular}{'.' + resource.group if resource.group else ''}/"


def _as_table(
    resource: Resource, items: Sequence[dict[str, Any]], *, wide: bool, namespaces: bool, prefix: bool
) -> str:
    """The objects as kubectl prints them: columns in capitals, three spaces between."""
    from mininetes.apiserver.tables import table  # noqa: PLC0415

    made = table(resource, items, now=datetime.datetime.now(datetime.timezone.utc), include_object="None")
    shown = [index for index, column in enumerate(made["columnDefinitions"]) if wide or not column.get("priority")]
    rows = [[made["columnDefinitions"][index]["name"].upper() for index in shown]]
    rows += [[str(row["cells"][index]) for index in shown] for row in made["rows"]]
    if prefix:
        rows[1:] = [[_prefix(resource) + row[0], *row[1:]] for row in rows[1:]]
    if namespaces and resource.namespaced:
        places = ["NAMESPACE", *(str(each["metadata"].get("namespace", "")) for each in items)]
        rows = [[place, *row] for place, row in zip(places, rows, strict=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def read_manifests(files: Sequence[str]) -> list[dict[str, Any]]:
    """All objects of these manifests; lists are taken apart. Raises BadInput that names file and document."""
    if not files:
        raise BadInput("--filename", None, "at least one file; - is standard input")
    found: list[dict[str, Any]] = []
    for name in files:
        for source, text in _texts(name):
            try:
                documents = [each for each in yaml.safe_load_all(text) if each is not None]
            except yaml.YAMLError as wrong:
                raise BadInput(source, None, "not YAML: " + " ".join(str(wrong).split())) from None
            for number, document in enumerate(documents, start=1):
                items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
                for each in items if isinstance(items, list) else [document]:
                    found.append(checked_manifest(each, f"{source}: document {number}"))
    if not found:
        raise BadInput("--filename", ", ".join(files), "a manifest with at least one object")
    return found


def _texts(name: str) -> list[tuple[str, str]]:
    """A file's text, or those of a folder's manifests, with the names that errors have."""
    if name == "-":
        return [("standard input", sys.stdin.read())]
    path = Path(name)
    paths = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json")) if path.is_dir() else [path]
    try:
        return [(str(each), each.read_text()) for each in paths]
    except OSError as failed:
        raise BadInput("--filename", name, f"a readable file ({failed.strerror})") from None
    except UnicodeDecodeError as wrong:
        raise BadInput("--filename", name, f"text in UTF-8 ({wrong.reason})") from None


def checked_manifest(document: Any, place: str) -> dict[str, Any]:
    """One object whose kind is known and which has a name. Raises BadInput."""
    from mininetes.apiserver.resources import by_kind  # noqa: PLC0415

    if not isinstance(document, dict):
        raise BadInput(place, str(document)[:60], "a mapping with apiVersion, kind and metadata")
    for key in ("apiVersion", "kind"):
        if not isinstance(document.get(key), str):
            raise BadInput(f"{place}: {key}", document.get(key), "a text such as v1, or Pod")
    try:
        by_kind(document["apiVersion"], document["kind"])
    except BadInput as unknown:
        raise BadInput(f"{place}: {unknown.field}", unknown.value, unknown.right) from None
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise BadInput(f"{place}: metadata.name", None, "the object's name")
    return document


@click.command(
    "apply",
    epilog="""\b
Examples:
  mininetes apply -f web.yaml
  mininetes apply -f web.yaml --dry-run""",
)
@lab_option
@files_option
@namespace_option
@click.option("--dry-run", is_flag=True, help="Have the server check and default all of it, and keep nothing; of "
              "services, print what would change in the rules.")  # fmt: skip
def apply_command(lab: str | None, files: tuple[str, ...], namespace: str, dry_run: bool) -> int:
    """Create the objects of manifests, or change those that exist; all are read before the first is sent."""
    from mininetes.apiserver.errors import ApiError  # noqa: PLC0415
    from mininetes.apiserver.resources import by_kind  # noqa: PLC0415

    objects = read_manifests(files)
    found = state.find(lab)
    if dry_run:
        use_parts_of(found)

    async def work(client: Client) -> int:
        refused = 0
        watched = await rules_of(client) if dry_run and any(obj["kind"] == "Service" for obj in objects) else None
        for obj in objects:
            resource = by_kind(obj["apiVersion"], obj["kind"])
            where = obj["metadata"].get("namespace", namespace) if resource.namespaced else None
            label = f"{_prefix(resource)}{obj['metadata']['name']}"
            try:
                said, after = await apply_one(client, resource, obj, where, dry_run=dry_run)
                click.echo(f"{label} {said}")
                if watched is not None and resource.kind == "Service":
                    click.echo(watched.difference(after), nl=False)
            except ApiError as wrong:
                click.echo(f"mininetes: {label}: {wrong}", err=True)
                refused += 1
        return refused

    return 1 if with_api(found, work) else 0


async def apply_one(
    client: Client, resource: Resource, wanted: dict[str, Any], namespace: str | None, *, dry_run: bool
) -> tuple[str, dict[str, Any]]:
    """Create one object or change it; says which it was, and gives it as it is then. Raises ApiError."""
    from mininetes.apiserver.errors import ApiError  # noqa: PLC0415

    name, obj = wanted["metadata"]["name"], remembering(wanted)
    mark = " (server dry run)" if dry_run else ""
    try:
        before = await client.get(resource.resource_name, name, namespace)
    except ApiError as missing:
        if missing.code != 404:
            raise
        return f"created{mark}", await client.create(resource.resource_name, obj, namespace, dry_run=dry_run)
    patch = patch_to(obj, before)
    after = await client.patch(resource.resource_name, name, patch, namespace, kind="strategic", dry_run=dry_run)
    return f"{'unchanged' if before == after else 'configured'}{mark}", after


@click.command("delete", epilog="Example: mininetes delete pod node1-1")
@lab_option
@click.argument("kind", required=False, metavar="[KIND]")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@files_option
@namespace_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until they are gone.")
@output_option
def delete_command(
    lab: str | None,
    kind: str | None,
    names: tuple[str, ...],
    files: tuple[str, ...],
    namespace: str,
    wait: bool,
    output: str,
) -> int:
    """Delete objects by kind and name, or those of manifests, and wait until they are gone."""
    from mininetes.apiserver.resources import by_kind, by_name  # noqa: PLC0415

    if bool(files) == (kind is not None):
        raise BadInput("delete", kind, "either KIND NAME... or -f FILE")
    if kind is not None and not names:
        raise BadInput("NAME", None, f"the name of what to delete, as in 'mininetes delete {kind} NAME'")
    if kind is not None:
        wanted = [(by_name(kind), name, namespace) for name in names]
    else:
        objects = read_manifests(files)
        kinds = [by_kind(obj["apiVersion"], obj["kind"]) for obj in objects]
        places = [obj["metadata"].get("namespace", namespace) for obj in objects]
        wanted = [
            (each, obj["metadata"]["name"], place) for each, obj, place in zip(kinds, objects, places, strict=True)
        ]

    async def work(client: Client) -> None:
        for resource, name, where in wanted:
            found = await client.get(resource.resource_name, name, where)
            await client.delete(resource.resource_name, name, where)
            if wait:
                await _gone(client, resource, found["metadata"], where)
            if output == "text":
                click.echo(f'{resource.singular} "{name}" deleted')

    with_api(state.find(lab), work)
    if output == "json":
        click.echo(json.dumps([f"{resource.singular}/{name}" for resource, name, _ in wanted]))
    return 0


async def _gone(client: Client, resource: Resource, metadata: dict[str, Any], namespace: str) -> None:
    """Wait until that very object is no longer there. Raises MininetesError after a minute."""
    from mininetes.apiserver.errors import ApiError  # noqa: PLC0415

    name = metadata["name"]
    loop = asyncio.get_running_loop()
    end = loop.time() + DELETED_WITHIN_S
    try:
        while loop.time() < end:
            now = await client.get(resource.resource_name, name, namespace)
            if now["metadata"]["uid"] != metadata["uid"]:  # another of that name took its place
                return
            await asyncio.sleep(_LOOK_S)
    except ApiError as missing:
        if missing.code == 404:
            return
        raise
    raise MininetesError(f'{resource.singular} "{name}" is still there after {DELETED_WITHIN_S:g} s')
