"""One timer for the deadlines of everything that is under way.

A timer for each call would cost more than the call, and nearly none would ever go off; to keep a
wheel of them costs a quarter of a call. So a deadline is only kept with what it belongs to, and one
timer is set for the earliest. When it goes off, all that is under way is looked through for what is
over and for the deadline that is now the earliest. Where calls have the same time each, that happens
once in that time; it never happens more than once in a tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil, inf

__all__ = ["TICK_S", "Deadlines"]

TICK_S = 0.01


class Deadlines:
    """Calls `sweep` when a deadline is over or up to a tick of 10 ms later.

    `sweep(now)` ends what has a deadline of `now` or before, and returns the earliest of the other
    deadlines, or infinity. For each deadline, unless it is not before `next`, `watch` must be called:

        if deadline < deadlines.next:
            deadlines.watch(deadline)
    """

    __slots__ = ("_loop", "_sweep", "_timer", "next")

    def __init__(self, loop: asyncio.AbstractEventLoop, sweep: Callable[[float], float]) -> None:
        self.next: float = inf
        """When `sweep` is called next, in the loop's time."""
        self._loop = loop
        self._sweep = sweep
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, deadline: float) -> None:
        """See to it that `sweep` is called at `deadline`, a time of the loop's clock."""
        tick = max(deadline, ceil(deadline / TICK_S) * TICK_S)
        if tick < self.next:
            if self._timer is not None:
                self._timer.cancel()
            self.next = tick
            self._timer = self._loop.call_at(tick, self._on_timer)

    def close(self) -> None:
        """Watch for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.next = -inf

    def _on_timer(self) -> None:
        # A loop may call a timer early by the resolution of its clock: asyncio's by a nanosecond,
        # uvloop's by less than a millisecond. What the timer was set for is over all the same.
        now = max(self.next, self._loop.time())
        self._timer = None
        self.next = inf
        earliest = self._sweep(now)
        if earliest < inf:
            self.watch(earliest)
