"""What creating and updating mean for each kind, beyond what all kinds share."""

from __future__ import annotations

from typing import Any

from mininetes.apiserver.metadata import Object
from mininetes.apiserver.resources import Resource


class Strategy:
    """The rules of ordinary kinds. ``counts_generations``: changes of the fields ``counted`` are numbered."""

    counts_generations = False
    counted: tuple[str, ...] = ("spec",)

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.has_status = "status" in resource.subresources

    def prepare_create(self, obj: Object) -> None:
        """Set what the server decides in a new object; its status begins empty. Before defaults."""
        if self.has_status:
            obj["status"] = {}

    def prepare_update(self, old: Object, new: Object) -> None:
        """Keep what an update of the object itself does not change: the old status.

        The new object was not checked yet: it may have any shape.
        """
        if self.has_status:
            # A copy, since defaults are filled into what is new.
            new["status"] = dict(old.get("status") or {})

    def count_generation(self, old: Object, new: Object) -> None:
        """Number a change of what the object asks for. After checks and defaults."""
        if self.counts_generations and any(new.get(field) != old.get(field) for field in self.counted):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def status_update(self, old: Object, new: Object) -> Object:
        """The old object with the new status (and, where Kubernetes lets agents do so, labels and annotations)."""
        updated = {**old, "metadata": {**old["metadata"]}}
        _take(updated, new, "status")
        updated["metadata"].pop("resourceVersion", None)
        return updated


class WorkloadStrategy(Strategy):
    """Deployments, replica sets, daemon sets."""

    counts_generations = True


class NodeStrategy(Strategy):
    """A kubelet registers its node together with its status, and may label it with it."""

    def prepare_create(self, obj: Object) -> None:
        """Leave the status as it came."""

    def status_update(self, old: Object, new: Object) -> Object:
        """Status, labels and annotations."""
        return _with_labels(super().status_update(old, new), new)


class PodStrategy(Strategy):
    """A pod begins as Pending, and tolerates a node that is not ready for five minutes."""

    _TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    _TOLERATED_S = 300

    def prepare_create(self, obj: Object) -> None:
        """Phase, class of service, and the default tolerations."""
        spec = obj["spec"]
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        tolerations = list(spec.get("tolerations") or [])
        for key in self._TOLERATED:
            if not any(_tolerates(each, key) for each in tolerations):
                tolerations.append(
                    {
                        "key": key,
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": self._TOLERATED_S,
                    }
                )
        spec["tolerations"] = tolerations

    def status_update(self, old: Object, new: Object) -> Object:
        """Status, labels and annotations; the class of service stays."""
        updated = _with_labels(super().status_update(old, new), new)
        status = updated.get("status", {})
        if "qosClass" in old.get("status", {}) and isinstance(status, dict):
            updated["status"] = {**status, "qosClass": old["status"]["qosClass"]}
        return updated


class NamespaceStrategy(Strategy):
    """A namespace is Active until it is deleted, and then waits until it is empty."""

    def prepare_create(self, obj: Object) -> None:
        """Finalizers and phase are the server's own; by the label selectors find it."""
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
        self._label(obj)

    def prepare_update(self, old: Object, new: Object) -> None:
        """The finalizers are the server's own."""
        super().prepare_update(old, new)
        _take(new, old, "spec")
        self._label(new)

    @staticmethod
    def _label(obj: Object) -> None:
        labels = obj["metadata"].get("labels") or {}
        if isinstance(labels, dict):
            obj["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": obj["metadata"]["name"]}


