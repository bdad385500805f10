"""What every namespace has: the CA's certificate for pods, and the service account `default`."""

from __future__ import annotations

from typing import ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.objects import Object, is_deleted
from mininetes.apiserver.errors import ApiError

CONFIGMAP = "kube-root-ca.crt"
SERVICE_ACCOUNT = "default"
_DESCRIPTION = "kubernetes.io/description"


def root_ca(namespace: str, ca_pem: str) -> Object:
    """The ConfigMap with the CA's certificate. Pure."""
    said = "The certificate of the lab's own CA, with which the API server's can be verified."
    metadata = {"name": CONFIGMAP, "namespace": namespace, "annotations": {_DESCRIPTION: said}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": ca_pem}}


def default_account(namespace: str) -> Object:
    """The service account that pods have unless they name another. Pure."""
    metadata = {"name": SERVICE_ACCOUNT, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


class NamespaceFurniture(Controller):
    """Makes both in each namespace, and makes them anew when they are deleted or changed."""

    name: ClassVar[str] = "root-ca-certificate-publisher"
    workers: ClassVar[int] = 2

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._namespaces = self.watch("namespaces")
        self._configmaps = shared.informer("configmaps")
        self._accounts = shared.informer("serviceaccounts")
        self._configmaps.on_change(lambda _, old, new: self._changed(CONFIGMAP, new or old))
        self._accounts.on_change(lambda _, old, new: self._changed(SERVICE_ACCOUNT, new or old))

    async def sync(self, key: str) -> float | None:
        """Furnish one namespace."""
        namespace = self._namespaces.get(key)
        if namespace is None or is_deleted(namespace):
            return None
        if f"{key}/{SERVICE_ACCOUNT}" not in self._accounts.items:
            await self._create("serviceaccounts", default_account(key))
        ca_pem = self.shared.settings.ca_pem
        if not ca_pem:
            return None
        there = self._configmaps.items.get(f"{key}/{CONFIGMAP}")
        if there is None:
            await self._create("configmaps", root_ca(key, ca_pem))
        elif there.get("data") != {"ca.crt": ca_pem}:
            await self.client.update("configmaps", {**there, "data": {"ca.crt": ca_pem}})
        return None

    async def _create(self, resource: str, obj: Object) -> None:
        try:
            await self.client.create(resource, obj)
        except ApiError as refused:
            if refused.reason != "AlreadyExists" and refused.code not in (403, 404):  # the namespace is ending
                raise

    def _changed(self, name: str, obj: Object | None) -> None:
        if obj is not None and obj["metadata"]["name"] == name:
            self.queue.add(obj["metadata"]["namespace"])
