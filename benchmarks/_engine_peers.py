"""What a person would write by hand with the plain client of each engine, to run beside ours.

Each does one thing a call, as its documentation shows: no batching, no history for watchers, no fences, no
number by which a lost answer is found again.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

__all__ = ["Etcd", "Nats", "Peer", "Postgres", "Redis"]


class Peer(Protocol):
    """A plain client. `swap` returns the version that it wrote; only engines with a log append and read."""

    async def open(self, url: str, in_flight: int) -> None: ...

    async def get(self, key: str) -> object: ...

    async def swap(self, key: str, value: bytes, version: int) -> int: ...

    async def append(self, value: bytes) -> object: ...

    async def read(self, offset: int, limit: int) -> int: ...

    async def close(self) -> None: ...


async def _nothing(_connection: object) -> None:
    """Leave a connection as it is, where the pool would ask the server to reset it."""


class Postgres:
    """asyncpg: one connection for one in flight, a pool of four for more, which is where it is fastest."""

    _pool: Any

    async def open(self, url: str, in_flight: int) -> None:
        import asyncpg

        size = min(in_flight, 4)
        self._pool = await asyncpg.create_pool(url, min_size=size, max_size=size, reset=_nothing)
        await self._pool.execute(
            "CREATE TABLE IF NOT EXISTS raw_kv"
            " (key text PRIMARY KEY, value bytea NOT NULL, version bigint NOT NULL)"
        )
        await self._pool.execute(
            "CREATE TABLE IF NOT EXISTS raw_log"
            " (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, value bytea NOT NULL)"
        )

    async def get(self, key: str) -> object:
        return await self._pool.fetchrow("SELECT value, version FROM raw_kv WHERE key = $1", key)

    async def swap(self, key: str, value: bytes, version: int) -> int:
        if version == 0:
            await self._pool.execute(
                "INSERT INTO raw_kv VALUES ($1, $2, 1) ON CONFLICT (key) DO UPDATE SET version = 1",
                key,
                value,
            )
            return 1
        done = await self._pool.execute(
            "UPDATE raw_kv SET value = $2, version = version + 1 WHERE key = $1 AND version = $3",
            key,
            value,
            version,
        )
        assert done == "UPDATE 1", done
        return version + 1

    async def append(self, value: bytes) -> object:
        return await self._pool.fetchval("INSERT INTO raw_log (value) VALUES ($1) RETURNING id", value)

    async def read(self, offset: int, limit: int) -> int:
        return len(
            await self._pool.fetch(
                "SELECT id, value FROM raw_log WHERE id > $1 ORDER BY id LIMIT $2", offset, limit
            )
        )

    async def close(self) -> None:
        await self._pool.close()


class Etcd:
    """grpc.aio, one call an operation; the engine's own module makes its messages, for lack of stubs."""

    _channel: Any

    async def open(self, url: str, in_flight: int) -> None:
        import grpc.aio

        self._channel = grpc.aio.insecure_channel(url.rpartition("/")[2].partition(",")[0])
        self._range = self._channel.unary_unary("/etcdserverpb.KV/Range")
        self._txn = self._channel.unary_unary("/etcdserverpb.KV/Txn")
        await asyncio.wait_for(self._channel.channel_ready(), 10)

    async def get(self, key: str) -> object:
        from coterie.engines.etcd.messages import range_request, read_range

        found = read_range(await self._range(range_request(f"raw/{key}".encode())))
        return found.kvs[0] if found.kvs else None

    async def swap(self, key: str, value: bytes, version: int) -> int:
        from coterie.engines.etcd.messages import compare_mod, put_op, read_txn, txn_request

        name = f"raw/{key}".encode()
        compares = [compare_mod(name, version)] if version else []
        answer = read_txn(await self._txn(txn_request(compares, [put_op(name, value)])))
        assert answer.succeeded
        return answer.revision

    async def append(self, value: bytes) -> object:
        raise NotImplementedError

    async def read(self, offset: int, limit: int) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        await self._channel.close()


class Redis:
    """redis-py with its pool: a hash an entry, a script for the compare-and-set, a stream for the log."""

    _client: Any
    _swap: Any

    async def open(self, url: str, in_flight: int) -> None:
        from redis.asyncio import Redis as Client

        self._client = Client.from_url(url.replace("valkey://", "redis://"))
        self._swap = self._client.register_script(
            "if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end "
            "redis.call('HSET', KEYS[1], 'value', ARGV[2], 'version', ARGV[1] + 1) "
            "return ARGV[1] + 1"
        )

    async def get(self, key: str) -> object:
        return await self._client.hmget(f"raw:{key}", "value", "version")

    async def swap(self, key: str, value: bytes, version: int) -> int:
        if version == 0:
            await self._client.delete(f"raw:{key}")
        written = int(await self._swap(keys=[f"raw:{key}"], args=[version, value]))
        assert written == version + 1
        return written

    async def append(self, value: bytes) -> object:
        return await self._client.xadd("raw-log", {"value": value})

    async def read(self, offset: int, limit: int) -> int:
        # The log of a run is filled once, so an id is found by its place.
        if not hasattr(self, "_ids"):
            self._ids = [id_ for id_, _ in await self._client.xrange("raw-log", count=2000)]
        return len(await self._client.xrange("raw-log", self._ids[offset], count=limit))

    async def close(self) -> None:
        await self._client.aclose()


class Nats:
    """nats-py: a key-value bucket, publishes that wait for the acknowledgement, consumers that read on."""

    _client: Any

    async def open(self, url: str, in_flight: int) -> None:
        import nats

        self._client = await nats.connect(url)
        self._js = self._client.jetstream()
        self._kv = await self._js.create_key_value(bucket="raw")
        await self._js.add_stream(name="raw-log", subjects=["raw-log"])
        self._idle: list[tuple[Any, int]] = []

    async def get(self, key: str) -> object:
        return await self._kv.get(key)

    async def swap(self, key: str, value: bytes, version: int) -> int:
        if version == 0:
            return int(await self._kv.put(key, value))
        return int(await self._kv.update(key, value, last=version))

    async def append(self, value: bytes) -> object:
        return (await self._js.publish("raw-log", value)).seq

    async def read(self, offset: int, limit: int) -> int:
        # A consumer knows where it is, so that one reads on; a new one takes ten times as long.
        consumer, left = self._idle.pop() if self._idle else (await self._consumer(), 1500)
        found = len(await consumer.fetch(limit))
        if left > limit:
            self._idle.append((consumer, left - limit))
        else:
            name = (await consumer.consumer_info()).name
            await consumer.unsubscribe()
            await self._js.delete_consumer("raw-log", name)
        return found

    async def _consumer(self) -> Any:
        from nats.js.api import AckPolicy, ConsumerConfig

        config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
        return await self._js.pull_subscribe("raw-log", config=config)

    async def close(self) -> None:
        await self._client.close()
