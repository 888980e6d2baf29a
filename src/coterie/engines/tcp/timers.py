"""One timer for many deadlines.

A timer of the loop for each request would cost more than the request. Deadlines are rounded up to
ticks and kept in one dict a tick, so that setting and clearing one is a dict operation (Varghese and
Lauck, "Hashed and Hierarchical Timing Wheels", 1987, with a dict for the wheel).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Deadlines"]

_TICK_S = 0.01


class Deadlines:
    """Calls back what was set and not cleared, at its time or up to a tick (10 ms) later."""

    __slots__ = ("_at", "_buckets", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, dict[Callable[[], object], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0
        """The tick that the timer is set for."""

    def set(self, when: float, callback: Callable[[], object]) -> int:
        """Call `callback` at `when`, a time of the loop; return the tick to clear it with."""
        tick = int(when / _TICK_S) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            if self._timer is None or tick < self._at:
                self._schedule(tick)
        bucket[callback] = None
        return tick

    def clear(self, tick: int, callback: Callable[[], object]) -> None:
        """Forget `callback`. Does nothing when it was called already."""
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.pop(callback, None)

    def close(self) -> None:
        self._buckets.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = tick
        self._timer = self._loop.call_at(tick * _TICK_S, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time() + _TICK_S / 100
        due = sorted(tick for tick in self._buckets if tick * _TICK_S <= now)
        callbacks = [callback for tick in due for callback in self._buckets.pop(tick)]
        # Empty buckets are dropped when their time comes, so there are never more than ticks to the
        # farthest deadline.
        if self._buckets:
            self._schedule(min(self._buckets))
        for callback in callbacks:
            callback()
