"""The control socket: what commands on the host ask of a running engine. One JSON object a line, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import select
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from mininetes.errors import BadInput, MininetesError
from mininetes.probes.latency import summarise
from mininetes.probes.pacing import Pacing
from mininetes.probes.ports import PortOptions
from mininetes.probes.reachability import SweepOptions
from mininetes.probes.service_asking import AskOptions
from mininetes.testbed import asking_service, measuring, networks_control
from mininetes.testbed.agent_tasks import AgentTasks
from mininetes.testbed.blueprint import PodPlan
from mininetes.testbed.membership import Membership
from mininetes.testbed.testbed import Testbed

log = logging.getLogger("mininetes")

Request = dict[str, Any]
Answer = dict[str, Any]


async def _status(testbed: Testbed, _: Request) -> Answer:
    return testbed.status()


async def _drift(testbed: Testbed, _: Request) -> Answer:
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(None, testbed.drift)
    return {"drift": {host: [str(change) for change in changes] for host, changes in found.items()}}


async def _reachability(testbed: Testbed, request: Request) -> Answer:
    options = SweepOptions(attempts=request["attempts"], timeout_s=request["timeout_s"])
    matrix = await measuring.reachability(testbed, protocol=request["protocol"], options=options)
    return matrix.packed()


async def _latency(testbed: Testbed, request: Request) -> Answer:
    pacing = Pacing(request["interval_s"], request["count"], request["payload_bytes"])
    samples = await measuring.latency(testbed, pacing)
    return {"summaries": [summary.row() for summary in summarise(samples)]}


async def _ports(testbed: Testbed, request: Request) -> Answer:
    from mininetes.testbed import ports  # noqa: PLC0415 - the control plane's libraries, which every lab would wait for

    report = await ports.measure(testbed, PortOptions(timeout_s=request["timeout_s"]))
    return {"rows": report.rows()}


async def _truth_table(testbed: Testbed, request: Request) -> Answer:
    from mininetes.testbed import truth  # noqa: PLC0415 - as above
    from mininetes.testbed.flow_checks import checked_flows  # noqa: PLC0415
    from mininetes.testbed.proxying import ProxyProgram, proxy_mode  # noqa: PLC0415

    options = AskOptions(request["connections"], request["timeout_s"])
    flows = checked_flows(request.get("flows", ()))
    modes = truth.known_modes(request["modes"], proxy_mode(testbed.spec))
    programs = [ProxyProgram(tuple(each["argv"]), each["title"]) for each in request.get("programs", ())]
    wanted = truth.Wanted(request["services"], modes, programs, options, flows)
    return (await truth.truth_table(testbed, wanted)).as_json()


def _tasks(testbed: Testbed) -> AgentTasks:
    if not testbed.tasks.names():
        raise BadInput("agents", None, "a lab with a control plane (this one has controlPlane: {store: none})")
    return testbed.tasks


async def _agents(testbed: Testbed, _: Request) -> Answer:
    return {"agents": _tasks(testbed).rows()}


async def _agent(testbed: Testbed, request: Request) -> Answer:
    tasks, node, name = _tasks(testbed), request["node"], request["name"]
    if request["verb"] in ("stop", "restart"):
        await tasks.stop(node, name)
    if request["verb"] in ("start", "restart"):
        tasks.start(node, name)
    return {}


def _membership(testbed: Testbed) -> Membership:
    if testbed.membership is None:
        raise MininetesError(f"lab {testbed.spec.name} is not up yet")
    return testbed.membership


async def _node_add(testbed: Testbed, request: Request) -> Answer:
    name = await _membership(testbed).add(request.get("name"))
    return {"name": name, "host": next(host for host in testbed.status()["hosts"] if host["name"] == name)}


async def _node_rm(testbed: Testbed, request: Request) -> Answer:
    return dataclasses.asdict(await _membership(testbed).remove(request["name"]))


async def _graph(testbed: Testbed, request: Request) -> Answer:
    from mininetes.testbed import graph  # noqa: PLC0415 - few labs are drawn

    pods = tuple(PodPlan(pod.title, pod.node, 0) for pod in testbed.pods())
    return {"text": graph.FORMATS[request["format"]](dataclasses.replace(testbed.blueprint, pods=pods))}


_OPERATIONS: dict[str, Callable[[Testbed, Request], Awaitable[Answer]]] = {
    "status": _status,
    "drift": _drift,
    "graph": _graph,
    "agents": _agents,
    "agent": _agent,
    "reachability": _reachability,
    "latency": _latency,
    "ports": _ports,
    "truth-table": _truth_table,
    "ask-service": asking_service.ask_service,
    "node-add": _node_add,
    "node-rm": _node_rm,
    **networks_control.OPERATIONS,
}


def answering(testbed: Testbed) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """The handler of one connection: answers requests until the client goes.

    The work for one that goes for good before its answer ends, so that what waits behind it starts.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with _hangup_of(writer.get_extra_info("socket")) as hangup:
                while line := await reader.readline():
                    work = asyncio.ensure_future(_answer(testbed, line))
                    either: set[asyncio.Future[Any]] = {work, hangup}
                    try:
                        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        work.cancel()  # does nothing when it is done
                    if hangup.done():
                        await asyncio.wait({work})
                        raise ConnectionAbortedError("it did not wait for its answer")
                    writer.write(json.dumps(work.result()).encode() + b"\n")
                    await writer.drain()
        except (ConnectionError, ValueError) as gone:
            log.info("a client of the control socket went, or sent a line that is too long: %s", gone)
        finally:
            writer.close()

    return serve


@contextlib.contextmanager
def _hangup_of(client: socket.socket) -> Iterator[asyncio.Future[None]]:
    """A future that is done when the client has closed its socket for good, and pending while it can still be answered.

    The end of what it sends is no sign of that: a client may close only that half and wait. The kernel tells the two
    apart by EPOLLHUP, which asyncio does not pass on; so an epoll of our own waits for that alone.
    """
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    with select.epoll() as watch:
        watch.register(client.fileno(), 0)  # EPOLLHUP is always told

        def hear() -> None:
            loop.remove_reader(watch.fileno())
            if not gone.done():
                gone.set_result(None)

        loop.add_reader(watch.fileno(), hear)
        try:
            yield gone
        finally:
            loop.remove_reader(watch.fileno())
            gone.cancel()


def _check_up(testbed: Testbed, operation: str) -> None:
    """Raises MininetesError before the lab is up, also where it never will be (`up --keep`); of its nodes it tells.

    So people can look into them.
    """
    if testbed.ready_s is None and (testbed.net is None or operation != "status"):
        further = "" if testbed.net is None else "; exec and shell reach its nodes already"
        raise MininetesError(f"lab {testbed.spec.name} is not up yet{further}")


async def _answer(testbed: Testbed, line: bytes) -> Answer:
    try:
        request = json.loads(line)
        work = _OPERATIONS[request["op"]]
        _check_up(testbed, request["op"])
        return await work(testbed, request)
    except MininetesError as failed:
        return {"error": str(failed), "status": failed.exit_status}
    except (ValueError, KeyError, TypeError) as wrong:
        return {"error": f"request: {type(wrong).__name__}: {wrong}", "status": BadInput.exit_status}
    except OSError as failed:
        return {"error": str(failed), "status": 1}
