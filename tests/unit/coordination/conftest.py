"""Nodes on one memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from coordination_place import Place


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    yield place
    for node in place.nodes:
        await node.close()
    await place.store.close()