class ServiceStrategy(Strategy):
    """A service's addresses and ports are settled by the allocator; see `mininetes.apiserver.allocators`."""

    def prepare_update(self, old: Object, new: Object) -> None:
        """A client that leaves out what was allocated means to keep it."""
        super().prepare_update(old, new)
        old_spec, new_spec = old["spec"], new.get("spec")
        if not isinstance(new_spec, dict) or not _are_objects(new_spec.get("ports", [])):
            return  # what is wrong with it, the check says
        self._drop_for_type(old_spec, new_spec)
        if new_spec.get("type") == "ExternalName" or old_spec.get("type") == "ExternalName":
            return
        if not new_spec.get("clusterIP"):
            new_spec["clusterIP"] = old_spec.get("clusterIP", "")
        if not new_spec.get("clusterIPs"):
            new_spec["clusterIPs"] = [new_spec["clusterIP"]] if new_spec["clusterIP"] else []
        if _has_node_ports(new_spec) and _has_node_ports(old_spec):
            self._keep_node_ports(old_spec, new_spec)
            if new_spec.get("externalTrafficPolicy") == "Local" and not new_spec.get("healthCheckNodePort"):
                _take(new_spec, old_spec, "healthCheckNodePort")

    @staticmethod
    def _drop_for_type(old: Object, new: Object) -> None:
        """A changed type takes with it what was allocated for the old one, unless the client changed that too."""
        if new.get("type") == "ExternalName" and old.get("type") != "ExternalName":
            for field in ("clusterIP", "clusterIPs"):
                if new.get(field) == old.get(field):
                    new.pop(field, None)
        if _has_node_ports(old) and not _has_node_ports(new):
            numbers = {port.get("nodePort") for port in old.get("ports", [])}
            for port in new.get("ports", []):
                if port.get("nodePort") in numbers:
                    port.pop("nodePort", None)
            for field in ("externalTrafficPolicy", "allocateLoadBalancerNodePorts", "healthCheckNodePort"):
                if new.get(field) == old.get(field):
                    new.pop(field, None)

    @staticmethod
    def _keep_node_ports(old: Object, new: Object) -> None:
        taken = {port["nodePort"] for port in new.get("ports", []) if port.get("nodePort")}
        known = {_port_key(port): port["nodePort"] for port in old.get("ports", []) if port.get("nodePort")}
        for port in new.get("ports", []):
            number = known.get(_port_key(port))
            if not port.get("nodePort") and number and number not in taken:
                port["nodePort"] = number


class EndpointSliceStrategy(Strategy):
    """Slices have no spec; their generation counts changes of the endpoints."""

    counts_generations = True
    counted = ("endpoints", "ports")


_OWN = {
    "deployments.apps": WorkloadStrategy,
    "replicasets.apps": WorkloadStrategy,
    "daemonsets.apps": WorkloadStrategy,
    "nodes": NodeStrategy,
    "pods": PodStrategy,
    "namespaces": NamespaceStrategy,
    "services": ServiceStrategy,
    "endpointslices.discovery.k8s.io": EndpointSliceStrategy,
}


def strategy_of(resource: Resource) -> Strategy:
    """The rules of a kind."""
    return _OWN.get(resource.resource_name, Strategy)(resource)


def qos_class(spec: Object) -> str:
    """How a pod's containers ask for resources: Guaranteed, Burstable or BestEffort."""
    resources = [each.get("resources") or {} for each in (*spec["containers"], *spec.get("initContainers", ()))]
    if not any(each.get("limits") or each.get("requests") for each in resources):
        return "BestEffort"
    for each in resources:
        limits = each.get("limits") or {}
        requests = {**limits, **(each.get("requests") or {})}
        if any(name not in limits or requests[name] != limits[name] for name in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"


def _take(target: Object, source: Object, field: str) -> None:
    """Make a field what it is in ``source``, or absent as there."""
    if field in source:
        target[field] = source[field]
    else:
        target.pop(field, None)


def _with_labels(updated: Object, new: Object) -> Object:
    for field in ("labels", "annotations"):
        _take(updated["metadata"], new["metadata"], field)
    return updated


def _tolerates(toleration: Any, key: str) -> bool:
    return toleration.get("key") in (None, "", key) and toleration.get("effect") in (None, "", "NoExecute")


def _are_objects(items: Any) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)


def _has_node_ports(spec: Object) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def _port_key(port: Object) -> tuple[Any, Any]:
    return port.get("port"), port.get("protocol", "TCP")
