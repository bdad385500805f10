"""The API server: HTTPS in front of a registry.

sockets --TLS--> aiohttp --> token --> published document | object | watch | stream to a kubelet
                                                      |
                                                   Registry --> Store
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from mininetes.apiserver import reading, subresources, writing
from mininetes.apiserver.allocators import ServiceRanges
from mininetes.apiserver.bootstrap import bootstrap, keep, live_servers
from mininetes.apiserver.calls import Call, json_response, refusal
from mininetes.apiserver.deletion import DeleteOptions
from mininetes.apiserver.errors import ApiError
from mininetes.apiserver.housekeeping import Housekeeping
from mininetes.apiserver.keepalive import keep_alive
from mininetes.apiserver.kubelets import KUBELET_PORT, Kubelets
from mininetes.apiserver.metrics import Metrics
from mininetes.apiserver.namespaces import Namespaces
from mininetes.apiserver.pki import Pki
from mininetes.apiserver.published import Published, encode_openapi
from mininetes.apiserver.registry import Registry, Selection
from mininetes.apiserver.requests import JSON, form_of, target_of
from mininetes.apiserver.resources import Resource
from mininetes.apiserver.store import Store, StoreUnavailable
from mininetes.apiserver.watches import WatchStream

PORT = 6443
_SHUTDOWN_S = 1.0
_PAUSE_S = 0.5
_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
_OPEN_BELOW = ("/healthz/", "/livez/", "/readyz/")
"""Probes and clients read these without a token, as Kubernetes lets them."""

_NOT_SERVED = {
    "portforward": "port forwarding is not served here: ask the pod's address from a node, as with "
    "`mininetes exec node1 -- curl POD_ADDRESS:PORT`",
}
Verb = Callable[[Registry, Call], Awaitable[web.StreamResponse]]
_OBJECT_VERBS: Mapping[str, Verb] = {
    "GET": reading.get,
    "PUT": writing.update,
    "PATCH": writing.patch,
    "DELETE": writing.delete,
}
_COLLECTION_VERBS: Mapping[str, Verb] = {
    "GET": reading.list_,
    "POST": writing.create,
    "DELETE": writing.delete_collection,
}
_SUBRESOURCE_VERBS: Mapping[tuple[str, str], Verb] = {
    ("status", "GET"): reading.get,
    ("status", "PUT"): writing.update,
    ("status", "PATCH"): writing.patch,
    ("scale", "GET"): subresources.scale,
    ("scale", "PUT"): subresources.scale,
    ("scale", "PATCH"): subresources.scale,
    ("binding", "POST"): subresources.bind,
    ("eviction", "POST"): subresources.evict,
}
_VERB_NAMES = {"POST": "CREATE", "PUT": "UPDATE", "PATCH": "PATCH", "DELETE": "DELETE"}


class Log(Protocol):
    """Where the server writes what happens (an agent's log, for one)."""

    def info(self, message: str, *, v: int = 0, **values: Any) -> None:
        """Write what happened."""

    def error(self, message: str, **values: Any) -> None:
        """Write what went wrong."""


class ApiServer:
    """One kube-apiserver. Several may serve one store; each may be stopped, and another started, at any time.

    ``tokens`` maps tokens to user names, and may grow while the server runs: every user may do
    everything. ``node`` and ``address`` are its node's, ``netns`` that node's namespace, from which
    kubelets are dialled. ``servers`` are the node addresses of all API servers of the cluster.
    """

    def __init__(
        self,
        store: Store,
        *,
        network: ServiceRanges,
        pki: Pki,
        tokens: Mapping[str, str],
        node: str,
        address: str,
        servers: Sequence[str],
        log: Log,
        netns: str | None = None,
        kubelet_token: str = "",
        kubelet_port: int = KUBELET_PORT,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._log = log
        self._address = address
        self._tls = pki.issue_api_server(node, [address, *servers, network.first]).server_context()
        self._namespaces = Namespaces(store)
        self.registry = Registry(store, network, self._namespaces)
        self.metrics = Metrics()
        self._housekeeping = Housekeeping(store)
        self._kubelets = Kubelets(self.registry, ca_pem=pki.ca_pem, token=kubelet_token, netns=netns, port=kubelet_port)
        self._published = Published(f"{address}:{PORT}")
        self._runner: web.ServerRunner | None = None
        self._background: list[asyncio.Task[None]] = []
        self._streams: set[WatchStream] = set()
        self._ready = False

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that listen already; they are the server's from now on, and closed by `stop`.

        Returns once the server answers; it is ready (``/readyz``) when its store answered too.
        """
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None, keepalive_timeout=90.0, handler_cancellation=True),
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        for sock in sockets:
            sock.setblocking(False)
            keep_alive(sock)
            await web.SockSite(self._runner, sock, ssl_context=self._tls, backlog=1024).start()
        loop = asyncio.get_running_loop()
        self._background = [
            loop.create_task(self._prepare()),
            loop.create_task(self._namespaces.run(self._empty)),
            loop.create_task(self._housekeeping.run()),
        ]
        self._log.info("Serving securely", address=self._address, sockets=len(sockets))

    async def stop(self) -> None:
        """Close the sockets, all connections, watches and streams to containers. May be called twice."""
        self._ready = False
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background = []
        for stream in list(self._streams):
            stream.close()
        self._kubelets.end_streams()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
        await self._kubelets.close()

    async def _prepare(self) -> None:
        """Make what every cluster has, and keep it; tried again until the store answers."""
        await asyncio.get_running_loop().run_in_executor(None, encode_openapi)
        while True:
            try:
                await self.registry.services.adopt()
                await bootstrap(self.registry, await live_servers(self._store, self._address))
                self._ready = True
                await keep(self.registry, self._address)
            except (ApiError, StoreUnavailable) as failed:
                self._log.error("Cannot keep the service kubernetes", err=failed)
                await asyncio.sleep(_PAUSE_S)

    async def _empty(self, resource: Resource, namespace: str) -> None:
        await self.registry.delete_all(resource, namespace, Selection(), DeleteOptions())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        started = loop.time()
        path, _, query = request.raw_path.partition("?")
        user = self._user(request)
        target = target_of(path)
        response: web.StreamResponse
        self.metrics.in_flight += 1
        try:
            if target is None:
                response = await self._other(request, path, query, user)
            elif user is None:
                raise ApiError.unauthorized()
            else:
                response = await self._object(Call(request, target, query, user))
        except ApiError as refused:
            response = refusal(refused)
        except StoreUnavailable as failed:
            response = refusal(ApiError.service_unavailable(f"the store does not answer: {failed}"))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as failed:
            self._log.error(
                "Internal error", method=request.method, path=path, err=f"{type(failed).__name__}: {failed}"
            )
            response = refusal(ApiError.internal(f"{type(failed).__name__}: {failed}"))
        finally:
            self.metrics.in_flight -= 1
        verb = _VERB_NAMES.get(request.method, request.method)
        seconds = loop.time() - started
        self.metrics.done(verb, target.resource.plural if target else "", response.status, seconds)
        latency = f"{seconds * 1000:.3f}ms"
        self._log.info("HTTP", v=3, verb=verb, URI=request.raw_path, latency=latency, user=user, resp=response.status)
        return response

    def _user(self, request: web.BaseRequest) -> str | None:
        """Who asks; None when the token is missing or nobody's."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return self._tokens.get(token) if scheme.lower() == "bearer" else None

    async def _object(self, call: Call) -> web.StreamResponse:
        """A request for an object, a collection or a subresource."""
        method = call.request.method
        if call.subresource is not None:
            return await self._below(call, method)
        if call.watches and method == "GET":
            return await self._watch(call)
        verb = (_COLLECTION_VERBS if call.name is None else _OBJECT_VERBS).get(method)
        # Objects of namespaced kinds are made in a namespace; the list over all of them takes no POST.
        if verb is None or (method in ("POST", "DELETE") and call.kind.namespaced and call.namespace is None):
            raise ApiError.method_not_allowed()
        return await (verb(self.registry, call) if method == "GET" else _to_the_end(verb(self.registry, call)))

    async def _below(self, call: Call, method: str) -> web.StreamResponse:
        if call.subresource == "log" and method == "GET":
            return await self._kubelets.logs(call)
        if call.subresource == "exec" and method in ("GET", "POST"):
            return await self._kubelets.exec(call)
        if call.subresource == "attach" and method in ("GET", "POST"):
            return await self._kubelets.attach(call)
        if call.subresource in _NOT_SERVED:
            raise ApiError.method_not_allowed(_NOT_SERVED[call.subresource])
        verb = _SUBRESOURCE_VERBS.get((call.subresource or "", method))
        if verb is None:
            raise ApiError.method_not_allowed()
        return await (verb(self.registry, call) if method == "GET" else _to_the_end(verb(self.registry, call)))

    async def _watch(self, call: Call) -> web.StreamResponse:
        stream = await reading.begin_watch(self.registry, call)
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.enable_chunked_encoding()
        await response.prepare(call.request)
        self._streams.add(stream)
        self.metrics.watches[call.resource.plural] += 1
        self.metrics.in_flight -= 1
        try:
            with contextlib.suppress(ConnectionError):  # the client has gone
                await stream.serve(response)
                await response.write_eof()
        finally:
            self._streams.discard(stream)
            self.metrics.watches[call.resource.plural] -= 1
            self.metrics.in_flight += 1
        return response

    async def _other(self, request: web.BaseRequest, path: str, query: str, user: str | None) -> web.StreamResponse:
        """Everything that is no object: health, documents, metrics."""
        if user is None and path.rstrip("/") not in _OPEN_PATHS and not path.startswith(_OPEN_BELOW):
            raise ApiError.unauthorized()
        if request.method not in ("GET", "HEAD"):
            raise ApiError.no_such_path()
        if path.split("/")[1] in ("healthz", "livez", "readyz"):
            return await self._health(path, "verbose" in query)
        if path == "/metrics":
            return web.Response(text=self.metrics.text(), content_type="text/plain")
        found = self._published.find(path, form_of(request.headers.get("Accept", "")))
        if found is None:
            raise ApiError.no_such_path()
        document, content_type = found
        response = json_response(document)
        response.headers["Content-Type"] = content_type
        return response

    async def _health(self, path: str, verbose: bool) -> web.Response:
        """``/healthz``, ``/livez``, ``/readyz``: the last waits for the store and for what every cluster has."""
        checks = {"ping": True}
        if not path.startswith("/livez"):
            checks["etcd"] = await self._store_answers()
        if path.startswith("/readyz"):
            checks["poststarthook/bootstrap-controller"] = self._ready
        well = all(checks.values())
        name = path.split("/")[1]
        lines = [f"[{'+' if ok else '-'}]{check} {'ok' if ok else 'failed'}" for check, ok in checks.items()]
        if well and not verbose:
            return web.Response(text="ok")
        text = "\n".join([*lines, f"{name} check {'passed' if well else 'failed'}\n"])
        return web.Response(text=text, status=200 if well else 500)

    async def _store_answers(self) -> bool:
        try:
            await self._store.revision()
        except StoreUnavailable:
            return False
        return True


async def _to_the_end(write: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """Do a write even if its client goes meanwhile, which cancels the request: no write is left half done."""
    task = asyncio.ensure_future(write)
    # With nobody left to hear of it, what it raises is not to be called a lost exception.
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return await asyncio.shield(task)
