"""The wire is tested on asyncio's own loop and on uvloop: they differ in how they accept and close."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from wire_tools import Certificates, Wires, open_wires


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories = {"asyncio": asyncio.new_event_loop}
    if item.path.name == "test_tcp_mutants.py":
        return factories  # That a test sees a mutant need not be shown twice.
    try:
        import uvloop
    except ImportError:
        return factories
    return {**factories, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    async with open_wires() as wires:
        yield wires


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of an authority that nobody here trusts."""
    return Certificates.make(tmp_path_factory.mktemp("strangers"), "another ca")
