"""Small programs, each with what it declares in order or one thing wrong."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from uuid import uuid4

from coterie import App, CoterieError, Transaction, idempotency_key, idempotent

idle = App("idle")

# Counts in one step: nothing is wrong.
right = App("right")
_right = right.map("counts", int)


@right.workload(clients=2, pause_s=0.2)
async def adds() -> None:
    await _right.update("a", lambda value: value + 1, default=0)


@right.always
def trivial() -> bool:
    return True


# What it promises can be seen at the end only.
hopeful = App("hopeful")
_hopes = hopeful.map("counts", int)


@hopeful.workload
async def hopes() -> None:
    await _hopes.update("a", lambda value: value + 1, default=0)


@hopeful.eventually
async def something_came_of_it() -> bool:
    return await _hopes.get("a", 0) > 0


# Reads, and then writes: two clients at once lose an update.
torn = App("torn")
_torn = torn.map("counts", int)
_added = torn.map("added", int)


@torn.workload(clients=2, pause_s=0.1)
async def adds_slowly(number: int) -> None:
    await _torn.put("a", await _torn.get("a", 0) + 1)
    await _added.update(str(number), lambda value: value + 1, default=0)


@torn.eventually(within_s=5)
async def nothing_is_lost() -> bool:
    return await _torn.get("a", 0) == sum([item.value async for item in _added.scan()])


# A client that waits for what never comes.
stuck = App("stuck")


@stuck.workload
async def waits() -> None:
    await asyncio.Event().wait()


# A workload without an end of its own, which nevertheless gets its answers.
endless = App("endless")
_endless = endless.map("counts", int)


@endless.workload
async def counts() -> None:
    for number in count():
        await _endless.put("a", number)
        await asyncio.sleep(0.5)


# A workload with a bug.
faulty = App("faulty")


@faulty.workload
async def divides() -> None:
    await asyncio.sleep(1)
    _ = 1 // 0


# Two entries that only transactions keep equal.
pairs = App("pairs")
_pairs = pairs.map("pairs", int)


@pairs.transactional
async def both(txn: Transaction) -> int:
    one, other = await txn.get(_pairs, "one", 0), await txn.get(_pairs, "other", 0)
    txn.put(_pairs, "one", one + 1)
    txn.put(_pairs, "other", other + 1)
    return one - other


@pairs.workload(clients=2, pause_s=0.2)
async def moves() -> None:
    assert await both() == 0


@pairs.always
async def the_same() -> None:
    assert await _pairs.get("one", 0) == await _pairs.get("other", 0)


# An idempotent method, whose calls are repeated with one key until there is a reply, and once more.
keyed = App("keyed")
_spent = keyed.map("spent", int)


@keyed.service
class Till:
    @idempotent
    async def spend(self, purse: str) -> str:
        await _spent.update(purse, lambda value: value + 1, default=0)
        return uuid4().hex


_till = keyed.client(Till)


@keyed.workload(clients=3, pause_s=0.3)
async def spends(number: int) -> None:
    replies: list[str] = []
    with idempotency_key(f"{number}-{uuid4().hex}"):
        while len(replies) < 2:
            try:
                replies.append(await _till.spend(f"purse {number}"))
            except CoterieError:
                await asyncio.sleep(random.random())
