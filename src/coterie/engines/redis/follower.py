"""Follows what is committed and appended by anyone, on a connection of its own.

It reads the two streams that the scripts write, from where it stands. After a cut it goes on from there; it
tells the watches to begin anew only when the server has let go of what they missed, or is another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import Connection
from redis.exceptions import RedisError

from ...errors import CoterieError
from ...ports.store import Change
from .link import ask, connect, hang_up
from .scripts import SWEEP
from .server import Server, inspect

if TYPE_CHECKING:
    from .engine import RedisEngine

__all__ = ["Follower"]

_BLOCK_S = 2.0
_MANY_APPENDS = 512
"""So many at once may mean that others were trimmed away."""

_Changes = tuple[Change, ...]


class Follower:
    """Begins with the first watch or waiting reader, and ends with the engine."""

    def __init__(
        self,
        engine: RedisEngine,
        *,
        publish: Callable[[int, _Changes], None],
        lose_track: Callable[[], None],
        appended: Callable[[set[bytes] | None], None],
    ) -> None:
        self._engine = engine
        self._publish = publish
        self._lose_track = lose_track
        self._appended = appended
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._revision = 0
        self._last_append = b"0-0"
        self._identity = ""

    async def follow(self) -> None:
        """Return once every later commit and append will be told. Raises when the server refuses."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="coterie-redis-follower")
        await asyncio.shield(self._ready)

    async def close(self) -> None:
        """End. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._ready.cancel()

    async def _run(self) -> None:
        config = self._engine.config
        delay = config.reconnect_min_s
        while True:
            try:
                connection = await connect(config, self._greet)
            except CoterieError:
                await asyncio.sleep(delay)
                delay = min(delay * 2, config.reconnect_max_s)
                continue
            delay = config.reconnect_min_s
            try:
                await self._read(connection)
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(delay)
            finally:
                await hang_up(connection)

    async def _greet(self, connection: Connection) -> None:
        """Find out where to begin, or whether to go on."""
        server = await inspect(connection, self._engine.config)
        if server.identity != self._identity:
            await self._begin(connection, server)
            self._lose_track()
            self._appended(None)
        if not self._ready.done():
            self._ready.set_result(None)

    async def _begin(self, connection: Connection, server: Server) -> None:
        prefix, keep = self._engine.prefix, self._engine.config.max_kept_changes
        revision, _next = await ask(connection, "EVAL", SWEEP.text, 1, prefix, keep)
        newest = await ask(connection, "XREVRANGE", f"{prefix}appended", "+", "-", "COUNT", 1)
        self._revision = int(revision)
        self._last_append = newest[0][0] if newest else b"0-0"
        self._identity = server.identity

    async def _read(self, connection: Connection) -> None:
        prefix = self._engine.prefix
        streams = (f"{prefix}changes", f"{prefix}appended")
        while True:
            async with asyncio.timeout(_BLOCK_S + self._engine.config.operation_timeout_s):
                answer = await ask(
                    connection,
                    *("XREAD", "COUNT", 1000, "BLOCK", int(_BLOCK_S * 1000), "STREAMS", *streams),
                    *(f"{self._revision}-0", self._last_append),
                )
            for name, entries in answer or ():
                if name.endswith(b"changes"):
                    self._committed(entries)
                else:
                    self._last_append = entries[-1][0]
                    places = {fields[1] for _id, fields in entries}
                    self._appended(places if len(entries) < _MANY_APPENDS else None)

    def _committed(self, entries: list[Any]) -> None:
        for id_, fields in entries:
            revision = int(id_.partition(b"-")[0])
            if revision != self._revision + 1 or fields[0] == b"x":
                # What is between was trimmed, or this one is too large to be told.
                self._lose_track()
            else:
                self._publish(revision, _changes(fields, revision))
            self._revision = revision


def _changes(fields: list[bytes], revision: int) -> _Changes:
    changes = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        present = name[:1] == b"p"
        changes.append(Change(name[1:].decode(), value if present else None, revision))
    return tuple(changes)
