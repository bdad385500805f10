"""The OpenAPI document of version 2, for kubectls that ask for it: it says that it describes nothing.

Without one, kubectl 1.30 and newer call a kind that is not served an invalid file, and older ones apply
nothing at all. With an empty one they leave checks to the server, which names what is wrong.
"""

from __future__ import annotations

import functools
from typing import Any

import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from mininetes.apiserver.discovery import GIT_VERSION
from mininetes.apiserver.requests import JSON

PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_TEXT, _MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_SWAGGER, _TITLE = "2.0", "Kubernetes"


@functools.cache
def as_json() -> tuple[bytes, str]:
    """The document and its content type, for those who take JSON."""
    info = {"title": _TITLE, "version": GIT_VERSION}
    return orjson.dumps({"swagger": _SWAGGER, "info": info, "paths": {}}), JSON


@functools.cache
def as_protobuf() -> tuple[bytes, str]:
    """The same as kubectl asks for it. Field numbers are those of gnostic's OpenAPIv2.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="openapi_v2.proto", package="openapi.v2", syntax="proto3")
    info = file.message_type.add(name="Info")
    info.field.add(name="title", number=1, label=1, type=_TEXT)
    info.field.add(name="version", number=2, label=1, type=_TEXT)
    document = file.message_type.add(name="Document")
    document.field.add(name="swagger", number=1, label=1, type=_TEXT)
    document.field.add(name="info", number=2, label=1, type=_MESSAGE, type_name=".openapi.v2.Info")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    made: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("openapi.v2.Document"))()
    made.swagger, made.info.title, made.info.version = _SWAGGER, _TITLE, GIT_VERSION
    return bytes(made.SerializeToString()), PROTOBUF
