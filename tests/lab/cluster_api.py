"""A lab's API as a test sees it from the host: plain HTTPS with what the kubeconfig says, none of our own client."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import yaml
from running_lab import RunningLab, mininetes
from waiting import wait_until

MERGE = "application/merge-patch+json"


class Refused(Exception):
    """The API server's Status: ``code`` and ``status``."""

    def __init__(self, code: int, status: dict[str, Any]) -> None:
        super().__init__(f"{code} {status.get('reason')}: {status.get('message')}")
        self.code = code
        self.status = status


class ClusterApi:
    """Requests by path; objects as dicts."""

    def __init__(self, lab: RunningLab) -> None:
        done = mininetes("kubeconfig", lab.name)
        assert done.status == 0, done
        facts = yaml.safe_load(done.stdout)
        cluster = facts["clusters"][0]["cluster"]
        self.server = cluster["server"]
        self.token = facts["users"][0]["user"]["token"]
        self.tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """One request; what it answers, decoded. Raises Refused."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind, "Accept": "application/json"}
        asked = urllib.request.Request(self.server + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=20, context=self.tls) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as failed:
            raise Refused(failed.code, json.load(failed)) from None

    def get(self, path: str) -> Any:
        """Read an object or a list."""
        return self.request("GET", path)

    def items(self, path: str) -> dict[str, dict[str, Any]]:
        """A list's objects by name."""
        return {each["metadata"]["name"]: each for each in self.get(path)["items"]}

    def create(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        """Create an object in a collection."""
        made: dict[str, Any] = self.request("POST", path, obj)
        return made

    def wait(self, path: str, holds: Callable[[Any], Any], what: str, *, within_s: float = 20.0) -> Any:
        """Read until it is as asked for, and return it. A refusal (such as 404) counts as None."""

        def look() -> Any:
            try:
                found = self.get(path)
            except Refused:
                found = None
            return (found,) if holds(found) else None

        return wait_until(look, what, within_s=within_s, every_s=0.05)[0]

    def ready_pods(self, namespace: str = "default", labels: str = "") -> dict[str, dict[str, Any]]:
        """The ready pods of a namespace by name."""
        selector = f"?labelSelector={labels}" if labels else ""
        return {
            name: pod
            for name, pod in self.items(f"/api/v1/namespaces/{namespace}/pods{selector}").items()
            if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        }

    def endpoints(self, service: str, namespace: str = "default") -> set[str]:
        """The addresses of a service's ready endpoints."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        found = self.get(f"{path}?labelSelector=kubernetes.io/service-name={service}")
        return {
            address
            for piece in found["items"]
            for endpoint in piece["endpoints"] or []
            if endpoint.get("conditions", {}).get("ready", True)
            for address in endpoint["addresses"]
        }


def is_ready(obj: dict[str, Any] | None) -> bool:
    """Whether a pod or node has the condition Ready."""
    conditions = (obj or {}).get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def deployment(name: str, replicas: int, port: int = 8080, **spec: Any) -> dict[str, Any]:
    """A deployment of responders with the label app=NAME."""
    container = {"name": "web", "image": "responder", "ports": [{"containerPort": port}]}
    pod = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **spec}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod},
    }


def service(name: str, port: int = 80, target: int = 8080, **spec: Any) -> dict[str, Any]:
    """A service in front of the pods with the label app=NAME."""
    ports = [{"port": port, "targetPort": target}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }
