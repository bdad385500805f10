"""Service addresses and node ports: each is given to one service only, however many API servers there are.

An allocation is a key of its own in the store (``/registry/allocations/addresses/10.96.0.10``): making
it succeeds once, whichever server tries. It names its service by uid, so a left-over one (a server
died between the two writes) is known as such by the stored services, and is taken back.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from mininetes.apiserver.errors import ApiError, Cause
from mininetes.apiserver.metadata import Object
from mininetes.apiserver.store import KeyExists, KeyMissing, RevisionConflict, Store, Stored

PREFIX = "/registry/allocations/"
LEFT_OVER_S = 30.0
"""A service is stored well within this time after its allocations."""

_RANDOM_TRIES = 6


class Taken(Exception):
    """The one asked for belongs to another service."""


class Full(Exception):
    """None is left."""


@dataclass(frozen=True)
class ServiceRanges:
    """Where service addresses and node ports come from: --service-cluster-ip-range, --service-node-port-range."""

    services: IPv4Network
    node_ports: range

    @property
    def first(self) -> str:
        """The address of the service ``kubernetes``."""
        return str(self.services.network_address + 1)


class Pool:
    """Numbers from ``first`` to ``last``, of which the lowest ``kept`` are given out only when the others are used up.

    Those are for whoever asks for a certain one. ``text`` turns a number into the last part of its key.
    """

    def __init__(self, store: Store, name: str, first: int, last: int, kept: int, text: Callable[[int], str]) -> None:
        self._store = store
        self._prefix = f"{PREFIX}{name}/"
        self._first, self._last = first, last
        self._dynamic = min(first + kept, last)
        self._text = text

    def __contains__(self, number: int) -> bool:
        return self._first <= number <= self._last

    def key(self, number: int) -> str:
        """The key of a number's allocation."""
        return self._prefix + self._text(number)

    async def take(self, number: int, service: Object) -> Stored:
        """Allocate a certain one. Raises Taken."""
        for _ in range(2):
            try:
                return await self._store.create(self.key(number), _claim(service))
            except KeyExists:
                if not await self._take_back(await self._store.get(self.key(number))):
                    break
        raise Taken

    async def take_any(self, service: Object) -> tuple[int, Stored]:
        """Allocate any. Raises Full."""
        for _ in range(_RANDOM_TRIES):
            number = random.randint(self._dynamic, self._last)
            with contextlib.suppress(KeyExists):
                return number, await self._store.create(self.key(number), _claim(service))
        for first, last in ((self._dynamic, self._last), (self._first, self._dynamic - 1)):
            while (free := await self._free(first, last)) is not None:
                with contextlib.suppress(KeyExists):
                    return free, await self._store.create(self.key(free), _claim(service))
        raise Full

    async def would_take(self, number: int) -> None:
        """Raises Taken when `take` would; allocates nothing."""
        allocation = await self._store.get(self.key(number))
        if allocation is not None and not await self._left_over(allocation):
            raise Taken

    async def would_take_any(self) -> int:
        """One that `take_any` might allocate. Raises Full."""
        for first, last in ((self._dynamic, self._last), (self._first, self._dynamic - 1)):
            if (free := await self._free(first, last)) is not None:
                return free
        raise Full

    async def _free(self, first: int, last: int) -> int | None:
        """A free number in the range: the next one up from a random place."""
        page = await self._store.list(self._prefix)
        used = {item.key for item in page.items}
        if len(used) > last - first and await self._take_back_all(page.items):
            used = {item.key for item in (await self._store.list(self._prefix)).items}
        count = last - first + 1
        start = random.randrange(count) if count > 0 else 0
        numbers = (first + (start + step) % count for step in range(count))
        return next((number for number in numbers if self.key(number) not in used), None)

    async def _take_back_all(self, allocations: list[Stored]) -> int:
        return sum([await self._take_back(each) for each in allocations])

    async def _take_back(self, allocation: Stored | None) -> bool:
        """Free a number whose service is not there. Returns whether it is free now."""
        if allocation is None:
            return True
        if not await self._left_over(allocation):
            return False
        with contextlib.suppress(KeyMissing, RevisionConflict):
            await self._store.delete(allocation.key, expected=allocation.revision)
        return True

    async def _left_over(self, allocation: Stored) -> bool:
        """Whether the service that an allocation was made for is not there, and not about to come."""
        if time.time() - float(allocation.value.get("since", 0)) < LEFT_OVER_S:
            return False
        service = await self._store.get(f"/registry/services/{allocation.value['service']}")
        return service is None or bool(service.value["metadata"]["uid"] != allocation.value["uid"])

    async def give_back(self, number: int, uid: str) -> None:
        """Free a number, if it is that service's."""
        allocation = await self._store.get(self.key(number))
        if allocation is not None and allocation.value["uid"] == uid:
            with contextlib.suppress(KeyMissing, RevisionConflict):
                await self._store.delete(allocation.key, expected=allocation.revision)


class Settlement:
    """What is allocated for one write of a service, and what that write no longer uses.

    A ``trial`` only finds out whether it could be done: it writes nothing.
    """

    def __init__(self, store: Store, service: Object, held: list[tuple[Pool, int]], *, trial: bool) -> None:
        self._store = store
        self._service = service
        self._held = held
        self._trial = trial
        self._made: list[Stored] = []
        self._unused: list[tuple[Pool, int]] = []

    async def take(self, pool: Pool, number: int) -> None:
        """Allocate a certain number, unless the service has it. Raises Taken."""
        if (pool, number) in self._held:
            return
        if self._trial:
            await pool.would_take(number)
        else:
            self._made.append(await pool.take(number, self._service))
        self._held.append((pool, number))

    async def take_any(self, pool: Pool, what: str) -> int:
        """Allocate any number. Raises ApiError 500 when none is left."""
        try:
            if self._trial:
                return await pool.would_take_any()
            number, allocation = await pool.take_any(self._service)
        except Full:
            raise ApiError.internal(f"failed to allocate a {what}: range is full") from None
        self._made.append(allocation)
        return number

    def no_longer_used(self, used: list[tuple[Pool, int]]) -> None:
        """Note what is to be freed by `finish`."""
        self._unused = used

    async def undo(self) -> None:
        """The write failed: free what was allocated for it."""
        for each in self._made:
            with contextlib.suppress(KeyMissing, RevisionConflict):
                await self._store.delete(each.key, expected=each.revision)
        self._made = []

    async def finish(self) -> None:
        """The write was done: free what the service used before and does not now."""
        for pool, number in self._unused:
            await pool.give_back(number, self._service["metadata"]["uid"])
        self._unused = []


