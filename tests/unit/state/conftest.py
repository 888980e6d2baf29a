"""A memory store, and a context in which the handles find it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from coterie.context import CURRENT, Call
from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.state import MapBinding, StrongMap, Transactional, TransactionBinding


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore(clock=SystemClock())
    yield store
    await store.close()


class Home:
    """Binds maps to a store, as a node does."""

    def __init__(self, store: Any) -> None:
        self.bindings: dict[object, Any] = {}
        self.use(store)

    def use(self, store: Any) -> None:
        self.store = store
        self.bindings[Transactional] = TransactionBinding(store=store, entropy=SystemEntropy())
        for declared in [key for key in self.bindings if isinstance(key, StrongMap)]:
            self.add(declared)

    def add(self, declared: StrongMap[Any]) -> StrongMap[Any]:
        self.bindings[declared] = MapBinding(
            store=self.store, prefix=f"app/map/{declared.name}/", entropy=SystemEntropy()
        )
        return declared


@pytest.fixture
def home(store: MemoryStore) -> Home:
    return Home(store)


@pytest.fixture
def numbers(home: Home) -> StrongMap[int]:
    return home.add(StrongMap("numbers", int))


@pytest.fixture(autouse=True)
def _inside(home: Home) -> None:
    # Fixtures that are not async share the test's context only if the test sets it: done here by
    # setting it for the whole thread, which ends with the test.
    CURRENT.set(Call("test", home.bindings))
