"""One timer for many deadlines.

A timer of the loop for each request would cost more than the request. Deadlines are rounded up to
ticks, and what is due in one tick is kept in one set, so that setting and clearing a deadline are
set operations (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, with a dict for
the wheel and a heap of its ticks).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Generic, TypeVar

__all__ = ["TICKS_PER_S", "Deadlines"]

T = TypeVar("T")

TICKS_PER_S = 100
_COARSE_FROM = 60 * TICKS_PER_S
_COARSE = TICKS_PER_S


class Deadlines(Generic[T]):
    """Calls `expire` with what was added and not discarded, at its time or up to a tick later.

    A tick is 10 ms; a deadline that is more than a minute away is rounded up to a second, so that
    there are never many ticks. To set a deadline add to the set that `at` returns, to clear it
    discard from that set:

        due = deadlines.at(when)
        due.add(call)
        ...
        due.discard(call)
    """

    __slots__ = ("_at", "_expire", "_heap", "_loop", "_timer", "ticks")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[T], object]) -> None:
        self.ticks: dict[int, set[T]] = {}
        """What is due by tick. Read by the hot path, which finds most of its ticks here."""
        self._loop = loop
        self._expire = expire
        self._heap: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0
        """The tick that the timer is set for."""

    def at(self, when: float) -> set[T]:
        """Return the set of what is due at `when`, a time of the loop's clock."""
        tick = int(when * TICKS_PER_S) + 1
        if tick - self._loop.time() * TICKS_PER_S > _COARSE_FROM:
            tick += -tick % _COARSE
        due = self.ticks.get(tick)
        if due is None:
            due = self.ticks[tick] = set()
            heappush(self._heap, tick)
            if self._timer is None or tick < self._at:
                self._schedule(tick)
        return due

    def close(self) -> None:
        """Forget all."""
        self.ticks.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = tick
        self._timer = self._loop.call_at(tick / TICKS_PER_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # A loop may call a timer early by the resolution of its clock: asyncio's by a nanosecond,
        # uvloop's by less than a millisecond.
        now = self._loop.time() * TICKS_PER_S + 0.1
        over: list[set[T]] = []
        while self._heap and self._heap[0] <= now:
            over.append(self.ticks.pop(heappop(self._heap)))
        if self._heap:
            self._schedule(self._heap[0])
        for due in over:
            for item in tuple(due):
                self._expire(item)
