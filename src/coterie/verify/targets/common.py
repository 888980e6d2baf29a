"""What the ways through plain client libraries have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ...errors import Conflict, CoterieError, Outcome, Unavailable
from ..target import Holding, MicroOperation

__all__ = ["UNFENCED", "PartialTarget", "RawHolding", "again", "harmless"]

T = TypeVar("T")

_TRIES = 4

UNFENCED = {("lock", "no write of a former holder"): "the lock has no fence: who was paused goes on to write"}
"""What no lock promises that is used without its token."""


@dataclass(frozen=True, slots=True)
class RawHolding:
    """A lock that was acquired: its token, and what it takes to release it."""

    token: int
    owner: str
    lease: int = 0


class PartialTarget:
    """`Target` of a client that does not offer all: what is not offered is not asked of it."""

    offers: frozenset[str] = frozenset()

    async def read(self, key: str) -> int | None:
        raise _not_offered()

    async def write(self, key: str, value: int) -> None:
        raise _not_offered()

    async def swap(self, key: str, old: int | None, new: int) -> None:
        raise _not_offered()

    async def add(self, key: str, element: int) -> None:
        raise _not_offered()

    async def members(self, key: str) -> list[int]:
        raise _not_offered()

    async def append(self, key: str, value: int) -> int:
        raise _not_offered()

    async def records(self, key: str, offset: int) -> list[tuple[int, int]]:
        raise _not_offered()

    async def acquire(self, key: str, owner: str, ttl_s: float) -> Holding:
        raise _not_offered()

    async def guarded_write(self, key: str, holding: Holding) -> None:
        raise _not_offered()

    async def release(self, key: str, holding: Holding) -> None:
        raise _not_offered()

    async def transfer(self, source: str, target: str, amount: int) -> None:
        raise _not_offered()

    async def balances(self) -> dict[str, int]:
        raise _not_offered()

    async def transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        raise _not_offered()


def _not_offered() -> CoterieError:
    return Unavailable("this client does not offer it", outcome=Outcome.NOT_APPLIED)


async def again(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again what had no effect because somebody else was faster, a few times."""
    for _ in range(_TRIES - 1):
        try:
            return await attempt()
        except Conflict:
            continue
    return await attempt()


async def harmless(asking: Awaitable[T]) -> T:
    """Say of what only reads that it had no effect. Nor has a grant: a lease nobody knows guards nothing."""
    try:
        return await asking
    except CoterieError as error:
        error.outcome = Outcome.NOT_APPLIED
        raise
