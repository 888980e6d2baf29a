"""The vocabulary in which an engine says what it guarantees and a declaration says what it needs.

Sources: Viotti and Vukolić, "Consistency in Non-Transactional Distributed Storage Systems" (2016),
for the consistency levels; the Jepsen reports for what each durability really withstands.
"""

from __future__ import annotations

import enum

__all__ = ["Consistency", "Durability", "Scope"]


class _Ordered(enum.IntEnum):
    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


class Consistency(_Ordered):
    """What a read may return, weakest first."""

    EVENTUAL = 1
    """Replicas converge once writes cease; a read may be stale."""

    SEQUENTIAL = 2
    """All see one order that respects each client's own, though perhaps late."""

    LINEARIZABLE = 3
    """A read returns the newest acknowledged write: as if there were one copy."""


class Durability(_Ordered):
    """What an acknowledged write outlives, weakest first."""

    NONE = 0
    """Nothing: it lives in the memory of one process."""

    PROCESS_CRASH = 1
    """`kill -9` of any process, but not a loss of power."""

    POWER_LOSS = 2
    """Loss of power of the machine: it was synced to the disk before it was acknowledged."""

    MACHINE_LOSS = 3
    """Loss of any minority of the machines: it was synced by a majority before it was acknowledged."""


class Scope(_Ordered):
    """How far apart the clients of one engine may be."""

    PROCESS = 1
    MACHINE = 2
    NETWORK = 3
