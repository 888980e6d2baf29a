"""Writes that only the holder of a lease may make."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from ..context import current, note_failure
from ..errors import Conflict, Fenced, Outcome, Unavailable
from ..ports.store import ABSENT, Check, Commit, Fence, Store

__all__ = ["Fencing", "Held", "commit_fenced", "demands"]


class Held(Protocol):
    """What `fence=` takes: a lease, as `app.lock` and its like give it."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """What is true for exactly as long as the lease is held."""
        ...

    @property
    def fences(self) -> tuple[Fence, ...]:
        """What no earlier holder can pass once it was passed."""
        ...


Fencing: TypeAlias = Held | Fence
"""A lease; or, where only its token is known, `Fence(name, token)` from `coterie.ports`."""


def demands(fence: Fencing | None) -> tuple[tuple[Check, ...], tuple[Fence, ...]]:
    """Return what a commit under `fence` must demand."""
    if fence is None:
        return (), ()
    if isinstance(fence, Fence):
        return (), (fence,)
    return fence.checks, fence.fences


async def commit_fenced(store: Store, commit: Commit, fence: Fencing | None) -> int:
    """Commit under `fence`; raise `Fenced` if that is why it is refused, `Conflict` for other checks."""
    try:
        version = await _commit(store, commit, fence)
    except BaseException as error:
        note_failure(error)
        raise
    if commit.puts or commit.deletes:
        current().acted = True
    return version


async def _commit(store: Store, commit: Commit, fence: Fencing | None) -> int:
    checks, fences = demands(fence)
    if not checks and not fences:
        return await store.commit(commit)
    try:
        return await store.commit(
            Commit(commit.puts, commit.deletes, commit.checks + checks, commit.fences + fences)
        )
    except Fenced:
        raise
    except Conflict as error:
        for check in checks:
            try:
                entry = await store.get(check.key)
            except Unavailable as unsure:
                unsure.outcome = Outcome.NOT_APPLIED  # Only why it was refused is not known.
                raise
            if (ABSENT if entry is None else entry.version) != check.version:
                raise Fenced(
                    f"the lease with the token {check.version} is over: who writes does not hold it any more",
                    hint="take the lock again, read again, and decide anew",
                ) from error
        raise
