"""A client applies its own message as soon as it knows its place, and every message once."""

from __future__ import annotations

import asyncio

import pytest
from nats_kit import open_nats

from coterie import lab
from coterie.engines.nats import NatsEngine
from coterie.errors import Conflict, LeaseLost
from coterie.ports.store import ABSENT, Check, Commit, Put

_EACH = 150


async def _count_up(engine: NatsEngine) -> None:
    """Add 1 to the counter that others count up as well."""
    done = 0
    while done < _EACH:
        entry = await engine.store.get("counter")
        value, version = (int(entry.value), entry.version) if entry else (0, ABSENT)
        try:
            counted = Put("counter", b"%d" % (value + 1))
            await engine.store.commit(Commit((counted,), (), (Check("counter", version),)))
            done += 1
        except Conflict:
            await asyncio.sleep(0)


async def test_clients_that_write_at_once_apply_all_messages_once_and_in_one_order() -> None:
    async with lab.start("nats") as cluster, open_nats(cluster.url) as one, open_nats(cluster.url) as other:
        seen: list[int] = []

        async def follow() -> None:
            async with one.store.watch("counter") as watch:
                async for batch in watch:
                    seen.extend(int(change.value or b"0") for change in batch.changes)
                    if seen and seen[-1] == 3 * _EACH:
                        return

        following = asyncio.create_task(follow())
        await asyncio.gather(*(_count_up(engine) for engine in (one, one, other)))
        await following
        assert seen == sorted(set(seen))
        for engine in (one, other):
            await engine.replica.catch_up()
        assert one.replica.applied == other.replica.applied
        assert one.replica.machine.image() == other.replica.machine.image()
        state = await one.link.state("coterie-store")
        assert one.replica.applied == state["last_seq"]


async def test_leases_end_though_others_were_asked_to_end_together_with_the_first_of_them_before() -> None:
    async with lab.start("nats") as cluster, open_nats(cluster.url) as engine:
        store, replica = engine.store, engine.replica
        first, second, third = [await store.grant(600) for _ in range(3)]
        await store.renew(first)  # In the last moment: it has ended by the clock of who asks.
        await replica._end([(first, 0), (second, 0)])
        with pytest.raises(LeaseLost):
            await store.renew(second)
        await replica._end([(first, 1), (third, 0)])
        for lease in (first, third):
            with pytest.raises(LeaseLost):
                await store.renew(lease)
