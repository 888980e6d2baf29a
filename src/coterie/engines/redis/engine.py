"""Opens the engine for Redis and Valkey."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from redis.asyncio.connection import Connection

from ...errors import CoterieError, InvalidConfiguration
from ...ports.clock import Clock
from ...ports.entropy import Entropy
from ...ports.store import Change
from .config import RedisConfig
from .follower import Follower
from .guarantees import guarantees
from .link import Link
from .log import RedisLog
from .scripts import SWEEP
from .server import Server, inspect
from .store import RedisStore

__all__ = ["RedisEngine", "open_engine"]

_LONGEST_REST_S = 0.5
"""Others may have granted leases that end before those that this client knows of."""


class RedisEngine:
    """One client of one primary. Make it by `open_engine`, or by `RedisEngine.open` with a configuration."""

    name = "redis"

    def __init__(self, config: RedisConfig) -> None:
        self.config: RedisConfig = config
        self.prefix: str = f"{{{config.prefix}}}:"
        self.closed: bool = False
        self.link: Link = Link(config, self.prefix, self._greet)
        self.follower: Follower = Follower(
            self, publish=self._publish, lose_track=self._lose_track, appended=self._appended
        )
        self._server: Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, config: RedisConfig) -> RedisEngine:
        """Connect, look at the server's settings, and return the engine; raises as `open_engine` does."""
        config.trust()
        engine = cls(config)
        try:
            await engine.link.open()
        except BaseException:
            await engine.link.close()
            raise
        server = engine._server
        assert server is not None  # noqa: S101 - a link that opened has greeted
        store, log = guarantees(server.durability, server.notes)
        engine.store = RedisStore(engine, store)
        engine.log = RedisLog(engine, log)
        engine._sweeper = asyncio.create_task(engine._sweep(), name="coterie-redis-leases")
        return engine

    store: RedisStore
    log: RedisLog

    def statistics(self) -> dict[str, int | float | str]:
        return {
            "redis_waiting": self.link.waiting,
            "redis_reconnects": self.link.reconnects,
            "redis_version": self._server.version if self._server else "",
            "store_watches": len(self.store.feed.watches),
        }

    async def close(self) -> None:
        self.closed = True
        await self.store.close()
        await self.log.close()
        await self.follower.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self.link.close()

    async def _greet(self, connection: Connection) -> None:
        server = await inspect(connection, self.config)
        promised = self._server.durability if self._server else server.durability
        if server.durability < promised:
            raise InvalidConfiguration(
                f"{self.config.place} keeps less than when this client started: "
                f"{' '.join(server.notes)} It promised to outlive {promised}",
                hint="restore its settings, or restart this program",
            )
        self._server = self._server or server

    async def _sweep(self) -> None:
        """End the leases that are due, so that watches show it though nobody else touches the store."""
        while True:
            rest_s = _LONGEST_REST_S
            with suppress(CoterieError):
                _revision, next_us = await self.link.run(SWEEP, self.config.max_kept_changes)
                if next_us:
                    rest_s = min(rest_s, int(next_us) / 1e6 + 0.001)
            await asyncio.sleep(rest_s)

    def _publish(self, revision: int, changes: tuple[Change, ...]) -> None:
        self.store.feed.publish(revision, changes)

    def _lose_track(self) -> None:
        self.store.feed.lose_track()

    def _appended(self, places: set[bytes] | None) -> None:
        self.log.appended(places)


async def open_engine(url: str, *, clock: Clock, entropy: Entropy) -> RedisEngine:
    """Open the engine at `redis://user:password@host:6379/0`; see `RedisConfig.from_url`.

    Raises:
        InvalidConfiguration: the URL or the server's settings cannot be right.
        PermissionDenied: the server does not let this user in, or a right is missing.
        Unavailable: the server cannot be reached, or is a replica.
    """
    return await RedisEngine.open(RedisConfig.from_url(url))
