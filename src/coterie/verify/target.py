"""What workloads ask of the system under test, be it through a port or through a plain client library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["Holding", "MicroOperation", "Target"]

MicroOperation = tuple[str, str, Any]
"""A step of a transaction: ("append", key, element), or ("r", key, None) with its result at the end."""


class Holding(Protocol):
    """A lock that was acquired. `token` rises from one holder to the next."""

    @property
    def token(self) -> int: ...


class Target(Protocol):
    """One client's way to the system. Each method is one operation of a history.

    A method raises an error of Coterie with the outcome `not_applied` only if it certainly had no effect.
    None retries what may have been applied.
    """

    offers: frozenset[str]
    """The names of the workloads whose methods it has."""

    async def prepare(self) -> None:
        """Make what the workloads expect to be there: accounts, tables. One client does so, once."""
        ...

    # register
    async def read(self, key: str) -> int | None:
        """Return the value of a register, None for one that was never written."""
        ...

    async def write(self, key: str, value: int) -> None: ...

    async def swap(self, key: str, old: int | None, new: int) -> None:
        """Write `new` if the value is `old`. Raises `Conflict` if it is another."""
        ...

    # set
    async def add(self, key: str, element: int) -> None: ...

    async def members(self, key: str) -> list[int]: ...

    # log
    async def append(self, key: str, value: int) -> int:
        """Append a record to a partition, and return its offset."""
        ...

    async def records(self, key: str, offset: int) -> list[tuple[int, int]]:
        """Return the records at or beyond `offset`, as pairs of offset and value."""
        ...

    # lock
    async def acquire(self, key: str, owner: str, ttl_s: float) -> Holding:
        """Take a lock that ends by itself after `ttl_s`. Raises `Conflict` if somebody has it."""
        ...

    async def guarded_write(self, key: str, holding: Holding) -> None:
        """Write what the lock guards, as its holder. Raises `Fenced` if the system knows better."""
        ...

    async def release(self, key: str, holding: Holding) -> None: ...

    # bank
    async def transfer(self, source: str, target: str, amount: int) -> None:
        """Move money. Raises `Conflict` if there is not enough, or others were faster."""
        ...

    async def balances(self) -> dict[str, int]: ...

    # append
    async def transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        """Do the steps as one transaction, and return them with what the reads saw."""
        ...

    async def clear(self) -> None:
        """Delete what the run has written."""
        ...
