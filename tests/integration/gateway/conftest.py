"""A gateway that listens on loopback, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from gateway_sample import Raw, SampleBackend, Serve, SystemClock

from coterie.gateway import GatewayConfig, HttpServer


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
