"""What lies below an object: scale, binding and eviction."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from mininetes.apiserver.calls import Call, json_response
from mininetes.apiserver.deletion import DeleteOptions
from mininetes.apiserver.errors import ApiError, Cause
from mininetes.apiserver.metadata import Object, timestamp
from mininetes.apiserver.patches import apply_patch
from mininetes.apiserver.registry import Registry
from mininetes.apiserver.requests import decode, read_body
from mininetes.apiserver.selectors import LabelSelector
from mininetes.apiserver.store import Stored
from mininetes.apiserver.writing import APPLY, PATCH_TYPES

SCALE_VERSION = "autoscaling/v1"


def scale_of(stored: Stored) -> Object:
    """The Scale object of a workload."""
    obj = stored.object
    metadata = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": SCALE_VERSION,
        "metadata": {field: metadata[field] for field in kept if field in metadata},
        "spec": {"replicas": obj["spec"].get("replicas", 0)},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": str(LabelSelector.of(obj["spec"].get("selector"))),
        },
    }


async def scale(registry: Registry, call: Call) -> web.StreamResponse:
    """GET, PUT and PATCH of a workload's scale."""
    assert call.name is not None
    if call.request.method == "GET":
        return json_response(scale_of(await registry.get(call.kind, call.namespace, call.name)))
    options = call.write_options()
    content_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
    raw = await read_body(call.request)
    wanted = await decode(raw, content_type, "Scale") if call.request.method == "PUT" else None
    if wanted is None and (content_type not in PATCH_TYPES or content_type == APPLY):
        raise ApiError.unsupported_media_type(content_type, PATCH_TYPES[:-1])

    def change(current: Stored) -> Object:
        shown = scale_of(current)
        asked = wanted if wanted is not None else apply_patch(content_type, call.resource, shown, raw)
        obj = current.copy()
        obj["spec"]["replicas"] = _replicas(asked, call.name or "")
        # Without one, any version will do; the registry compares it.
        obj["metadata"]["resourceVersion"] = asked.get("metadata", {}).get("resourceVersion", "")
        return obj

    return json_response(scale_of(await registry.modify(call.kind, call.namespace, call.name, change, options)))


def _replicas(scale: Any, name: str) -> int:
    if not isinstance(scale, dict) or not isinstance(scale.get("spec", {}), dict):
        raise ApiError.bad_request("the body must be a Scale object of autoscaling/v1")
    if scale.get("kind", "Scale") != "Scale":
        raise ApiError.bad_request(f"the kind in the data ({scale['kind']}) does not match the expected kind (Scale)")
    named = scale.get("metadata", {}).get("name", name)
    if named != name:
        raise ApiError.bad_request(f"the name of the object ({named}) does not match the name on the URL ({name})")
    replicas = scale.get("spec", {}).get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise ApiError.bad_request(f"spec.replicas: {replicas!r} is not valid: a number")
    if replicas < 0:
        message = f"Invalid value: {replicas}: must be greater than or equal to 0"
        raise ApiError.invalid("Scale", name, [Cause("spec.replicas", "FieldValueInvalid", message)], "autoscaling")
    return replicas


async def bind(registry: Registry, call: Call) -> web.StreamResponse:
    """POST of a Binding: the scheduler says on which node a pod runs."""
    body = await _object(call, "Binding")
    target = body.get("target") or {}
    node = target.get("name") if isinstance(target, dict) else None
    if not isinstance(node, str) or not node or target.get("kind", "Node") != "Node":
        causes = [Cause("target.name", "FieldValueRequired", "Required value")]
        raise ApiError.invalid("Binding", call.name or "", causes)
    uid = body["metadata"].get("uid")

    def change(current: Stored) -> Object:
        pod = current.copy()
        if uid and uid != pod["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {pod['metadata']['uid']}"
            raise ApiError.conflict("pods/binding", call.name or "", why)
        if "deletionTimestamp" in pod["metadata"]:
            why = f"pod {call.name} is being deleted, cannot be assigned to a host"
            raise ApiError.conflict("pods/binding", call.name or "", why)
        if assigned := pod["spec"].get("nodeName"):
            why = f'pod {call.name} is already assigned to node "{assigned}"'
            raise ApiError.conflict("pods/binding", call.name or "", why)
        pod["spec"]["nodeName"] = node
        status = pod.setdefault("status", {})
        others = [each for each in status.get("conditions", []) if each["type"] != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": timestamp()}
        status["conditions"] = [*others, scheduled]
        return pod

    assert call.name is not None
    if call.dry_run():
        change(await registry.get(call.kind, call.namespace, call.name))
    else:
        await registry.rewrite(call.kind, call.namespace, call.name, change)
    return json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


async def evict(registry: Registry, call: Call) -> web.StreamResponse:
    """POST of an Eviction: delete a pod, as ``kubectl drain`` asks for it."""
    body = await _object(call, "Eviction")
    options = DeleteOptions.parse(body.get("deleteOptions"), call.query)
    assert call.name is not None
    await registry.delete(call.kind, call.namespace, call.name, options)
    return json_response({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)


async def _object(call: Call, kind: str) -> Object:
    body = await decode(await read_body(call.request), call.request.headers.get("Content-Type", ""), kind)
    if not isinstance(body, dict) or not isinstance(body.setdefault("metadata", {}), dict):
        raise ApiError.bad_request(f"the body must be a JSON object of kind {kind}")
    if body.get("kind", kind) != kind:
        raise ApiError.bad_request(f"the kind in the data ({body['kind']}) does not match the expected kind ({kind})")
    named = body["metadata"].get("name", call.name)
    if named != call.name:
        raise ApiError.bad_request(f"the name of the object ({named}) does not match the name on the URL ({call.name})")
    return body
