"""NATS through nats-py: a KV bucket with its defaults, among them Direct Get, and a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import nats.errors
import nats.js.errors
from nats.js.api import KeyValueConfig, StreamConfig

from ...engines.nats.client import EndableClient
from ...errors import Conflict, CoterieError, Outcome, Unavailable
from ...ports import Durability
from ..session import Opened
from ..terms import Terms
from ..workloads.logs import PARTITIONS
from .common import PartialTarget

__all__ = ["EXCEPTIONS", "open_target"]

_LIMIT_S = 5.0
_PLACED_WITHIN_S = 10.0
_PAGE = 200
_WRONG_SEQUENCE = 10071
_DIRECT = "Direct Get, the default of buckets, is answered by any replica, which may lag behind"
EXCEPTIONS = {("register", "linearizable"): _DIRECT}
"""What a bucket with its defaults does not promise."""


class NatsTarget(PartialTarget):
    """`Target` on one connection: registers are keys of a bucket, a partition is a stream."""

    offers: frozenset[str] = frozenset({"register", "log"})

    def __init__(self, connection: Any, prefix: str) -> None:
        self._connection = connection
        self._js = connection.jetstream(timeout=_LIMIT_S)
        self._name = prefix.replace("/", "-")
        self._bucket: Any = None

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(_LIMIT_S):
                yield self._js
        except CoterieError:
            raise
        except nats.js.errors.KeyWrongLastSequenceError as error:
            raise Conflict(f"{error}") from error
        except nats.js.errors.APIError as error:
            if error.err_code == _WRONG_SEQUENCE:
                raise Conflict(f"{error}") from error
            raise Unavailable(f"{type(error).__name__}: {error.description}") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from error

    async def _registers(self) -> Any:
        if self._bucket is None:
            self._bucket = await self._js.key_value(self._name)
        return self._bucket

    async def prepare(self) -> None:
        replicas = 3 if len(self._connection.servers) > 1 else 1
        config = KeyValueConfig(bucket=self._name, replicas=replicas, direct=True)
        await self._make(partial(self._js.create_key_value, config))
        for key in PARTITIONS:
            stream = StreamConfig(
                name=(name := f"{self._name}-{key}"), subjects=[name], num_replicas=replicas
            )
            await self._make(partial(self._js.add_stream, stream))

    async def _make(self, make: Callable[[], Awaitable[object]]) -> None:
        """Make what has replicas. A leader that has just begun may not have heard of every member yet."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _PLACED_WITHIN_S
        while True:
            try:
                async with self._asking():
                    await make()
            except Unavailable:
                if loop.time() > until:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    # register

    async def read(self, key: str) -> int | None:
        async with self._asking():
            try:
                entry = await (await self._registers()).get(key)
            except nats.js.errors.KeyNotFoundError:
                return None
        return int(entry.value)

    async def write(self, key: str, value: int) -> None:
        async with self._asking():
            await (await self._registers()).put(key, str(value).encode())

    async def swap(self, key: str, old: int | None, new: int) -> None:
        async with self._asking():
            registers = await self._registers()
            try:
                entry = await registers.get(key)
            except nats.js.errors.KeyNotFoundError:
                entry = None
            if (None if entry is None else int(entry.value)) != old:
                raise Conflict(f"{key} is not {old}")
            revision = 0 if entry is None else entry.revision
            await registers.update(key, str(new).encode(), last=revision)

    # log

    async def append(self, key: str, value: int) -> int:
        async with self._asking() as js:
            acknowledged = await js.publish(f"{self._name}-{key}", str(value).encode())
        return int(acknowledged.seq)

    async def records(self, key: str, offset: int) -> list[tuple[int, int]]:
        """Read one message after the other from the stream's leader."""
        found: list[tuple[int, int]] = []
        async with self._asking() as js:
            for sequence in range(max(offset, 1), max(offset, 1) + _PAGE):
                try:
                    message = await js.get_msg(f"{self._name}-{key}", sequence)
                except nats.js.errors.NotFoundError:
                    break
                found.append((sequence, int(message.data)))
        return found

    async def clear(self) -> None:
        async with self._asking() as js:
            await js.delete_key_value(self._name)
            for key in PARTITIONS:
                await js.delete_stream(f"{self._name}-{key}")


async def _ignore(_error: Exception) -> None:
    """Connections that are lost show in the operations."""


async def open_target(url: str, prefix: str, isolation: str) -> Opened:
    """Connect to the servers that `url` names."""
    del isolation
    scheme, _, rest = url.partition("://")
    login, at, hosts = rest.partition("?")[0].rpartition("@")
    servers = [f"{scheme}://{login}{at}{host}" for host in hosts.split(",")]
    connection = EndableClient()
    try:
        await connection.connect(
            servers,
            connect_timeout=2,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
            ping_interval=2,
            max_outstanding_pings=2,
            error_cb=_ignore,
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise Unavailable(f"NATS: {error}", outcome=Outcome.NOT_APPLIED) from error
    durability = Durability.MACHINE_LOSS if len(servers) > 1 else Durability.POWER_LOSS
    terms = Terms(
        store_durability=durability,
        log_durability=durability,
        exceptions=EXCEPTIONS if len(servers) > 1 else {},
    )
    return Opened(NatsTarget(connection, prefix), terms, connection.end)
