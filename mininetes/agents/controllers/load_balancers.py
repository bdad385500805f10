"""Addresses of services of type LoadBalancer, from a pool: what a cloud's controller or MetalLB does elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any, ClassVar

from mininetes.agents.controllers.controller import Controller, Shared
from mininetes.agents.objects import Object, is_deleted
from mininetes.errors import MininetesError


class NoAddress(MininetesError):
    """There is no address for a service; the text says why."""


def choose_address(wanted: str, pool: IPv4Network, taken: Iterable[IPv4Address]) -> IPv4Address:
    """The address that was asked for, else the pool's first free one. Raises NoAddress. Pure.

    The pool's first and last address are given out to nobody, if it has more than two.
    """
    used = set(taken)
    if wanted:
        try:
            address = IPv4Address(wanted)
        except AddressValueError:
            raise NoAddress(f"spec.loadBalancerIP: {wanted!r} is no IPv4 address") from None
        if address not in pool:
            raise NoAddress(f"spec.loadBalancerIP: {wanted} is outside of the pool {pool}")
        if address in used:
            raise NoAddress(f"spec.loadBalancerIP: {wanted} belongs to another service")
        return address
    free = next((each for each in pool.hosts() if each not in used), None)
    if free is None:
        raise NoAddress(f"the pool {pool} has no address left")
    return free


def addresses_of(service: Mapping[str, Any]) -> list[IPv4Address]:
    """The addresses in the service's status."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [IPv4Address(each["ip"]) for each in ingress if each.get("ip") and ":" not in each["ip"]]


def is_ours(service: Mapping[str, Any]) -> bool:
    """Whether the service is to have an address of the pool: no class of load balancers of its own, not going."""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and not is_deleted(service)


class LoadBalancers(Controller):
    """Gives out addresses and takes them back; one that a service has it keeps."""

    name: ClassVar[str] = "service-lb"
    workers: ClassVar[int] = 1  # no two services get the same address

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._services = self.watch("services")
        self._given: dict[str, IPv4Address] = {}
        self._refused: set[str] = set()
        shared.informer("services").on_change(self._freed)

    async def sync(self, key: str) -> float | None:
        """Give one service its address, or take it back."""
        service = self._services.get(key)
        pool = self.shared.settings.load_balancers
        if service is None or pool is None or not is_ours(service):
            self._given.pop(key, None)
            self._refused.discard(key)
            if service is not None and addresses_of(service) and service["spec"].get("type") != "LoadBalancer":
                await self._tell(key, service, {})
            return None
        wanted = service["spec"].get("loadBalancerIP") or ""
        has = addresses_of(service)
        if has and (str(has[0]) == wanted or (not wanted and has[0] in pool)):
            self._given.pop(key, None)
            return None
        try:
            address = choose_address(wanted, pool, self._taken(key))
        except NoAddress as none:
            self._refused.add(key)
            message = f"Error syncing load balancer: failed to ensure load balancer: {none}"
            self.shared.events.record(service, "Warning", "SyncLoadBalancerFailed", message)
            if has:
                await self._tell(key, service, {})
            return None
        self._given[key] = address
        self._refused.discard(key)
        await self._tell(key, service, {"ingress": [{"ip": str(address), "ipMode": "VIP"}]})
        self.shared.events.record(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        self.log.info("Ensured load balancer", service=key, ingress=str(address))
        return None

    def _taken(self, key: str) -> list[IPv4Address]:
        """What others have: by their status, or given to them so lately that it is not seen there yet."""
        shown = [
            address
            for other, service in self._services.items()
            if other != key and service["spec"].get("type") == "LoadBalancer"
            for address in addresses_of(service)
        ]
        return [*shown, *(address for other, address in self._given.items() if other != key)]

    async def _tell(self, key: str, service: Object, load_balancer: Object) -> None:
        status = {**(service.get("status") or {}), "loadBalancer": load_balancer}
        changed = await self.client.update("services", {**service, "status": status}, subresource="status")
        self.expectations.written(key, self._services, changed)

    def _freed(self, _: str, old: Object | None, new: Object | None) -> None:
        """Whatever address a service gives back may be one that another waits for."""
        if old is not None and (new is None or addresses_of(old) != addresses_of(new) or is_ours(old)):
            for key in self._refused:
                self.queue.add(key)