class ServiceAllocator:
    """Settles the addresses and node ports of services within ``ranges``."""

    def __init__(self, store: Store, ranges: ServiceRanges) -> None:
        self._store = store
        self.ranges = ranges
        network, ports = ranges.services, ranges.node_ports
        first, last = int(network.network_address) + 1, max(int(network.broadcast_address) - 1, 0)
        size = network.num_addresses
        self._addresses = Pool(
            store, "addresses", first, last, min(max(16, size // 16), 256, size // 2), lambda n: str(IPv4Address(n))
        )
        kept = min(max(16, len(ports) // 32), 128, len(ports) // 2)
        self._ports = Pool(store, "nodeports", ports.start, ports.stop - 1, kept, str)

    async def settle(self, new: Object, old: Object | None, *, trial: bool = False) -> Settlement:
        """Fill in what ``new`` needs and does not name, and allocate it and what it names (a ``trial``: not really).

        Raises ApiError 422 for one that is taken or out of range, 500 when none is left; nothing is
        allocated then.
        """
        before = self._used(old) if old is not None else []
        settlement = Settlement(self._store, new, list(before), trial=trial)
        self._drop_unsuitable(new["spec"])
        try:
            # What is named goes first: most refusals then come before anything was written.
            await self._take_named(new, settlement)
            await self._take_missing(new["spec"], settlement)
        except BaseException:
            await settlement.undo()
            raise
        after = self._used(new)
        settlement.no_longer_used([] if trial else [each for each in before if each not in after])
        return settlement

    async def release(self, service: Object) -> None:
        """The service was deleted: free all that it had."""
        for pool, number in self._used(service):
            await pool.give_back(number, service["metadata"]["uid"])

    async def adopt(self) -> None:
        """Make sure that what stored services use is allocated. For the start of a server; may be called any time."""
        for stored in (await self._store.list("/registry/services/")).items:
            for pool, number in self._used(stored.value):
                with contextlib.suppress(Taken):
                    await pool.take(number, stored.value)

    def _used(self, service: Object) -> list[tuple[Pool, int]]:
        """Which numbers of which pool a service has."""
        spec = service["spec"]
        used: list[tuple[Pool, int]] = []
        if (address := _address(spec.get("clusterIP"))) is not None and int(address) in self._addresses:
            used.append((self._addresses, int(address)))
        ports = [port.get("nodePort") for port in spec.get("ports", [])] + [spec.get("healthCheckNodePort")]
        numbers = dict.fromkeys(number for number in ports if number)
        return used + [(self._ports, number) for number in numbers if number in self._ports]

    @staticmethod
    def _drop_unsuitable(spec: Object) -> None:
        """Take out what the service's type has no use for."""
        kind = spec.get("type")
        if kind == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
        if kind not in ("NodePort", "LoadBalancer"):
            for port in spec.get("ports", []):
                port.pop("nodePort", None)
        if not _checks_health(spec):
            spec.pop("healthCheckNodePort", None)

    async def _take_named(self, new: Object, settlement: Settlement) -> None:
        spec = new["spec"]
        wanted = _named_address(spec)
        if wanted and wanted != "None":
            await self._take_address(wanted, new, settlement)
        for index, port in enumerate(spec.get("ports", [])):
            if number := port.get("nodePort"):
                await self._take_port(number, f"spec.ports[{index}].nodePort", new, settlement)
        if number := spec.get("healthCheckNodePort"):
            await self._take_port(number, "spec.healthCheckNodePort", new, settlement)

    async def _take_missing(self, spec: Object, settlement: Settlement) -> None:
        kind, ports = spec.get("type"), spec.get("ports", [])
        if kind != "ExternalName":
            address = _named_address(spec)
            if not address:
                address = str(IPv4Address(await settlement.take_any(self._addresses, "serviceIP")))
            spec["clusterIP"], spec["clusterIPs"] = address, [address]
            spec.setdefault("ipFamilies", ["IPv4"])
            spec.setdefault("ipFamilyPolicy", "SingleStack")
        if kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)):
            # One port for two protocols has one node port, as far as nothing else was asked for.
            by_port = {port["port"]: port["nodePort"] for port in ports if port.get("nodePort")}
            for port in ports:
                if not port.get("nodePort"):
                    if port["port"] not in by_port:
                        by_port[port["port"]] = await settlement.take_any(self._ports, "nodePort")
                    port["nodePort"] = by_port[port["port"]]
        if _checks_health(spec) and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = await settlement.take_any(self._ports, "nodePort")

    async def _take_address(self, wanted: str, new: Object, settlement: Settlement) -> None:
        address = _address(wanted)
        valid = f"The range of valid IPs is {self.ranges.services}"
        why = f"the provided IP ({wanted}) is not in the valid range. {valid}"
        if address is not None and int(address) in self._addresses:
            try:
                return await settlement.take(self._addresses, int(address))
            except Taken:
                why = "provided IP is already allocated"
        message = f'Invalid value: []string{{"{wanted}"}}: failed to allocate IP {wanted}: {why}'
        raise _refused(new, "spec.clusterIPs", message)

    async def _take_port(self, number: int, field: str, new: Object, settlement: Settlement) -> None:
        ports = self.ranges.node_ports
        why = f"provided port is not in the valid range. The range of valid ports is {ports.start}-{ports.stop - 1}"
        if number in self._ports:
            try:
                return await settlement.take(self._ports, number)
            except Taken:
                why = "provided port is already allocated"
        raise _refused(new, field, f"Invalid value: {number}: {why}")


def _named_address(spec: Object) -> str:
    return spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or []), "")


def _checks_health(spec: Object) -> bool:
    """Whether a load balancer asks each node if it has endpoints of its own."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _claim(service: Object) -> Object:
    metadata = service["metadata"]
    return {
        "service": f"{metadata['namespace']}/{metadata['name']}",
        "uid": metadata["uid"],
        "since": time.time(),
    }


def _address(text: str | None) -> IPv4Address | None:
    try:
        return IPv4Address(text) if text and text != "None" else None
    except ValueError:
        return None


def _refused(service: Object, field: str, message: str) -> ApiError:
    return ApiError.invalid("Service", service["metadata"]["name"], [Cause(field, "FieldValueInvalid", message)])
