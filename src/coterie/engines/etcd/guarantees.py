"""What the store promises, by how many members there are."""

from __future__ import annotations

from ...ports.guarantees import Consistency, Durability, Scope
from ...ports.store import StoreGuarantees

__all__ = ["guarantees"]

_STALE = (3, 6, 9)
_CORRUPTS = ((3, 5, 0), (3, 5, 3))


def guarantees(members: int = 3, version: str = "3.6.16") -> StoreGuarantees:
    """Return what a cluster promises; `members` (that vote) is 0, `version` empty, if they are not known."""
    number = _number(version)
    notes = []
    if members < 3:
        alone = "There is one member" if members == 1 else f"{members or 'An unknown number of'} members vote"
        notes.append(f"{alone}, so losing a machine is not outlived.")
    if not number:
        notes.append("The user may not ask for etcd's version: see that it is 3.6.9 or newer.")
    elif _CORRUPTS[0] <= number < _CORRUPTS[1]:
        notes.append(f"etcd {version} can corrupt its data when it is killed: upgrade.")
    elif number < _STALE:
        notes.append(
            f"etcd {version} may read stale data from a member that was stopped (SIGSTOP) meanwhile."
        )
    return StoreGuarantees(
        engine="etcd",
        consistency=Consistency.LINEARIZABLE,
        durability=Durability.MACHINE_LOSS if members >= 3 else Durability.POWER_LOSS,
        scope=Scope.NETWORK,
        max_commit_keys=128,
        min_lease_s=2.0,
        notes=("Lease times are whole seconds. A commit holds about 1.5 MiB.", *notes),
    )


def _number(version: str) -> tuple[int, ...]:
    digits = [part for part in version.partition("-")[0].split(".") if part.isdigit()]
    return tuple(int(part) for part in digits)
