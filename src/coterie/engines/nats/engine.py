"""Opens the engine for NATS."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

from ...errors import InvalidConfiguration, Outcome, Unavailable
from ...ports.clock import Clock
from ...ports.entropy import Entropy
from ...ports.store import Change
from .config import NatsConfig
from .guarantees import guarantees
from .link import Link
from .log import NatsLog
from .replica import Replica
from .store import NatsStore

__all__ = ["NatsEngine", "open_engine"]

_OLDEST = (2, 11, 0)
"""The first that hands out many messages at one request."""


class NatsEngine:
    """One client of a server or cluster. `NatsEngine.open` makes it of a configuration."""

    name = "nats"
    store: NatsStore
    log: NatsLog
    replica: Replica

    def __init__(self, config: NatsConfig, entropy: Entropy) -> None:
        self.config: NatsConfig = config
        self.entropy: Entropy = entropy
        self.link: Link = Link(config)
        self.closed: bool = False
        self.replicas: int = config.replicas

    @classmethod
    async def open(cls, config: NatsConfig, entropy: Entropy) -> NatsEngine:
        """Connect, look at the settings, and catch up with the stream; raises as `open_engine` does."""
        engine = cls(config, entropy)
        await engine.link.open()
        try:
            await engine._open()
        except BaseException:
            engine.closed = True
            await engine.link.close()
            raise
        return engine

    async def _open(self) -> None:
        if self.link.version < _OLDEST:
            raise InvalidConfiguration(
                f"{self.link.place} runs NATS {'.'.join(map(str, self.link.version))}",
                hint=f"the engine needs {'.'.join(map(str, _OLDEST))} or newer",
            )
        await self.link.check_jetstream()
        self.replicas = self.config.replicas or (3 if self.link.clustered else 1)
        store, log = guarantees(replicas=self.replicas, synced=await _synced(self.config))
        self.store = NatsStore(self, store)
        self.log = NatsLog(self, log)
        self.replica = Replica(
            self.link,
            f"{self.config.prefix}-store",
            replicas=self.replicas,
            entropy=self.entropy,
            publish=self._publish,
            lose_track=self.store.feed.lose_track,
        )
        try:
            await self.replica.open()
        except BaseException:
            await self.replica.close()
            raise

    def _publish(self, revision: int, changes: tuple[Change, ...]) -> None:
        self.store.publish(revision, changes)

    def statistics(self) -> dict[str, int | float | str]:
        return {
            **self.replica.machine.statistics(),
            "store_watches": len(self.store.feed.watches),
            "nats_messages_applied": self.replica.applied,
            "nats_reconnects": self.link.client.stats["reconnects"],
        }

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        await self.store.close()
        await self.log.close()
        await self.replica.close()
        await self.link.close()


async def _synced(config: NatsConfig) -> bool:
    """Whether the members sync what they store before they acknowledge it, as far as they tell.

    Raises `InvalidConfiguration` when one says that it does not, and `Unavailable` when not even a majority
    says anything: a node must be able to start while a member is down.
    """
    silent: list[Unavailable] = []
    for address in config.monitor:
        url = f"{address.rstrip('/')}/jsz?config=true"
        if not url.startswith(("http://", "https://")):
            raise InvalidConfiguration(f"{address!r} is no monitoring address", hint="write http://host:8222")
        try:
            answer: dict[str, Any] = json.loads(await asyncio.to_thread(_read, url, config.connect_timeout_s))
        except (OSError, ValueError) as error:
            silent.append(Unavailable(f"{url} does not answer: {error}", outcome=Outcome.NOT_APPLIED))
            if len(silent) * 2 >= len(config.monitor):
                raise silent[0] from error
            continue
        if not (answer.get("config") or {}).get("sync_always"):
            raise InvalidConfiguration(
                f"{address} does not sync what it acknowledges: a power loss would take it",
                hint="set `jetstream { sync_interval: always }`, or leave ?monitor= away and promise less",
            )
    return bool(config.monitor)


def _read(url: str, timeout_s: float) -> bytes:
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - the scheme was looked at
        data: bytes = answer.read()
    return data


async def open_engine(url: str, *, clock: Clock, entropy: Entropy) -> NatsEngine:
    """Open the engine at `nats://user:password@host:4222,host:4222`; see `NatsConfig.from_url`.

    Raises:
        InvalidConfiguration: the URL or the settings of the servers or streams cannot be right.
        PermissionDenied: the servers do not let this user in.
        Unavailable: no server can be reached, or nobody leads.
    """
    return await NatsEngine.open(NatsConfig.from_url(url), entropy)
