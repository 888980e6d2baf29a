"""What Redis and Valkey promise, by their settings."""

from __future__ import annotations

from collections.abc import Mapping

from ...ports.guarantees import Consistency, Durability, Scope
from ...ports.log import LogGuarantees
from ...ports.store import StoreGuarantees

__all__ = ["durability_of", "guarantees"]

_PROMOTION = "One primary: promoting a replica loses acknowledged writes."
_CLOCK = "Leases follow the server's wall clock."

Notes = tuple[str, ...]


def guarantees(durability: Durability, notes: Notes = ()) -> tuple[StoreGuarantees, LogGuarantees]:
    """Return what a store and a log promise on a server of this durability."""
    store = StoreGuarantees(
        engine="redis",
        consistency=Consistency.LINEARIZABLE,
        durability=durability,
        scope=Scope.NETWORK,
        min_lease_s=0.1,
        notes=(_PROMOTION, _CLOCK, *notes),
    )
    log = LogGuarantees(
        engine="redis", durability=durability, scope=Scope.NETWORK, notes=(_PROMOTION, *notes)
    )
    return store, log


def durability_of(settings: Mapping[str, str], *, aof: bool = False) -> tuple[Durability, Notes]:
    """Return what acknowledged writes outlive, and why it is not more.

    `settings` is empty when the server does not tell; `aof` is whether it appends to a file all the same.
    """
    if settings.get("appendonly", "yes" if aof else "no") != "yes":
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
