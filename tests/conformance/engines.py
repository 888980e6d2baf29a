"""The engines under test. Adding an engine is one line in the table at the end of its port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from coterie.conformance import StoreFixture
from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock
from coterie.ports import Store

StoreFactory = Callable[[Path], AbstractAsyncContextManager[StoreFixture]]


class SharedStore:
    """`StoreFixture` for a store of one process: every client is the same object."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def connect(self) -> Store:
        return self.store

    async def reopen(self) -> Store:
        raise AssertionError("a store of one process promises nothing about a reopening")


@asynccontextmanager
async def memory_store(_directory: Path) -> AsyncIterator[StoreFixture]:
    store = MemoryStore(clock=SystemClock())
    try:
        yield SharedStore(store)
    finally:
        await store.close()


STORES: dict[str, StoreFactory] = {
    "memory": memory_store,
}
