"""Looks at the server before it is used: what it is, and what its settings let the engine promise."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError

from ...errors import InvalidConfiguration, Outcome, Unavailable
from ...ports.guarantees import Consistency, Durability, Scope
from ...ports.log import LogGuarantees
from ...ports.store import StoreGuarantees
from .config import RedisConfig
from .link import ask
from .scripts import PROBE

__all__ = ["LOG_GUARANTEES", "STORE_GUARANTEES", "Server", "inspect"]

_OLDEST = (7, 0)
_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy")
_NOTES = (
    "One primary: promoting a replica loses acknowledged writes.",
    "Leases follow the server's wall clock.",
)

STORE_GUARANTEES = StoreGuarantees(
    engine="redis",
    consistency=Consistency.LINEARIZABLE,
    durability=Durability.POWER_LOSS,
    scope=Scope.NETWORK,
    min_lease_s=0.1,
    notes=_NOTES,
)
"""With `appendonly yes` and `appendfsync always`; the durability is less with others."""

LOG_GUARANTEES = LogGuarantees(
    engine="redis", durability=Durability.POWER_LOSS, scope=Scope.NETWORK, notes=_NOTES[:1]
)


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
    durability, notes = _durability(settings, facts)
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


def _durability(settings: dict[str, str], facts: dict[str, str]) -> tuple[Durability, tuple[str, ...]]:
    if settings.get("appendonly", "yes" if facts.get("aof_enabled") == "1" else "no") != "yes":
        return Durability.NONE, ("appendonly is off: what was not saved is lost when the server ends.",)
    synced = settings.get("appendfsync", "")
    if synced == "always":
        if settings.get("no-appendfsync-on-rewrite") == "yes":
            return Durability.PROCESS_CRASH, ("no-appendfsync-on-rewrite is on: a rewrite stops the syncs.",)
        return Durability.POWER_LOSS, ()
    if synced == "no":
        return Durability.PROCESS_CRASH, ("appendfsync is no: a power loss takes the last writes.",)
    if synced == "everysec":
        # While a sync is under way the server answers before it writes to the file, for up to two seconds.
        return Durability.NONE, ("appendfsync is everysec: a crash may take the last two seconds.",)
    return Durability.NONE, ("CONFIG GET is forbidden, so that appendfsync is taken to be everysec.",)


def _facts(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}
