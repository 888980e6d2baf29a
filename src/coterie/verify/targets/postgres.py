"""PostgreSQL through asyncpg, as a program without Coterie would use it.

Lists are rows that grow, a lock is a row with an end, a log is numbered by a sequence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from ...errors import Conflict, CoterieError, Outcome, Unavailable
from ...ports import Durability
from ..session import Opened
from ..target import Holding, MicroOperation
from ..terms import Terms
from ..workloads.bank import ACCOUNTS, OPENING
from .common import UNFENCED, RawHolding, again

__all__ = ["exceptions_at", "open_target"]

_CONNECTIONS = 6
_LIMIT_S = 6.0
_TRANSACTION = ("40001", "40P01", "23505")
"""Lost against others, a deadlock, a key that is there already: nothing was done."""

_SKIPS = "a sequence counts before commits are visible, so readers pass over records that commit late"
_LOCK_ROW = """
INSERT INTO {schema}.locks AS l (k, owner, token, until)
VALUES ($1, $2, nextval('{schema}.tokens'), clock_timestamp() + $3 * interval '1 second')
ON CONFLICT (k) DO UPDATE SET owner = excluded.owner, token = excluded.token, until = excluded.until
WHERE l.until < clock_timestamp() RETURNING token
"""
_TABLES = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.registers (k text PRIMARY KEY, v bigint);
CREATE TABLE {schema}.elements (k text, v bigint, PRIMARY KEY (k, v));
CREATE TABLE {schema}.records (k text, id bigserial, v bigint, PRIMARY KEY (k, id));
CREATE TABLE {schema}.locks (k text PRIMARY KEY, owner text, token bigint, until timestamptz);
CREATE TABLE {schema}.guarded (k text PRIMARY KEY, token bigint);
CREATE TABLE {schema}.accounts (k text PRIMARY KEY, v bigint);
CREATE TABLE {schema}.lists (k text PRIMARY KEY, v bigint[]);
CREATE SEQUENCE {schema}.tokens;
"""


