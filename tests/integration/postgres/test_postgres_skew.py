"""Write skew: PostgreSQL at REPEATABLE READ lets it through, a commit of ours with what it read does not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from postgres_tools import engine_at

from coterie import lab
from coterie.errors import Conflict
from coterie.history import Recorder, Verdict, check
from coterie.ports.store import ABSENT, Check, Commit, Put, Store

Read = Callable[[], Awaitable[list[int]]]
Append = Callable[[], Awaitable[None]]


class Transactions:
    """Two at once, each of which reads the list that the other appends to; then one that reads both."""

    def __init__(self) -> None:
        ticks = itertools.count()
        self.recorder = Recorder(lambda: next(ticks))

    def invoke(self, who: str, *steps: list[Any]) -> None:
        self.recorder.invoke(who, "txn", value=[list(step) for step in steps])

    async def skew(self, first: tuple[Read, Append], second: tuple[Read, Append]) -> None:
        """Let both read before either appends."""
        self.invoke("first", ["r", "x", None], ["append", "y", 1])
        self.invoke("second", ["r", "y", None], ["append", "x", 2])
        xs, ys = await first[0](), await second[0]()
        for who, append, value in (
            ("first", first[1], [["r", "x", xs], ["append", "y", 1]]),
            ("second", second[1], [["r", "y", ys], ["append", "x", 2]]),
        ):
            try:
                await append()
            except (Conflict, asyncpg.SerializationError) as error:
                self.recorder.fail(who, str(error))
            else:
                self.recorder.ok(who, value)

    def verdict(self, xs: list[int], ys: list[int]) -> Verdict:
        """Judge, given what both lists are in the end."""
        self.invoke("last", ["r", "x", None], ["r", "y", None])
        self.recorder.ok("last", [["r", "x", xs], ["r", "y", ys]])
        return check(self.recorder.history, "append", isolation="serializable")


class RawTransaction:
    """One by the plain client, at an isolation level."""

    def __init__(self, connection: Any, isolation: str, reads: str, appends: str, element: int) -> None:
        self.connection = connection
        self.reads, self.appends, self.element = reads, appends, element
        self.transaction = connection.transaction(isolation=isolation)

    async def read(self) -> list[int]:
        await self.transaction.start()
        return await raw_list(self.connection, self.reads)

    async def append(self) -> None:
        await self.connection.execute(
            "UPDATE lists SET elements = elements || $2::int WHERE name = $1", self.appends, self.element
        )
        await self.transaction.commit()


async def raw_list(connection: Any, name: str) -> list[int]:
    return list(await connection.fetchval("SELECT elements FROM lists WHERE name = $1", name))


@pytest.mark.parametrize(("isolation", "anomaly"), [("repeatable_read", "G2"), ("serializable", "")])
async def test_the_plain_client(isolation: str, anomaly: str) -> None:
    async with lab.start("postgres") as cluster:
        first, second = await asyncpg.connect(cluster.url), await asyncpg.connect(cluster.url)
        try:
            await first.execute("CREATE TABLE lists (name text PRIMARY KEY, elements int[] NOT NULL)")
            await first.execute("INSERT INTO lists VALUES ('x', '{}'), ('y', '{}')")
            one = RawTransaction(first, isolation, "x", "y", 1)
            other = RawTransaction(second, isolation, "y", "x", 2)
            both = Transactions()
            await both.skew((one.read, one.append), (other.read, other.append))
            await second.execute("ROLLBACK") if second.is_in_transaction() else None
            assert both.verdict(await raw_list(first, "x"), await raw_list(first, "y")).anomaly == anomaly
        finally:
            await asyncio.gather(first.close(), second.close())


class OurTransaction:
    """One on our Store: it commits if what it read is still so."""

    def __init__(self, store: Store, reads: str, appends: str, element: int) -> None:
        self.store = store
        self.reads, self.appends, self.element = reads, appends, element
        self.checks: list[Check] = []

    async def read(self) -> list[int]:
        return await self._look(self.reads)

    async def _look(self, name: str) -> list[int]:
        entry = await self.store.get(name)
        self.checks.append(Check(name, entry.version if entry else ABSENT))
        return list(entry.value) if entry else []

    async def append(self) -> None:
        elements = bytes([*await self._look(self.appends), self.element])
        await self.store.commit(Commit((Put(self.appends, elements),), (), tuple(self.checks)))


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
async def test_our_store_on_a_server_of_any_isolation(isolation: str) -> None:
    settings = {"default_transaction_isolation": isolation}
    async with (
        lab.start("postgres", settings=settings) as cluster,
        engine_at(cluster.url) as first,
        engine_at(cluster.url) as second,
    ):
        one = OurTransaction(first.store, "x", "y", 1)
        other = OurTransaction(second.store, "y", "x", 2)
        both = Transactions()
        await both.skew((one.read, one.append), (other.read, other.append))
        last = OurTransaction(first.store, "x", "y", 0)
        xs, ys = await last.read(), await last._look("y")
        assert (xs, ys) == ([], [1])
        assert both.verdict(xs, ys).ok
