"""A rate limit for the whole cluster, by key: GCRA on the Store, taken in batches.

The record of a key is one number, the time at which the next unit would be due (see `rate.Gcra`). A node
moves it by a batch of units with one compare-and-set and spends them without asking again. What it has
not spent after `_HOLD_S` it gives up: so a batch is leased, and nodes that are busy get more than others.

Times are of the nodes' wall clocks. Over any time the cluster lets through at most `burst` and what the
rate earned by the clock that is furthest ahead; a node whose clock is behind is refused for as much longer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Literal, TypeAlias

import msgspec

from ..codec import record_decoder
from ..context import current
from ..errors import (
    Conflict,
    InvalidArgument,
    InvalidConfiguration,
    LeaseLost,
    NotRunning,
    Outcome,
    RateLimited,
    Unavailable,
)
from ..ports.clock import Clock
from ..ports.store import ABSENT, Check, Commit, Put, Store
from .events import Listener, PolicyEvent, PolicyEventKind
from .rate import Rate, grant

__all__ = ["RateBinding", "RateLimit", "WhenUnsure"]

WhenUnsure: TypeAlias = Literal["open", "closed"]

_HOLD_S = 1.0
_MOST_KEYS = 10_000
_ATTEMPTS = 20
_MAX_KEY = 512
_encode = msgspec.msgpack.Encoder().encode
_decode = record_decoder(float, "a rate limit")


class _Held:
    """What one node has of one key."""

    __slots__ = ("batch", "lock", "refused_until", "since", "units")

    def __init__(self) -> None:
        self.units = 0.0
        self.since = 0.0
        self.batch = 1
        """How many units it asks for the next time: more when the last ones were spent at once."""
        self.refused_until = 0.0
        self.lock = asyncio.Lock()


class RateLimit:
    """At most `rate.rate` units per `rate.per` seconds and key, in the whole cluster.

    Declared with `app.rate_limit(...)`. `when_unsure` says what happens while the Store does not answer:
    `open` lets everything through, `closed` nothing.
    """

    def __init__(self, name: str, rate: Rate, *, when_unsure: WhenUnsure = "open") -> None:
        if when_unsure not in {"open", "closed"}:
            raise InvalidConfiguration(f"when_unsure must be 'open' or 'closed', not {when_unsure!r}")
        self.name = name
        self.rate = rate
        self.when_unsure: WhenUnsure = when_unsure

    def __repr__(self) -> str:
        return f"RateLimit({self.name!r}, {self.rate})"

    async def acquire(self, key: str = "", *, units: int = 1) -> None:
        """Take `units` of what `key` may use.

        Raises `RateLimited`, with the time after which they can be had in `retry_after_s`; `Unavailable`
        when the Store does not answer and the limit is `closed`.
        """
        try:
            bound: RateBinding = current().bindings[self]
        except KeyError:
            raise NotRunning(
                f"the rate limit {self.name!r} is not declared by the app that runs here",
                hint="declare it with app.rate_limit(...) before the node starts, and use the same app",
            ) from None
        if not 1 <= units <= self.rate.burst:
            raise InvalidArgument(
                f"{self.name}: at once one can have 1 to {self.rate.burst} units, not {units}",
                hint="raise the burst of the limit",
            )
        if len(key) > _MAX_KEY or "\0" in key:
            raise InvalidArgument(
                f"{self.name}: a key is text of at most {_MAX_KEY} characters, not {key!r:.60}"
            )
        await bound.acquire(key, units)


class RateBinding:
    """What one node makes of a rate limit."""

    def __init__(
        self,
        limit: RateLimit,
        *,
        store: Store,
        prefix: str,
        clock: Clock,
        listener: Listener | None = None,
    ) -> None:
        self._limit = limit
        self._store = store
        self._prefix = prefix
        self._clock = clock
        self._listener = listener
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._most = max(1, limit.rate.burst // 4)
        # A record that nobody moves says nothing once its burst is earned again; leases clear it away.
        self._idle_s = limit.rate.interval_s * limit.rate.burst
        self._lease = 0
        self._lease_until = 0.0
        self.unsure: int = 0
        """How often units were given or refused without the Store."""

    async def acquire(self, key: str, units: int) -> None:
        """Take `units`, or raise `RateLimited` or `Unavailable`."""
        held = self._of(key)
        if self._spend(held, units):
            return
        async with held.lock:
            if self._spend(held, units):  # Somebody else has fetched some meanwhile.
                return
            now = self._clock.monotonic()
            wait_s = held.refused_until - now
            if wait_s <= 0:
                wait_s = await self._fetch(key, held, units)
            if wait_s > 0:
                if self._listener is not None:
                    self._listener(PolicyEvent(PolicyEventKind.LIMITED, self._limit.name))
                raise RateLimited(
                    f"the rate limit {self._limit.name!r} is used up" + (f" for {key[:80]!r}" if key else ""),
                    retry_after_s=wait_s,
                )

    def _of(self, key: str) -> _Held:
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held()
            if len(self._held) > _MOST_KEYS:
                self._held.popitem(last=False)  # Its units, if it has any, are lost: a little is refused.
        else:
            self._held.move_to_end(key)
        return held

    def _spend(self, held: _Held, units: int) -> bool:
        if held.units < units:
            return False
        if self._clock.monotonic() - held.since > _HOLD_S:
            held.units, held.batch = 0.0, 1
            return False
        held.units -= units
        return True

    async def _fetch(self, key: str, held: _Held, units: int) -> float:
        """Take a batch from the Store and spend `units` of it; return how long to wait if it has too few."""
        batch = max(units, min(held.batch, self._most))
        try:
            granted, wait_s = await self._move(self._prefix + key, units, batch)
        except Unavailable as error:
            self.unsure += 1
            if self._limit.when_unsure == "open":
                return 0.0
            raise Unavailable(
                f"nobody can tell whether the rate limit {self._limit.name!r} is used up: {error.message}",
                outcome=Outcome.NOT_APPLIED,
            ) from error
        now = self._clock.monotonic()
        if not granted:
            # Only a single unit speaks for all: another call may need fewer.
            held.refused_until = now + wait_s if units == 1 else 0.0
            return wait_s
        quickly = now - held.since < _HOLD_S / 4
        held.batch = min(self._most, held.batch * 2) if quickly else max(1, held.batch // 2)
        left = held.units if now - held.since <= _HOLD_S else 0.0
        held.units, held.since = left + granted - units, now
        return 0.0

    async def _move(self, stored: str, least: int, most: int) -> tuple[int, float]:
        """Move the record of a key by up to `most` units; return how many, or 0 and how long to wait."""
        for _ in range(_ATTEMPTS):
            entry = await self._store.get(stored)
            now = self._clock.time()
            due = 0.0 if entry is None else _decode(entry.value)
            granted, due, wait_s = grant(self._limit.rate, due, now, least=least, most=most)
            if not granted:
                return 0, wait_s
            check = Check(stored, ABSENT if entry is None else entry.version)
            try:
                put = Put(stored, _encode(due), await self._leased())
                await self._store.commit(Commit((put,), (), (check,)))
            except LeaseLost:
                self._lease_until = 0.0
            except Conflict:
                continue
            else:
                return granted, 0.0
        return 0, self._limit.rate.interval_s

    async def _leased(self) -> int:
        """Return a lease that outlives the burst of what is written under it."""
        now = self._clock.monotonic()
        if now >= self._lease_until:
            least_s = max(self._idle_s, self._store.guarantees.min_lease_s, 60.0)
            self._lease = await self._store.grant(2 * least_s)
            self._lease_until = now + least_s
        return self._lease
