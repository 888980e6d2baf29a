"""A watch whose commits are larger than what it reads at once."""

from __future__ import annotations

from postgres_tools import create, engine_at

from coterie import lab
from coterie.ports.store import Commit, Put

ENTRIES = 1500
EACH = 100


async def test_a_lease_may_end_with_more_entries_than_are_read_at_once() -> None:
    async with lab.start("postgres") as cluster, engine_at(cluster.url) as engine:
        store = engine.store
        lease = await store.grant(60)
        for first in range(0, ENTRIES, EACH):
            numbers = range(first, first + EACH)
            await store.commit(Commit(tuple(Put(f"held/{number:04}", b"", lease) for number in numbers)))
        async with store.watch("") as watch:
            there = {change.key for change in (await anext(watch)).changes}
            assert len(there) == ENTRIES
            await store.commit(create("before"))
            await store.revoke(lease)
            await store.commit(create("after"))
            while "after" not in there:
                batch = await anext(watch)
                if batch.snapshot:
                    there.clear()
                there.difference_update(change.key for change in batch.changes)
                there.update(change.key for change in batch.changes if change.value is not None)
                assert len(there - {"before", "after"}) in {0, ENTRIES}, "a part of a commit"
            assert there == {"before", "after"}
