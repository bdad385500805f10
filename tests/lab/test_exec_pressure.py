"""exec and attach when a side does not do its part: reads nothing, goes, stops, says nonsense. See `kubelet_lab`.

What servers do for clients that pause is in tests/unit/test_exec_streams.py.
"""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from kubelet_lab import KubeletLab, container, run, until
from kubelet_pods import FOREVER, attach, shell, started, stream

NO_SIZES = (
    b'{"Width": 65536, "Height": 33}',
    b'{"Width": 91, "Height": -1}',
    b'{"Width": "x", "Height": []}',
    b"[" * 9999,
)


async def _fill(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Send until nothing goes any more."""
    with contextlib.suppress(asyncio.TimeoutError):
        while True:
            await asyncio.wait_for(socket.send_bytes(b"\x00" + bytes(1 << 17)), 0.5)


def _vanish(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Be gone as a process that is killed."""
    assert socket._conn is not None
    assert socket._conn.transport is not None
    socket._conn.transport.abort()


async def _commands(lab: KubeletLab) -> list[int]:
    """The pids of commands that run beside containers."""
    found = await lab.shim.processes("")
    return [state.pid for name, state in found.items() if "/exec/" in name and state.status is None]


async def _no_command(lab: KubeletLab) -> None:
    async def is_gone() -> bool:
        return not await _commands(lab)

    await until(is_gone, "the command is gone", 10)


async def _gone(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("box", shell(FOREVER, stdin=True))
    await lab.ready("box")
    async with stream(lab, "box", "exec", ["sleep", "100"], stdin=True) as socket:
        await _fill(socket)
        assert await _commands(lab)
        _vanish(socket)
        await _no_command(lab)
    async with stream(lab, "box", "attach", stdin=True) as socket:
        await _fill(socket)
        _vanish(socket)

        async def is_over() -> bool:
            tasks = [task.get_coro() for task in asyncio.all_tasks()]
            return not [coro for coro in tasks if getattr(coro, "__qualname__", "") == "_hear"]

        await until(is_over, "the kubelet serves it no more", 10)
    assert container(await lab.ready("box"))["restartCount"] == 0


def test_a_client_that_goes_while_it_is_held_back() -> None:
    run(_gone)


async def _stops(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("box", shell(FOREVER, stdin=True))
    await lab.ready("box")
    async with (
        stream(lab, "box", "exec", ["sleep", "100"], stdin=True) as executes,
        stream(lab, "box", "attach", stdin=True) as attached,
    ):
        for socket in (executes, attached):
            assert (await socket.receive(5)).data == b"\x01"
        reading = [asyncio.create_task(socket.receive(5)) for socket in (executes, attached)]
        await asyncio.wait_for(lab.stop_api(), 4)
        for message in await asyncio.gather(*reading):
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
        await _no_command(lab)
    await lab.start_api()


def test_streams_end_with_the_api_server() -> None:
    run(_stops)


async def _sizes(lab: KubeletLab) -> None:
    await started(lab)
    await lab.create("box", shell("exec sh", stdin=True, tty=True))
    await lab.ready("box")
    for action, command in (("exec", ["sh"]), ("attach", [])):
        async with stream(lab, "box", action, command, stdin=True, tty=True) as socket:
            await socket.send_bytes(b'\x04{"Width": 91, "Height": 33}')
            for size in NO_SIZES:
                await socket.send_bytes(b"\x04" + size)
            await socket.send_bytes(b"\x00stty size; echo e''nd\n")
            said = b""
            while b"end\r\n" not in said:
                message = await socket.receive(5)
                assert message.type == aiohttp.WSMsgType.BINARY, (action, message, said)
                said += message.data[1:]
            assert b"33 91\r\n" in said


def test_what_is_no_size_of_a_terminal_does_nothing() -> None:
    run(_sizes)


async def _unheard(lab: KubeletLab) -> None:
    await started(lab)
    script = "cat; echo done; exit 3"
    for name, fields in (("pipes", {"stdinOnce": True}), ("terminal", {"tty": True})):
        await lab.create(name, shell(script, stdin=True, **fields), restartPolicy="Never")
        await lab.ready(name)
        talk = attach(lab, name, stdin=b"x\n" * 50_000 + b"\n\x04", hears=False)
        assert await asyncio.wait_for(talk, 15) == ("", 0)
        ended = await lab.when(name, lambda pod: pod["status"]["phase"] == "Failed", "ended")
        assert container(ended)["state"]["terminated"]["exitCode"] == 3
        assert "done\n" in (await lab.logs(name)).replace("\r", "")


def test_a_client_that_only_speaks_hears_the_containers_end() -> None:
    run(_unheard)
