"""Lets calls in as long as not too many are under way, and lets a bounded number wait."""

from __future__ import annotations

import asyncio

from ..errors import DeadlineExceeded, Outcome, Overloaded
from .limit import AdaptiveLimit, AdaptiveLimitConfig
from .queue import AdmissionQueue, Priority, QueueConfig, Waiting

__all__ = ["Limiter"]


class Limiter:
    """A bulkhead, or an adaptive limit, with its queue. Each call that is let in ends in one `leave`."""

    def __init__(
        self, limit: int | AdaptiveLimitConfig, queue: QueueConfig | None = None, *, name: str
    ) -> None:
        self._loop = asyncio.get_running_loop()
        config = limit
        if isinstance(config, int):
            config = AdaptiveLimitConfig(initial=config, lowest=config, highest=config)
        self.state: AdaptiveLimit = AdaptiveLimit(config, now=self._loop.time())
        self._queue: AdmissionQueue[asyncio.Future[None]] = AdmissionQueue(queue)
        self._name = name
        self._timer: asyncio.TimerHandle | None = None
        self.refused: int = 0
        """How many were turned away so far."""

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    def enter_nowait(self) -> bool:
        """Let a call in if there is room and nobody waits."""
        return not len(self._queue) and self.state.admit()

    async def enter(self, priority: Priority = 1, deadline: float | None = None) -> None:
        """Let a call in, now or after a wait; raise `Overloaded` (not applied) if it is turned away.

        Whoever would wait beyond `deadline`, a time of the loop's clock, gets `DeadlineExceeded`.
        """
        if self.enter_nowait():
            return
        now = self._loop.time()
        room: asyncio.Future[None] = self._loop.create_future()
        place, displaced = self._queue.add(room, priority, now)
        if displaced is not None:
            self._turn_away(displaced)
        if place is None:
            raise self._refusal()
        self._schedule()
        scope = asyncio.timeout_at(deadline)
        try:
            async with scope:
                await room
        except BaseException as error:
            if room.done() and not room.cancelled() and room.exception() is None:
                self.leave(None)  # It was let in just as it gave up.
            self._queue.leave(place)
            if isinstance(error, TimeoutError) and scope.expired():
                raise DeadlineExceeded(
                    f"the deadline was over while the call waited for {self._name}",
                    outcome=Outcome.NOT_APPLIED,
                ) from None
            raise

    def leave(self, took_s: float | None, *, dropped: bool = False) -> None:
        """End a call that was let in; see `AdaptiveLimit.release`."""
        self.state.release(self._loop.time(), took_s, dropped=dropped)
        if len(self._queue):
            self._let_in()

    def _let_in(self) -> None:
        now = self._loop.time()
        for late in self._queue.expire(now):
            self._turn_away(late)
        while len(self._queue) and self.state.admit():
            place = self._queue.take(now)
            assert place is not None  # noqa: S101 - the queue is not empty
            if place.item.done():
                self.state.release(now, None)  # It gave up in this very moment.
            else:
                place.item.set_result(None)

    def _schedule(self) -> None:
        if self._timer is None:
            expiry = self._queue.next_expiry(self._loop.time())
            if expiry is not None:
                self._timer = self._loop.call_at(expiry, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for late in self._queue.expire(self._loop.time()):
            self._turn_away(late)
        self._schedule()

    def _turn_away(self, place: Waiting[asyncio.Future[None]]) -> None:
        if not place.item.done():
            place.item.set_exception(self._refusal())

    def _refusal(self) -> Overloaded:
        self.refused += 1
        return Overloaded(
            f"{self._name} has {self.state.under_way} calls under way and {len(self._queue)} waiting",
            hint="try again later, with less at once",
        )
