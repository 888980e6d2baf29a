"""What the engine promises, by the number of replicas and by how the servers sync."""

from __future__ import annotations

from ...ports.guarantees import Consistency, Durability, Scope
from ...ports.log import LogGuarantees
from ...ports.store import StoreGuarantees
from ...ports.wire import WireGuarantees

__all__ = ["guarantees", "wire_guarantees"]

_NOT_SYNCED = (
    "Servers sync every two minutes by default: a power loss of all members takes the writes since.",
    "With sync_interval always, seen by ?monitor=, writes outlive more.",
)
_COPY = "Every client holds all of the store in memory."


def guarantees(*, replicas: int, synced: bool) -> tuple[StoreGuarantees, LogGuarantees]:
    """Return what a store and a log promise. `synced` is whether all servers were seen to sync always."""
    if not synced:
        durability = Durability.PROCESS_CRASH
    else:
        durability = Durability.MACHINE_LOSS if replicas >= 3 else Durability.POWER_LOSS
    notes = () if synced else _NOT_SYNCED
    store = StoreGuarantees(
        engine="nats",
        consistency=Consistency.LINEARIZABLE,
        durability=durability,
        scope=Scope.NETWORK,
        max_value_bytes=512 * 1024,
        min_lease_s=0.2,
        notes=(_COPY, *notes),
    )
    log = LogGuarantees(
        engine="nats",
        durability=durability,
        scope=Scope.NETWORK,
        max_record_bytes=512 * 1024,
        max_partitions=64,
        notes=notes,
    )
    return store, log


def wire_guarantees(*, max_body_bytes: int, encrypted: bool, authenticated: bool) -> WireGuarantees:
    """Return what a wire promises that takes bodies of up to `max_body_bytes`."""
    return WireGuarantees(
        engine="nats",
        scope=Scope.NETWORK,
        max_body_bytes=max_body_bytes,
        encrypted=encrypted,
        authenticated=authenticated,
        notes=(
            "Each call goes through a NATS server.",
            "Whoever the servers let publish to prefix.wire.> is a node to it.",
        ),
    )
