"""Whether an object may be stored: its fields and types, its values, and what an update changes.

The rules are Kubernetes' own as far as users meet them, in its words, and Mininetes' limits (IPv4 only).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from mininetes.apiserver.decoding import decode, refused
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.metadata_rules import check_metadata
from mininetes.apiserver.object_rules import (
    check_config_map,
    check_daemon_set,
    check_deployment,
    check_event,
    check_lease,
    check_node,
    check_replica_set,
    check_secret,
)
from mininetes.apiserver.pod_rules import check_pod
from mininetes.apiserver.problems import Problems
from mininetes.apiserver.resources import Resource
from mininetes.apiserver.service_rules import check_endpoint_slice, check_endpoints, check_service
from mininetes.apiserver.update_rules import UPDATE_RULES, check_identity

FieldValidation = Literal["Strict", "Warn", "Ignore"]
Object = dict[str, Any]
_RULES: Final[dict[str, Callable[[Mapping[str, Any], Problems], None]]] = {
    "pods": check_pod,
    "services": check_service,
    "endpoints": check_endpoints,
    "nodes": check_node,
    "configmaps": check_config_map,
    "secrets": check_secret,
    "events": check_event,
    "events.events.k8s.io": check_event,
    "deployments.apps": check_deployment,
    "replicasets.apps": check_replica_set,
    "daemonsets.apps": check_daemon_set,
    "leases.coordination.k8s.io": check_lease,
    "endpointslices.discovery.k8s.io": check_endpoint_slice,
}
_WITH_TEMPLATE: Final = ("deployments.apps", "replicasets.apps", "daemonsets.apps")


def check(resource: Resource, obj: Object, *, field_validation: FieldValidation = "Strict") -> list[str]:
    """Check an object, before defaults (an object with defaults passes as well). Returns warnings.

    Works in place as decoding does: nulls and fields that the kind does not have are taken out, amounts given
    as numbers become text. Unknown fields are an error (Strict), warned of (Warn) or dropped (Ignore).
    Raises ApiError: 400 for types and unknown fields, 422 with all causes for values.
    """
    _begin_spec(resource, obj)
    findings = decode(resource, obj)
    problems_of_fields = [f'unknown field "{path}"' for path in findings.unknown]
    if problems_of_fields and field_validation == "Strict":
        raise refused(resource, f"strict decoding error: {', '.join(problems_of_fields)}")
    problems = Problems(findings.missing)
    check_metadata(resource, obj.get("metadata") or {}, problems)
    if rule := _RULES.get(resource.resource_name):
        rule(obj, problems)
    _raise(resource, obj, problems)
    return problems_of_fields if field_validation == "Warn" else []


def check_update(resource: Resource, old: Object, new: Object) -> None:
    """Check that an update changes nothing that must stay. After defaults, on both. Raises ApiError (422)."""
    problems = Problems()
    check_identity(old, new, problems)
    if rule := UPDATE_RULES.get(resource.resource_name):
        rule(old, new, problems)
    _raise(resource, new, problems)


def _begin_spec(resource: Resource, obj: Object) -> None:
    """Put in the empty objects in which something is required, so that what is missing is named in full."""
    templated = resource.resource_name in _WITH_TEMPLATE
    if templated or resource.resource_name == "pods":
        if obj.get("spec") is None:
            obj["spec"] = {}
        template = obj["spec"].get("template") if templated and isinstance(obj["spec"], dict) else None
        if isinstance(template, dict) and template.get("spec") is None:
            template["spec"] = {}


def _raise(resource: Resource, obj: Object, problems: Problems) -> None:
    if problems.causes:
        name = (obj.get("metadata") or {}).get("name") or ""
        raise ApiError.invalid(resource.kind, name, problems.causes, resource.group)
