"""Bodies that clients send as protobuf (kubectl 1.32 and newer for `create`, evictions and the like), as plain objects.

Kubernetes wraps an object in an envelope: four bytes, then a message of API version, kind and the object's
own message. Numbers and types of fields are in protobuf-1.33.json (scripts/protobuf_fields.py); the wire
format is a library's. Answers are always JSON, which such clients take as well.
"""

from __future__ import annotations

import base64
import datetime
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

_MAGIC = b"k8s\x00"
_TABLE = Path(__file__).with_name("protobuf-1.33.json")
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
    "double": _FIELD.TYPE_DOUBLE,
}
_UNKNOWN = "runtime.Unknown"
_ENVELOPE = {
    "runtime.TypeMeta": {"apiVersion": [1, "string"], "kind": [2, "string"]},
    _UNKNOWN: {"typeMeta": [1, "runtime.TypeMeta"], "raw": [2, "bytes"]},
}
_INLINE = frozenset({"handler", "localObjectReference", "volumeSource", "ephemeralContainerCommon"})
"""Messages whose fields stand in JSON beside those of the message around them."""
_MEANT_WHEN_ZERO = frozenset(
    {
        "replicas", "revisionHistoryLimit", "progressDeadlineSeconds", "gracePeriodSeconds",
        "terminationGracePeriodSeconds", "priority", "runAsUser", "runAsGroup", "fsGroup", "defaultMode", "mode",
        "tolerationSeconds", "automountServiceAccountToken", "enableServiceLinks", "shareProcessNamespace",
        "allowPrivilegeEscalation", "privileged", "readOnlyRootFilesystem", "runAsNonRoot", "optional", "immutable",
        "controller", "blockOwnerDeletion", "orphanDependents", "hostUsers", "allocateLoadBalancerNodePorts",
        "ready", "serving", "terminating",
    }
)  # fmt: skip
"""Fields that differ when they are 0 or false and when they are not given; the others are sent in any case."""
_TEXT = 1
"""The type of an IntOrString that holds text; 0 is a number."""


class Malformed(ValueError):
    """Bytes that are no object of a kind that is known here."""


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body. Raises Malformed."""
    if not body.startswith(_MAGIC):
        raise Malformed("it does not begin as Kubernetes' protobuf does")
    try:
        envelope = _classes()[_UNKNOWN].FromString(body[len(_MAGIC) :])
        said = _plain(envelope.typeMeta)
        api_version, kind = said.get("apiVersion", ""), said.get("kind", "")
        message = _classes().get(_type_of(api_version, kind))
        if message is None:
            raise Malformed(f"no kind {kind!r} in version {api_version!r}")
        return {"apiVersion": api_version, "kind": kind, **_plain(message.FromString(envelope.raw))}
    except (DecodeError, ValueError, OverflowError) as wrong:
        raise Malformed(str(wrong)) from None


def _type_of(api_version: str, kind: str) -> str:
    if kind == "DeleteOptions":  # has the version of what is deleted
        return "meta.v1.DeleteOptions"
    group, _, version = api_version.rpartition("/")
    return f"{group.partition('.')[0] or 'core'}.{version}.{kind}"


@functools.lru_cache(maxsize=1)
def _classes() -> dict[str, type[Any]]:
    """The messages of the table, by name."""
    table: dict[str, Mapping[str, Any]] = {**json.loads(_TABLE.read_text()), **_ENVELOPE}
    file = descriptor_pb2.FileDescriptorProto(name="kubernetes.proto", package="k", syntax="proto2")
    for name, fields in table.items():
        message = file.message_type.add(name=_flat(name))
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"k.{_flat(name)}")) for name in table}


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    """Add a field; a map is, on the wire, a list of entries with key and value."""
    label = _FIELD.LABEL_OPTIONAL
    if kind.startswith("[]"):
        label, kind = _FIELD.LABEL_REPEATED, kind[2:]
    elif kind.startswith("{}"):
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, kind[2:])
        made = message.field.add(name=name, number=number, label=_FIELD.LABEL_REPEATED, type=_FIELD.TYPE_MESSAGE)
        made.type_name = f".k.{message.name}.{entry.name}"
        return
    made = message.field.add(name=name, number=number, label=label, type=_SCALARS.get(kind, _FIELD.TYPE_MESSAGE))
    if kind not in _SCALARS:
        made.type_name = f".k.{_flat(kind)}"


def _plain(message: Message) -> dict[str, Any]:
    """A message as JSON has the object: what was only sent because it is always sent is left out."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = field.name
        if name in _INLINE:
            found.update(_plain(value))
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            parts = field.message_type.fields_by_name
            found[name] = {_value(key, parts["key"]): _value(each, parts["value"]) for key, each in value.items()}
        elif not isinstance(value, (str, bytes, int, float, Message)):
            found[name] = [_value(each, field) for each in value]
        else:
            single = _value(value, field)
            if single is not None and (single or isinstance(single, dict) or name in _MEANT_WHEN_ZERO):
                found[name] = single
    return found


def _value(value: Any, field: FieldDescriptor) -> Any:
    """One value of a field; None for one that stands for nothing. Raises Malformed."""
    if isinstance(value, bytes):
        if field.type == FieldDescriptor.TYPE_STRING:  # the library hands over what is not UTF-8
            raise Malformed(f"{field.name} is not text in UTF-8")
        return base64.b64encode(value).decode()
    if not isinstance(value, Message):
        return value
    return _SPECIAL.get(value.DESCRIPTOR.name, _plain)(value)


def _time(value: Any) -> str | None:
    if not value.ListFields():
        return None
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=value.seconds)
    text = moment.isoformat()
    return f"{text}.{value.nanos // 1000:06d}Z" if value.DESCRIPTOR.name == "meta_v1_MicroTime" else f"{text}Z"


def _number_or_text(value: Any) -> int | str:
    return str(value.strVal) if value.type == _TEXT else int(value.intVal)


_SPECIAL: dict[str, Any] = {
    "meta_v1_Time": _time,
    "meta_v1_MicroTime": _time,
    "intstr_IntOrString": _number_or_text,
    "resource_Quantity": lambda value: value.string,
    "meta_v1_FieldsV1": lambda value: json.loads(value.Raw or b"{}"),
}
"""Types that JSON writes otherwise than field by field."""
