"""A gateway that listens on loopback, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import pytest
from gateway_sample import Raw, SampleBackend, Serve, SystemClock

from coterie.gateway import GatewayConfig, HttpServer


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that a node would use; what hangs on how a loop accepts and closes, on both."""
    plain = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return plain
    fast = {"uvloop": uvloop.new_event_loop}
    return {**plain, **fast} if item.path.name == "test_http_drain.py" else fast


@pytest.fixture
def backend() -> SampleBackend:
    return SampleBackend()


@pytest.fixture
async def serve(backend: SampleBackend) -> AsyncIterator[Serve]:
    """Start a server with the given configuration; it is closed after the test."""
    servers = []

    async def start(**options: Any) -> HttpServer:
        config = GatewayConfig(**{"address": "127.0.0.1:0", **options})
        server = HttpServer(backend, config, clock=SystemClock())
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def server(serve: Serve) -> HttpServer:
    return await serve()


@pytest.fixture
async def client(server: HttpServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{server.address}", timeout=20) as client:
        yield client


@pytest.fixture
async def raw(server: HttpServer) -> AsyncIterator[Raw]:
    connection = await Raw.connect(server)
    yield connection
    await connection.close()
