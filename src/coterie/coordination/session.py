"""A node's lease for all that it holds and waits for: kept alive, believed in, and given up.

One lease serves all locks of a node, so taking a free lock costs one commit. It is granted when something is
first asked for, and given back when nothing has been held for a while.

Whether a commit of unknown outcome wrote an entry cannot be found out by looking: it may still be on its
way. So the lease that it named is used for nothing new, and revoked as soon as nothing else is held under it;
after that the Store refuses the straggler. Until then it is looked for at each renewal, and deleted, lest it
take the place of a holder that nobody is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from ..errors import Conflict, CoterieError, LeaseLost, NotRunning
from ..ports.clock import Clock
from ..ports.store import Check, Commit, Store
from ._machine import Tenure

__all__ = ["CoordinationConfig", "Session", "Sessions", "first_of"]

_log = logging.getLogger("coterie.coordination")

_IDLE_ROUNDS = 10
"""How many renewals in a row with nothing held end a session."""
_CHECKS = 100


async def first_of(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so long.

    Not by `asyncio.wait_for`: before Python 3.12 it swallows a cancellation that comes with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinationConfig:
    """How long the locks of a silent node stay its own, and what is bounded."""

    lease_s: float = 3.0
    """What a dead node held is free after this time. At least what the engine can keep."""
    margin_s: float = 0.25
    """How much earlier a node itself stops believing; covers the drift of clocks over one lease."""
    most_waiting: int = 1000
    """How many may hold and wait in one queue."""

    def __post_init__(self) -> None:
        if not 0.05 <= self.lease_s <= 3600:
            raise ValueError(f"lease_s must be between 0.05 and 3600 seconds, not {self.lease_s}")
        if not 0 < self.margin_s < self.lease_s / 2:
            raise ValueError(f"margin_s must be between 0 and half of lease_s, not {self.margin_s}")
        if not 1 <= self.most_waiting < 10_000:
            raise ValueError(f"most_waiting must be between 1 and 9,999, not {self.most_waiting}")


class Session:
    """One lease, and what lives under it: entries by key, each with what to call when it is lost."""

    def __init__(self, store: Store, clock: Clock, lease: int, tenure: Tenure) -> None:
        self.lease = lease
        self.usable: bool = True
        """Whether something new may be held under it."""
        self._store = store
        self._clock = clock
        self._tenure = tenure
        self._members: dict[str, Callable[[str], None]] = {}
        self._verified: dict[str, int] = {}
        self._orphans: set[str] = set()
        self._strays: set[str] = set()
        """Entries that may come to be at any time, for as long as the lease lives. What is there by then may
        be of a later attempt, under another lease."""
        self._kick = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._arm()
        self._task = asyncio.create_task(self._keep(), name="coterie-coordination-lease")

    @property
    def believes(self) -> bool:
        """Whether the lease certainly lives at this moment."""
        return not self._ended and self._tenure.believes(self._clock.boottime())

    @property
    def ended(self) -> bool:
        return self._ended

    def attach(self, key: str, on_lost: Callable[[str], None]) -> None:
        """Call `on_lost(reason)` once if the lease, or the entry of a verified key, is lost."""
        if self._ended:
            on_lost("its lease was lost")
        else:
            self._members[key] = on_lost

    def verify(self, key: str, version: int) -> None:
        """Look from time to time whether the entry is still there: somebody may delete it by force."""
        self._verified[key] = version

    def detach(self, key: str) -> None:
        self._members.pop(key, None)
        self._verified.pop(key, None)
        if not self.usable and not self._members:
            self._kick.set()

    def orphan(self, key: str, *, stray: bool) -> None:
        """See to it that the entry is deleted. A `stray` one may still be on its way to the Store."""
        self.detach(key)
        if self._ended:
            return
        if stray:
            self.usable = False
            self._strays.add(key)
        else:
            self._orphans.add(key)
        self._kick.set()

    def lose(self, reason: str) -> None:
        """Stop believing, now and for ever."""
        if self._ended:
            return
        self._ended, self.usable = True, False
        if self._timer is not None:
            self._timer.cancel()
        self._kick.set()
        members, self._members = self._members, {}
        self._verified.clear()
        for on_lost in members.values():
            on_lost(reason)

    async def stop(self) -> None:
        """Stop renewing, and say nothing to the Store. Idempotent."""
        self.lose("the node stops")
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def revoke(self) -> None:
        """End the lease; what is written under it is gone when this returns."""
        await self.stop()
        await self._store.revoke(self.lease)

    def _arm(self) -> None:
        left_s = self._tenure.believed_until - self._clock.boottime()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._on_timer)

    def _on_timer(self) -> None:
        if self.believes:
            self._arm()  # Renewed meanwhile, or the loop's clock is faster than this one.
        else:
            self.lose("its lease could not be renewed in time")

    async def _keep(self) -> None:
        idle = 0
        wait_s = self._tenure.next_renewal_s(self._clock.boottime())
        while not self._ended:
            await first_of(self._kick, wait_s)
            self._kick.clear()
            if not self.usable and not self._members:
                self.lose("it is given back")
            if self.ended:
                break
            try:
                await self._renew()
                await self._forget_orphans()
                await self._delete_strays()
                wait_s = self._tenure.next_renewal_s(self._clock.boottime())
            except LeaseLost:
                self.lose("its lease has ended in the Store")
            except CoterieError as error:
                _log.warning("could not renew the lease of what this node holds: %s", error)
                wait_s = min(1.0, self._tenure.ttl_s / 10)
            idle = 0 if self._members or self._orphans else idle + 1
            if idle >= _IDLE_ROUNDS:
                self.lose("it is given back")
        with suppress(CoterieError):  # It ends by itself.
            await self._store.revoke(self.lease)

    async def _renew(self) -> None:
        began = self._clock.boottime()
        if began < self._tenure.renewed_at + self._tenure.ttl_s / 3:
            return  # Woken for another reason.
        await self._store.renew(self.lease)
        self._tenure.renewed_at = began
        keys = list(self._verified.items())
        for first in range(0, len(keys), _CHECKS):
            await self._verify(keys[first : first + _CHECKS])

    async def _verify(self, keys: list[tuple[str, int]]) -> None:
        try:
            await self._store.commit(Commit(checks=tuple(Check(key, version) for key, version in keys)))
        except Conflict:
            for key, version in keys:
                entry = await self._store.get(key)
                if (entry is None or entry.version != version) and self._verified.get(key) == version:
                    on_lost = self._members.get(key)
                    self.detach(key)
                    if on_lost is not None:
                        on_lost("somebody released it by force")

    async def _forget_orphans(self) -> None:
        while self._orphans:
            keys = tuple(sorted(self._orphans))[:_CHECKS]
            await self._store.commit(Commit((), keys))
            self._orphans.difference_update(keys)

    async def _delete_strays(self) -> None:
        for key in sorted(self._strays):
            entry = await self._store.get(key)
            if entry is not None and entry.lease == self.lease:
                with suppress(Conflict):
                    await self._store.commit(Commit((), (key,), (Check(key, entry.version),)))


class Sessions:
    """The session that new entries are written under, and older ones that something is still held under."""

    def __init__(self, store: Store, clock: Clock, config: CoordinationConfig) -> None:
        self._store = store
        self._clock = clock
        self._config = config
        self._granting = asyncio.Lock()
        self._all: list[Session] = []
        self._closed = False

    async def current(self) -> Session:
        """Return the session to use now. Raises `Unavailable` when a lease is needed and not granted."""
        if self._all and self._usable(self._all[-1]):
            return self._all[-1]
        async with self._granting:
            if self._all and self._usable(self._all[-1]):
                return self._all[-1]
            if self._closed:
                raise NotRunning("this node is leaving; it takes no more locks")
            self._all = [session for session in self._all if not session.ended]
            ttl_s = max(self._config.lease_s, self._store.guarantees.min_lease_s)
            began = self._clock.boottime()
            lease = await self._store.grant(ttl_s)
            if self._closed:
                with suppress(CoterieError):  # It ends by itself.
                    await self._store.revoke(lease)
                raise NotRunning("this node is leaving; it takes no more locks")
            tenure = Tenure(ttl_s, min(self._config.margin_s, ttl_s / 4), began)
            self._all.append(Session(self._store, self._clock, lease, tenure))
            return self._all[-1]

    @staticmethod
    def _usable(session: Session) -> bool:
        return session.usable and session.believes

    async def release(self) -> None:
        """Give everything back: what this node held is free when this returns."""
        self._closed = True
        sessions, self._all = self._all, []
        await asyncio.gather(*(session.revoke() for session in sessions if not session.ended))

    async def close(self) -> None:
        """Stop without a word to the Store, as a crash would. Idempotent."""
        self._closed = True
        sessions, self._all = self._all, []
        for session in sessions:
            await session.stop()