class PostgresTarget:
    """`Target` on a pool of connections; all transactions have one isolation level."""

    offers: frozenset[str] = frozenset({"register", "set", "log", "lock", "bank", "append"})

    def __init__(self, pool: Any, schema: str, isolation: str) -> None:
        self._pool = pool
        self._schema = schema
        self._isolation = isolation.replace(" ", "_")

    def _sql(self, text: str) -> str:
        return text.format(schema=self._schema)

    @asynccontextmanager
    async def _connection(self, *, transaction: bool = True) -> AsyncIterator[Any]:
        begun = False
        try:
            async with asyncio.timeout(_LIMIT_S), self._pool.acquire() as connection:
                begun = True
                if not transaction:
                    yield connection
                else:
                    async with connection.transaction(isolation=self._isolation):
                        yield connection
        except CoterieError:
            raise
        except asyncpg.PostgresError as error:
            if error.sqlstate in _TRANSACTION:
                raise Conflict(f"{error}") from error
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            outcome = Outcome.UNKNOWN if begun else Outcome.NOT_APPLIED
            raise Unavailable(f"{type(error).__name__}: {error}", outcome=outcome) from error

    async def _one(self, statement: str, *values: Any) -> Any:
        async with self._connection() as connection:
            return await connection.fetchval(self._sql(statement), *values)

    async def _rows(self, statement: str, *values: Any) -> list[Any]:
        async with self._connection() as connection:
            return list(await connection.fetch(self._sql(statement), *values))

    async def prepare(self) -> None:
        async with self._connection(transaction=False) as connection:
            await connection.execute(self._sql(_TABLES))
            rows = [(account, OPENING) for account in ACCOUNTS]
            await connection.executemany(self._sql("INSERT INTO {schema}.accounts VALUES ($1, $2)"), rows)

    # register

    async def read(self, key: str) -> int | None:
        value: int | None = await self._one("SELECT v FROM {schema}.registers WHERE k = $1", key)
        return value

    async def write(self, key: str, value: int) -> None:
        upsert = "INSERT INTO {schema}.registers VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        await again(lambda: self._one(upsert, key, value))

    async def swap(self, key: str, old: int | None, new: int) -> None:
        if old is None:
            await self._one("INSERT INTO {schema}.registers VALUES ($1, $2)", key, new)
            return
        done = await self._one(
            "UPDATE {schema}.registers SET v = $3 WHERE k = $1 AND v = $2 RETURNING v", key, old, new
        )
        if done is None:
            raise Conflict(f"{key} is not {old}")

    # set

    async def add(self, key: str, element: int) -> None:
        await self._one("INSERT INTO {schema}.elements VALUES ($1, $2)", key, element)

    async def members(self, key: str) -> list[int]:
        rows = await self._rows("SELECT v FROM {schema}.elements WHERE k = $1 ORDER BY v", key)
        return [row["v"] for row in rows]

    # log

    async def append(self, key: str, value: int) -> int:
        return int(
            await self._one("INSERT INTO {schema}.records (k, v) VALUES ($1, $2) RETURNING id", key, value)
        )

    async def records(self, key: str, offset: int) -> list[tuple[int, int]]:
        found = "SELECT id, v FROM {schema}.records WHERE k = $1 AND id >= $2 ORDER BY id LIMIT 1000"
        return [(row["id"], row["v"]) for row in await self._rows(found, key, offset)]

    # lock

    async def acquire(self, key: str, owner: str, ttl_s: float) -> Holding:
        token = await self._one(_LOCK_ROW, key, owner, ttl_s)
        if token is None:
            raise Conflict(f"{key} is held")
        return RawHolding(int(token), owner)

    async def guarded_write(self, key: str, holding: Holding) -> None:
        upsert = "INSERT INTO {schema}.guarded VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET token = $2"
        await self._one(upsert, key, holding.token)

    async def release(self, key: str, holding: Holding) -> None:
        await self._one("DELETE FROM {schema}.locks WHERE k = $1 AND token = $2", key, holding.token)

    # bank

    async def transfer(self, source: str, target: str, amount: int) -> None:
        """Read, compute, write: correct at the isolation levels that notice what came between."""

        async def attempt() -> None:
            async with self._connection() as connection:
                rows = await connection.fetch(
                    self._sql("SELECT k, v FROM {schema}.accounts WHERE k = ANY($1)"), [source, target]
                )
                found = {row["k"]: row["v"] for row in rows}
                if found.get(source, 0) < amount:
                    raise Conflict(f"{source} has less than {amount}")
                update = self._sql("UPDATE {schema}.accounts SET v = $2 WHERE k = $1")
                found[source] -= amount
                found[target] += amount
                for account in sorted((source, target)):  # in one order, so that nobody waits in a circle
                    await connection.execute(update, account, found[account])

        await again(attempt)

    async def balances(self) -> dict[str, int]:
        rows = await again(lambda: self._rows("SELECT k, v FROM {schema}.accounts"))
        return {row["k"]: row["v"] for row in rows}

    # append

    async def transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        return await again(lambda: self._transact(steps))

    async def _transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        done: list[MicroOperation] = []
        async with self._connection() as connection:
            for f, key, element in steps:
                if f == "append":
                    await connection.execute(
                        self._sql(
                            "INSERT INTO {schema}.lists AS l VALUES ($1, ARRAY[$2::bigint])"
                            " ON CONFLICT (k) DO UPDATE SET v = l.v || $2::bigint"
                        ),
                        key,
                        element,
                    )
                    done.append((f, key, element))
                else:
                    found = await connection.fetchval(
                        self._sql("SELECT v FROM {schema}.lists WHERE k = $1"), key
                    )
                    done.append((f, key, list(found or ())))
        return done

    async def clear(self) -> None:
        async with self._connection(transaction=False) as connection:
            await connection.execute(self._sql("DROP SCHEMA {schema} CASCADE"))


def exceptions_at(isolation: str) -> Mapping[tuple[str, str], str]:
    """Return what is not promised of raw use at an isolation level, and why."""
    levels = ("strict serializable", "serializable", "snapshot isolation")
    weaker = {
        "serializable": (1, "SERIALIZABLE promises no real-time order"),
        "repeatable read": (2, "REPEATABLE READ is snapshot isolation, which lets write skew through"),
        "read committed": (3, "READ COMMITTED lets lost updates and skews through"),
    }
    count, why = weaker[isolation]
    found = {("append", level): why for level in levels[:count]}
    if isolation == "read committed":
        found["bank", "the total is conserved"] = why
    return {**found, ("log", "no record lost, repeated or out of order"): _SKIPS, **UNFENCED}


async def open_target(url: str, prefix: str, isolation: str) -> Opened:
    """Connect to the database at `url`. Raises `Unavailable` when it cannot be reached."""
    try:
        pool: Any = await asyncpg.create_pool(
            url, min_size=1, max_size=_CONNECTIONS, command_timeout=_LIMIT_S, timeout=_LIMIT_S
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(f"PostgreSQL: {error}", outcome=Outcome.NOT_APPLIED) from error
    schema = prefix.replace("/", "_").lower()
    terms = Terms(
        store_durability=Durability.POWER_LOSS,
        log_durability=Durability.POWER_LOSS,
        exceptions=exceptions_at(isolation),
    )

    async def close() -> None:
        pool.terminate()

    return Opened(PostgresTarget(pool, schema, isolation), terms, close)
