"""Writes mininetes/apiserver/protobuf-1.33.json: the numbers of the fields of Kubernetes' types on the wire.

    python scripts/protobuf_fields.py .venv/kubectl/kubectl-new

A kubectl carries the descriptors of its types (compressed, as Go's protobuf keeps them). They are read from
the file, which is not run; only names, numbers and types are kept, of the kinds that clients send here.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from mininetes.apiserver.resources import RESOURCES

RESULT = Path(__file__).resolve().parent.parent / "mininetes" / "apiserver" / "protobuf-1.33.json"
GZIP = re.compile(rb"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff")
PACKAGE = re.compile(r"^\.?k8s\.io\.(api|apimachinery\.pkg\.apis|apimachinery\.pkg\.api|apimachinery\.pkg\.util)\.")
SCALARS = {
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
}
BESIDES = ("meta.v1.DeleteOptions", "policy.v1.Eviction", "autoscaling.v1.Scale")
Fields = dict[str, list[int | str]]


def short(name: str) -> str:
    """`core.v1.Pod` for `.k8s.io.api.core.v1.Pod`."""
    return PACKAGE.sub("", name)


def files(kubectl: bytes) -> list[FileDescriptorProto]:
    """The descriptors of Kubernetes' own types in a program."""
    found = []
    for start in GZIP.finditer(kubectl):
        try:
            text = zlib.decompressobj(31).decompress(kubectl[start.start() : start.start() + (1 << 20)])
            found.append(FileDescriptorProto.FromString(text))
        except (zlib.error, ValueError):
            continue
    return [each for each in found if PACKAGE.match(each.package + ".")]


def fields_of(message: DescriptorProto) -> Fields:
    """Number and type of each field: `[]T` is a list of T, `{}T` a map from text to T."""
    entries = {each.name: each for each in message.nested_type if each.options.map_entry}
    fields: Fields = {}
    for field in message.field:
        kind = SCALARS.get(field.type) or short(field.type_name)
        entry = entries.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            value = entry.field[1]
            kind = "{}" + (SCALARS.get(value.type) or short(value.type_name))
        elif field.label == FieldDescriptorProto.LABEL_REPEATED:
            kind = "[]" + kind
        fields[field.name] = [field.number, kind]
    return fields


def main(kubectl: Path) -> None:
    """Write the table of all types that are reachable from the kinds served."""
    messages = {
        short(f"{file.package}.{message.name}"): fields_of(message)
        for file in files(kubectl.read_bytes())
        for message in file.message_type
    }
    wanted = [f"{each.group.split('.')[0] or 'core'}.{each.version}.{each.kind}" for each in RESOURCES]
    wanted += BESIDES
    table: dict[str, Fields] = {}
    while wanted:
        name = wanted.pop()
        if name not in table:
            table[name] = messages[name]
            types = (str(kind).removeprefix("[]").removeprefix("{}") for _, kind in table[name].values())
            wanted += [kind for kind in types if kind not in SCALARS.values()]
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table))
    RESULT.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
