"""Every test of services runs in each place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from service_place import PLACES, Place, open_place


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that a node would use."""
    try:
        import uvloop
    except ImportError:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with open_place(request.param) as place:
        yield place


@pytest.fixture(params=PLACES[1:])
async def far(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A place behind a wire."""
    async with open_place(request.param) as place:
        yield place
