"""What an update may not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mininetes.apiserver.problems import Problems, selector_shown, shown

Object = Mapping[str, Any]
IMMUTABLE: Final = "field is immutable"
_POD_RULE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_POD_MAY_CHANGE: Final = ("activeDeadlineSeconds", "tolerations", "schedulingGates")


def _pod(old: Object, new: Object, problems: Problems) -> None:
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if before == after:
        return
    changed = sorted(
        name
        for name in before.keys() | after.keys()
        if name not in _POD_MAY_CHANGE and _but_images(name, before.get(name)) != _but_images(name, after.get(name))
    )
    if changed:
        problems.forbidden("spec", f"{_POD_RULE}\n  changed: {', '.join(changed)}")
    there = after.get("tolerations") or []
    if any(each not in there for each in before.get("tolerations") or ()):
        problems.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    deadline, shorter = before.get("activeDeadlineSeconds"), after.get("activeDeadlineSeconds")
    if deadline is not None and (shorter is None or shorter > deadline):
        problems.invalid(
            "spec.activeDeadlineSeconds", shorter, f"must be less than or equal to previous value {deadline}"
        )
    gates = before.get("schedulingGates") or []
    if any(each not in gates for each in after.get("schedulingGates") or ()):
        problems.forbidden("spec.schedulingGates", "only deletion is allowed, but found new scheduling gates")


def _but_images(name: str, value: Any) -> Any:
    if name not in ("containers", "initContainers") or not value:
        return value or None
    return [{key: item for key, item in each.items() if key != "image"} for each in value]


def _service(old: Object, new: Object, problems: Problems) -> None:
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if "ExternalName" in (before.get("type"), after.get("type")):
        return
    was, wanted = before.get("clusterIP"), after.get("clusterIP")
    if was and wanted != was:
        problems.invalid("spec.clusterIPs[0]", [wanted or ""], "may not change once set")
    old_class = before.get("loadBalancerClass")
    if before.get("type") == after.get("type") == "LoadBalancer" and old_class != after.get("loadBalancerClass"):
        problems.invalid("spec.loadBalancerClass", after.get("loadBalancerClass"), "may not change once set")


def _workload(old: Object, new: Object, problems: Problems) -> None:
    before, after = ((each.get("spec") or {}).get("selector") or {} for each in (old, new))
    if before != after:
        problems.invalid("spec.selector", after, IMMUTABLE, text=selector_shown(after))


def _node(old: Object, new: Object, problems: Problems) -> None:
    before, after = old.get("spec") or {}, new.get("spec") or {}
    for name in ("podCIDR", "providerID"):
        if before.get(name) and before[name] != after.get(name):
            why = f'node updates may not change {name} except from "" to valid'
            problems.forbidden(f"spec.{name}", why)


def _data(old: Object, new: Object, problems: Problems) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        problems.forbidden("immutable", f"{IMMUTABLE} when `immutable` is set")
    for field in ("data", "binaryData"):
        if (old.get(field) or {}) != (new.get(field) or {}):
            problems.forbidden(field, f"{IMMUTABLE} when `immutable` is set")


def _secret(old: Object, new: Object, problems: Problems) -> None:
    _field("type")(old, new, problems)
    _data(old, new, problems)


def _field(name: str) -> Callable[[Object, Object, Problems], None]:
    def unchanged(old: Object, new: Object, problems: Problems) -> None:
        if old.get(name) != new.get(name):
            problems.invalid(name, new.get(name), IMMUTABLE)

    return unchanged


def check_identity(old: Object, new: Object, problems: Problems) -> None:
    """Names and the like stay for an object's life."""
    before, after = old.get("metadata") or {}, new.get("metadata") or {}
    for name in ("name", "namespace", "uid", "creationTimestamp"):
        if before.get(name) and before[name] != after.get(name):
            problems.invalid(f"metadata.{name}", after.get(name), IMMUTABLE, text=shown(after.get(name, "")))
    if before.get("deletionTimestamp"):
        added = [each for each in after.get("finalizers") or () if each not in (before.get("finalizers") or ())]
        if added:
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown(added)}"
            problems.forbidden("metadata.finalizers", why)


UPDATE_RULES: Final[dict[str, Callable[[Object, Object, Problems], None]]] = {
    "pods": _pod,
    "services": _service,
    "nodes": _node,
    "configmaps": _data,
    "secrets": _secret,
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "daemonsets.apps": _workload,
    "endpointslices.discovery.k8s.io": _field("addressType"),
}
"""By resource name; what is not here may change in everything but its identity."""
