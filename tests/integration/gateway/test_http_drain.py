"""Stopping: what was accepted is finished, unless there is a hurry."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from gateway_sample import Raw, SampleBackend, Serve, eventually

from coterie.gateway import HttpServer


async def test_drain_finishes_what_was_accepted(server: HttpServer, backend: SampleBackend) -> None:
    held, streaming, idle = [await Raw.connect(server) for _ in range(3)]
    idle.post("/Shop/nothing")
    await idle.reply()
    streaming.post("/Shop/trickle")
    await streaming.reader.readuntil(b"0\n")
    held.post("/Shop/hold")
    await eventually(lambda: server.gateway.running == 2)
    draining = asyncio.create_task(server.drain(30))
    assert await idle.rest() == b""
    with pytest.raises(ConnectionError):
        await Raw.connect(server)
    assert not draining.done()
    backend.shop.release.set()
    status, headers, body = await held.reply()
    assert (status, headers["connection"], body) == (200, "close", b'"released"')
    assert (await streaming.rest()).endswith(b"0\r\n\r\n")
    assert await draining == 0
    for raw in (held, streaming, idle):
        await raw.close()


async def test_a_request_on_its_way_is_answered_and_is_the_last(serve: Serve) -> None:
    server = await serve(linger_s=20)
    known, fresh = [await Raw.connect(server) for _ in range(2)]
    known.post("/Shop/nothing")
    await known.reply()
    await eventually(lambda: len(server._connections()) == 2)
    draining = asyncio.create_task(server.drain(30))
    await eventually(lambda: server._bounds.draining)
    for raw in (known, fresh):
        raw.post("/Shop/nothing")
        status, headers, _ = await raw.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert await raw.rest() == b""
    assert await draining == 0
    for raw in (known, fresh):
        await raw.close()


async def test_connections_in_the_backlog_are_served(serve: Serve) -> None:
    server = await serve(linger_s=20)
    host, _, port = server.address.rpartition(":")
    # The loop does not run between these lines, so only the kernel has accepted the connections.
    waiting = [socket.create_connection((host, int(port))) for _ in range(30)]
    for plain in waiting:
        plain.sendall(b"POST /Shop/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
        plain.setblocking(False)
    draining = asyncio.create_task(server.drain(30))
    loop = asyncio.get_running_loop()
    for plain in waiting:
        assert (await loop.sock_recv(plain, 100)).startswith(b"HTTP/1.1 200")
        plain.close()
    assert await draining == 0


async def test_drain_gives_up_in_time_and_says_so(server: HttpServer, backend: SampleBackend) -> None:
    raw = await Raw.connect(server)
    raw.post("/Shop/hold")
    await backend.shop.entered.wait()
    assert await server.drain(0.05) == 1
    await server.close()
    status, headers, body = await raw.reply()
    assert (status, headers["connection"]) == (503, "close")
    problem = json.loads(body)
    assert (problem["code"], problem["outcome"]) == ("unavailable", "unknown")
    assert backend.shop.cancelled.is_set()
    assert await raw.rest() == b""
    await raw.close()


async def test_hurry_ends_a_drain(server: HttpServer, backend: SampleBackend) -> None:
    held, streaming = [await Raw.connect(server) for _ in range(2)]
    held.post("/Shop/hold")
    streaming.post("/Shop/trickle", headers="Coterie-Timeout: 60\r\n")
    await eventually(lambda: server.gateway.running == 2)
    await streaming.reader.readuntil(b"0\n")
    draining = asyncio.create_task(server.drain(1000))
    await eventually(lambda: server._bounds.draining)
    await server.close()
    await draining
    assert (await held.reply())[0] == 503
    assert b'{"$error":{' in await streaming.rest()
    for raw in (held, streaming):
        await raw.close()


async def test_close_is_idempotent_and_works_without_start(serve: Serve, backend: SampleBackend) -> None:
    server = await serve()
    await server.close()
    await server.close()
    assert await server.drain(1) == 0
    with pytest.raises(ConnectionError):
        await Raw.connect(server)
