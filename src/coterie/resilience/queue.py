"""Who waits, and who is turned away, when more comes than can be done. Pure: time is an input.

A bounded queue with priorities. As long as it empties now and then, it is first in, first out and
patient. Once it has not been empty for `interval_s` it is overloaded: then the newest of the most
important go first, because the oldest are nearly given up by their callers, and nobody waits longer
than `target_s`. Source: Maurer, "Fail at Scale" (ACM Queue, 2015), for adaptive LIFO and the use of
CoDel (Nichols and Jacobson, 2012) on requests.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import InvalidConfiguration

__all__ = ["AdmissionQueue", "Priority", "QueueConfig", "Waiting"]

T = TypeVar("T")

Priority = int
"""0 is the most important; the lowest is 3."""
LEVELS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """The bounds of an admission queue."""

    length: int = 128
    """How many may wait. 0: nobody waits, whoever cannot start at once is turned away."""
    target_s: float = 0.005
    """How long one waits at most while there is overload."""
    interval_s: float = 0.1
    """How long one waits at most otherwise; overload is a queue that was not empty for this long."""

    def __post_init__(self) -> None:
        if not 0 <= self.length <= 1_000_000 or not 0 < self.target_s <= self.interval_s <= 3600:
            raise InvalidConfiguration(f"a queue needs length >= 0 and 0 < target_s <= interval_s: {self}")


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """One that waits; `gone` once it was let in, turned away, or gave up by itself."""

    item: T
    priority: Priority
    since: float
    gone: bool = False


class AdmissionQueue(Generic[T]):
    """Keeps those that wait. Whoever drives it calls `take` when there is room and `expire` now and then."""

    def __init__(self, config: QueueConfig | None = None) -> None:
        self._config = config or QueueConfig()
        self._levels: tuple[deque[Waiting[T]], ...] = tuple(deque() for _ in range(LEVELS))
        self._busy_since: float | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def overloaded(self, now: float) -> bool:
        """Return whether the queue has not been empty for `interval_s`."""
        # Sums as in `next_expiry`, not differences: else rounding leaves a moment in which nothing is due.
        return self._busy_since is not None and now >= self._busy_since + self._config.interval_s

    def add(self, item: T, priority: Priority, now: float) -> tuple[Waiting[T] | None, Waiting[T] | None]:
        """Let `item` wait. Return its place, or None if it is turned away, and who made room for it."""
        displaced = None
        if self._length >= self._config.length:
            displaced = self._least_important_below(priority)
            if displaced is None:
                return None, None
            self.leave(displaced)
        if self._busy_since is None:
            self._busy_since = now
        place = Waiting(item, priority, now)
        self._levels[priority].append(place)
        self._length += 1
        return place, displaced

    def leave(self, place: Waiting[T]) -> None:
        """Take out one that gave up, or was turned away. Does nothing when it is gone already."""
        if place.gone:
            return
        place.gone = True
        self._length -= 1
        self._levels[place.priority].remove(place)
        self._note_empty()

    def take(self, now: float) -> Waiting[T] | None:
        """Return who goes next, or None. Those who waited for too long must have been expired before."""
        newest = self.overloaded(now)
        for level in self._levels:
            if level:
                place = level.pop() if newest else level.popleft()
                place.gone = True
                self._length -= 1
                self._note_empty()
                return place
        return None

    def expire(self, now: float) -> list[Waiting[T]]:
        """Turn away those who have waited for too long, and return them."""
        patience_s = self._config.target_s if self.overloaded(now) else self._config.interval_s
        expired = []
        for level in self._levels:
            while level and now >= level[0].since + patience_s:
                place = level.popleft()
                place.gone = True
                self._length -= 1
                expired.append(place)
        self._note_empty()
        return expired

    def next_expiry(self, now: float) -> float | None:
        """Return when `expire` will have something to do, or None while nobody waits."""
        oldest = min((level[0].since for level in self._levels if level), default=None)
        if oldest is None or self._busy_since is None:
            return None
        if self.overloaded(now):
            return oldest + self._config.target_s
        overload = max(self._busy_since + self._config.interval_s, oldest + self._config.target_s)
        return min(overload, oldest + self._config.interval_s)

    def _least_important_below(self, priority: Priority) -> Waiting[T] | None:
        for level in reversed(self._levels[priority + 1 :]):
            if level:
                return level[-1]
        return None

    def _note_empty(self) -> None:
        if not self._length:
            self._busy_since = None
