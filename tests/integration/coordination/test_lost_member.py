"""Locks and elections go on, exclusively, when the engine loses the member that leads it."""

from __future__ import annotations

import pytest
from workers import check_increments, worker

from coterie import lab

STORES = {"etcd": None, "nats": "coterie-store"}
"""What is led where the program's state is: with NATS each stream has a leader of its own."""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("what", ["lock", "lead"])
async def test_no_increment_is_lost_with_the_leader_of_the_engine(what: str, name: str) -> None:
    async with (
        lab.start(name, members=3) as cluster,
        worker(cluster.url, what) as first,
        worker(cluster.url, what) as second,
    ):
        await first.more("wrote")
        await second.more("wrote")
        leader = await cluster.leader(of=STORES[name])
        await cluster.kill(leader)
        for each in (first, second):
            await each.more("wrote")
            await each.more("wrote")
        await cluster.restart(leader)
        await first.more("wrote")
        for each in (first, second):
            await each.end()
        await check_increments(cluster.url, first, second)
