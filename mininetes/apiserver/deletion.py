"""What deleting an object means: at once, after a grace period, or when its finalizers are done."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.metadata import Object, timestamp, utc_now
from mininetes.apiserver.resources import Resource
from mininetes.apiserver.store import Stored

DEFAULT_GRACE_S = 30
POLICY_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
_POLICIES = ("Background", *POLICY_FINALIZERS)
_ENDED = ("Succeeded", "Failed")
IMMORTAL = ("default", "kube-system", "kube-public")


@dataclass(frozen=True)
class DeleteOptions:
    """How to delete. ``grace_s`` None: what the object itself asks for."""

    grace_s: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    propagation: str = "Background"
    dry_run: bool = False

    @classmethod
    def parse(cls, body: Any, query: Mapping[str, str]) -> DeleteOptions:
        """From a DeleteOptions object (None: there was no body), or the query. Raises ApiError 400 or 422."""
        if body is None:
            body = {}
        if not isinstance(body, dict) or body.get("kind", "DeleteOptions") != "DeleteOptions":
            raise ApiError.bad_request("the body of a DELETE must be a DeleteOptions object")
        preconditions = body.get("preconditions") or {}
        if not isinstance(preconditions, dict):
            raise ApiError.bad_request("preconditions must be an object with uid or resourceVersion")
        propagation = body.get("propagationPolicy") or query.get("propagationPolicy") or "Background"
        if body.get("orphanDependents") or query.get("orphanDependents") == "true":
            propagation = "Orphan"
        if propagation not in _POLICIES:
            raise ApiError.bad_request(
                f"propagationPolicy: {propagation!r} is not valid: one of {', '.join(sorted(_POLICIES))}"
            )
        dry_run = body.get("dryRun") or ([query["dryRun"]] if query.get("dryRun") else [])
        return cls(
            grace_s=_grace(body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))),
            uid=preconditions.get("uid"),
            resource_version=preconditions.get("resourceVersion"),
            propagation=propagation,
            dry_run=dry_run == ["All"],
        )

    def check(self, resource: Resource, stored: Stored) -> None:
        """Raises ApiError 409 when the object is not the one that is meant."""
        name, uid = stored.value["metadata"]["name"], stored.value["metadata"].get("uid")
        if self.uid is not None and self.uid != uid:
            why = f"Precondition failed: UID in precondition: {self.uid}, UID in object meta: {uid}"
            raise ApiError.conflict(resource, name, why)
        if self.resource_version is not None and self.resource_version != str(stored.revision):
            why = (
                f"Precondition failed: ResourceVersion in precondition: {self.resource_version}, "
                f"ResourceVersion in object meta: {stored.revision}"
            )
            raise ApiError.conflict(resource, name, why)


def _grace(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        seconds = int(value)
    except (TypeError, ValueError):
        raise ApiError.bad_request(f"gracePeriodSeconds: {value!r} is not valid: a number of seconds") from None
    # Kubernetes takes any negative number for "as short as can be".
    return seconds if seconds >= 0 else 1


def marked(resource: Resource, value: Object, options: DeleteOptions) -> Object | None:
    """The object as it is to be kept until its deletion is done; None when it can go at once.

    The very same object is returned when there is nothing to change. Raises ApiError 403 for a
    namespace that may not go.
    """
    metadata = value["metadata"]
    if resource.resource_name == "namespaces":
        return _marked_namespace(resource, value)
    grace_s = _pod_grace_s(value, options) if resource.resource_name == "pods" else 0
    finalizers = _finalizers(metadata, options)
    if not finalizers and grace_s == 0:
        return None
    changed = {**metadata, "finalizers": finalizers} if finalizers else dict(metadata)
    known_s = metadata.get("deletionGracePeriodSeconds")
    if "deletionTimestamp" not in metadata or (known_s is not None and grace_s < known_s):
        changed["deletionTimestamp"] = timestamp(utc_now() + datetime.timedelta(seconds=grace_s))
        changed["deletionGracePeriodSeconds"] = grace_s
        if "generation" in changed:
            changed["generation"] += 1
    return value if changed == metadata else {**value, "metadata": changed}


def may_go(resource: Resource, value: Object) -> bool:
    """Whether an object that is being deleted waits for nothing any more."""
    metadata = value["metadata"]
    waits = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
    return "deletionTimestamp" in metadata and not waits and resource.resource_name != "namespaces"


def _finalizers(metadata: Object, options: DeleteOptions) -> list[str]:
    finalizers = list(metadata.get("finalizers") or [])
    wanted = POLICY_FINALIZERS.get(options.propagation)
    if wanted is not None and wanted not in finalizers:
        finalizers.append(wanted)
    return finalizers


def _pod_grace_s(pod: Object, options: DeleteOptions) -> int:
    """How long a pod may take; 0 once its kubelet says that it ended, or when no kubelet has it."""
    spec = pod["spec"]
    if not spec.get("nodeName") or pod.get("status", {}).get("phase") in _ENDED:
        return 0
    if options.grace_s is not None:
        return options.grace_s
    known_s = pod["metadata"].get("deletionGracePeriodSeconds")
    return int(known_s if known_s is not None else spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S))


def _marked_namespace(resource: Resource, value: Object) -> Object:
    metadata = value["metadata"]
    if metadata["name"] in IMMORTAL:
        raise ApiError.forbidden(resource, metadata["name"], "this namespace may not be deleted")
    if "deletionTimestamp" in metadata:
        return value
    status = {**value.get("status", {}), "phase": "Terminating"}
    return {**value, "metadata": {**metadata, "deletionTimestamp": timestamp()}, "status": status}
