"""Nodes on one memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from coordination_place import Place

from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    store = MemoryStore(clock=SystemClock())
    place = Place(store)
    yield place
    await place.close()
    await store.close()
