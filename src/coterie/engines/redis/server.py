"""Looks at the server before it is used: what it is, and what its settings let the engine promise."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError

from ...errors import InvalidConfiguration, Outcome, Unavailable
from ...ports.guarantees import Durability
from .config import RedisConfig
from .guarantees import durability_of
from .link import ask
from .scripts import PROBE

__all__ = ["Server", "inspect"]

_OLDEST = (7, 0)
_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """What a connection found."""

    identity: str
    """Changes when the server may hold other data than it did: it was restarted, or took over."""
    version: str
    durability: Durability
    notes: tuple[str, ...] = ()
    """What lessens the durability, or was assumed."""


async def inspect(connection: Connection, config: RedisConfig) -> Server:
    """Return what the server is.

    Raises:
        InvalidConfiguration: it is too old, part of a cluster, or may evict entries.
        PermissionDenied: a right is missing.
        Unavailable: it is a replica.
    """
    facts = _facts(await ask(connection, "INFO"))
    version = facts.get("valkey_version") or facts.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise InvalidConfiguration(f"{config.place} is version {version}; the oldest that serves is 7.0")
    if facts.get("cluster_enabled") == "1":
        raise InvalidConfiguration(
            f"{config.place} is part of a Redis Cluster, which cannot commit several keys at once",
            hint="name one server by itself",
        )
    if facts.get("role") != "master":
        raise Unavailable(
            f"{config.place} is a replica of {facts.get('master_host')}:{facts.get('master_port')}",
            hint="name the primary: a replica may be late",
            outcome=Outcome.NOT_APPLIED,
        )
    settings = await _settings(connection)
    policy = settings.get("maxmemory-policy", facts.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys") and settings.get("maxmemory", facts.get("maxmemory", "0")) != "0":
        raise InvalidConfiguration(
            f"{config.place} has maxmemory-policy {policy}: it may evict acknowledged entries",
            hint="set maxmemory-policy to noeviction",
        )
    await ask(connection, "EVAL", PROBE.text, 1, f"{{{config.prefix}}}:")
    durability, notes = durability_of(settings, aof=facts.get("aof_enabled") == "1")
    identity = f"{facts.get('run_id')} {facts.get('master_replid')}"
    return Server(identity=identity, version=version, durability=durability, notes=notes)


async def _settings(connection: Connection) -> dict[str, str]:
    """Return the settings that matter; none when the server does not tell."""
    try:
        answer = await ask(connection, "CONFIG", "GET", *_SETTINGS)
    except ResponseError:
        return {}
    words = [word.decode() for word in answer]
    return dict(zip(words[::2], words[1::2], strict=True))


def _facts(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}
