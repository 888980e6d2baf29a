"""Redis and Valkey through redis-py: WATCH, MULTI and EXEC, sets, streams, and SET NX PX as a lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ReadOnlyError,
    RedisError,
    WatchError,
)

from ...errors import Conflict, CoterieError, Outcome, Unavailable
from ...ports import Durability
from ..session import Opened
from ..target import Holding, MicroOperation
from ..terms import Terms
from ..workloads.bank import ACCOUNTS, OPENING
from .common import UNFENCED, RawHolding, again

__all__ = ["open_target"]

_LIMIT_S = 5.0
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_LOST = "occurred while watching"
"""What redis-py says in a WatchError that means a lost connection, and no watched key."""
_REFUSED = " connecting to "
_SHIFT = 1_000_000
"""A stream's ids are two numbers, milliseconds and a count; an offset is one."""


# A command that is sent again by itself could be done twice.
_ONCE = Retry(NoBackoff(), 0)


class RedisTarget:
    """`Target` on a pool of connections."""

    offers: frozenset[str] = frozenset({"register", "set", "log", "lock", "bank", "append"})

    def __init__(self, client: Any, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def _key(self, kind: str, key: str) -> str:
        return f"{self._prefix}/{kind}/{key}"

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Any]:
        try:
            yield self._client
        except CoterieError:
            raise
        except WatchError as error:
            if _LOST in str(error):  # in EXEC, so it may have been done: it is no conflict
                raise Unavailable(f"{error}") from error
            raise Conflict(f"{error}") from error
        except (BusyLoadingError, ReadOnlyError) as error:
            raise Unavailable(f"{error}", outcome=Outcome.NOT_APPLIED) from error
        except (RedisError, OSError, TimeoutError, RuntimeError) as error:
            # A RuntimeError is uvloop's, for a connection that was closed under redis-py's feet.
            outcome = Outcome.NOT_APPLIED if _REFUSED in str(error) else Outcome.UNKNOWN
            raise Unavailable(f"{type(error).__name__}: {error}", outcome=outcome) from error

    async def prepare(self) -> None:
        async with self._asking() as client:
            await client.mset({self._key("bank", account): OPENING for account in ACCOUNTS})

    # register

    async def read(self, key: str) -> int | None:
        async with self._asking() as client:
            found = await client.get(self._key("register", key))
        return None if found is None else int(found)

    async def write(self, key: str, value: int) -> None:
        async with self._asking() as client:
            await client.set(self._key("register", key), value)

    async def swap(self, key: str, old: int | None, new: int) -> None:
        name = self._key("register", key)
        async with self._asking() as client, client.pipeline(transaction=True) as pipe:
            await pipe.watch(name)
            found = await pipe.get(name)
            if (None if found is None else int(found)) != old:
                raise Conflict(f"{key} is not {old}")
            pipe.multi()
            pipe.set(name, new)
            await pipe.execute()

    # set

    async def add(self, key: str, element: int) -> None:
        async with self._asking() as client:
            await client.sadd(self._key("set", key), element)

    async def members(self, key: str) -> list[int]:
        async with self._asking() as client:
            return sorted(int(element) for element in await client.smembers(self._key("set", key)))

    # log

    async def append(self, key: str, value: int) -> int:
        async with self._asking() as client:
            return _offset(await client.xadd(self._key("log", key), {"v": value}))

    async def records(self, key: str, offset: int) -> list[tuple[int, int]]:
        start = f"{offset // _SHIFT}-{offset % _SHIFT}"
        async with self._asking() as client:
            found = await client.xrange(self._key("log", key), min=start, count=1000)
        return [(_offset(identifier), int(fields[b"v"])) for identifier, fields in found]

    # lock

    async def acquire(self, key: str, owner: str, ttl_s: float) -> Holding:
        async with self._asking() as client:
            token = int(await client.incr(self._key("tokens", key)))
            mark = f"{owner}-{token}"
            if not await client.set(self._key("lock", key), mark, nx=True, px=int(ttl_s * 1000)):
                raise Conflict(f"{key} is held")
        return RawHolding(token, mark)

    async def guarded_write(self, key: str, holding: Holding) -> None:
        async with self._asking() as client:
            await client.set(self._key("guarded", key), holding.token)

    async def release(self, key: str, holding: Holding) -> None:
        if isinstance(holding, RawHolding):
            async with self._asking() as client:
                await client.eval(_RELEASE, 1, self._key("lock", key), holding.owner)

    # bank

    async def transfer(self, source: str, target: str, amount: int) -> None:
        names = self._key("bank", source), self._key("bank", target)

        async def attempt() -> None:
            async with self._asking() as client, client.pipeline(transaction=True) as pipe:
                await pipe.watch(names[0])
                if int(await pipe.get(names[0]) or 0) < amount:
                    raise Conflict(f"{source} has less than {amount}")
                pipe.multi()
                pipe.decrby(names[0], amount)
                pipe.incrby(names[1], amount)
                await pipe.execute()

        await again(attempt)

    async def balances(self) -> dict[str, int]:
        async with self._asking() as client:
            found = await client.mget([self._key("bank", account) for account in ACCOUNTS])
        return {account: int(value or 0) for account, value in zip(ACCOUNTS, found, strict=True)}

    # append

    async def transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        async with self._asking() as client, client.pipeline(transaction=True) as pipe:
            for f, key, element in steps:
                name = self._key("append", key)
                if f == "append":
                    pipe.rpush(name, element)
                else:
                    pipe.lrange(name, 0, -1)
            results = await pipe.execute()
        return [
            (f, key, element if f == "append" else [int(item) for item in result])
            for (f, key, element), result in zip(steps, results, strict=True)
        ]

    async def clear(self) -> None:
        async with self._asking() as client:
            async for name in client.scan_iter(match=f"{self._prefix}/*", count=500):
                await client.delete(name)


def _offset(identifier: bytes) -> int:
    milliseconds, _, count = identifier.decode().partition("-")
    return int(milliseconds) * _SHIFT + int(count)


async def open_target(url: str, prefix: str, isolation: str) -> Opened:
    """Connect to the server at `url`. Redis has one isolation level: one command after the other."""
    del isolation
    scheme, rest = url.split(":", 1)
    address = f"{scheme.replace('valkey', 'redis')}:{rest}"
    client: Any = redis.Redis.from_url(
        address, socket_timeout=_LIMIT_S, socket_connect_timeout=_LIMIT_S, retry=_ONCE
    )
    target = RedisTarget(client, prefix)
    try:
        await client.ping()
    except (RedisError, OSError, TimeoutError) as error:
        await client.aclose()
        raise Unavailable(f"Redis: {error}", outcome=Outcome.NOT_APPLIED) from error
    terms = Terms(
        store_durability=Durability.POWER_LOSS,
        log_durability=Durability.POWER_LOSS,
        exceptions=UNFENCED,
        notes=("One primary: promoting a replica loses acknowledged writes.",),
    )
    return Opened(target, terms, client.aclose)
