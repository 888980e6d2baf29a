"""`Lease`: what the holder of a lock has in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..ports.store import Check, Fence
from .session import Session

__all__ = ["Lease"]


class Lease:
    """The right to be the only one, for as long as `lost` is false.

    No look at a clock makes an action safe: a process may be paused right after it. So let the Store decide:
    `put(..., fence=lease)` is refused as soon as the lease is over or a later token was seen.
    """

    def __init__(
        self, name: str, session: Session, key: str, token: int, *, fence: str | None, behind: int = 0
    ) -> None:
        self.name: str = name
        self.token: int = token
        """The fencing token. Of two leases of one name, the later one has the greater token."""
        self.behind: int = behind
        """How many waited when it was taken."""
        self.reason: str = ""
        """Why it was lost."""
        self._session = session
        self._key = key
        self._fence = fence
        self._gone = asyncio.Event()
        self._over = False
        self._on_lost: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        state = "over" if self._over else f"lost: {self.reason}" if self.lost else "held"
        return f"Lease({self.name!r}, token={self.token}, {state})"

    @property
    def lost(self) -> bool:
        """Whether it may have another holder by now: it is lost, or was given back."""
        return self._gone.is_set() or self._over or not self._session.believes

    @property
    def over(self) -> bool:
        """Whether it was given back."""
        return self._over

    @property
    def checks(self) -> tuple[Check, ...]:
        """What a commit must demand to be made by the holder: that its entry is still there."""
        return (Check(self._key, self.token),)

    @property
    def fences(self) -> tuple[Fence, ...]:
        """The fence that a commit must pass, and by passing raises for all earlier holders."""
        return (Fence(self._fence, self.token),) if self._fence is not None else ()

    async def wait_lost(self) -> str:
        """Return why, once it is lost or given back."""
        await self._gone.wait()
        return self.reason

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` once it is lost, but not when it is given back."""
        self._on_lost.append(callback)

    # What follows is for the queue that it was taken from.

    @property
    def session(self) -> Session:
        return self._session

    @property
    def key(self) -> str:
        return self._key

    def lose(self, reason: str) -> None:
        """Note that somebody else may hold it now."""
        if self._gone.is_set():
            return
        self.reason = reason
        self._gone.set()
        for callback in self._on_lost:
            callback()

    def end(self) -> None:
        """Note that it is being given back."""
        self._over = True
        self._on_lost.clear()
        self._gone.set()
