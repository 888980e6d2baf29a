"""When leases end by this client's clock. Pure: the time is an argument, in seconds of any steady clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

__all__ = ["Deadlines"]


class Deadlines:
    """The newest renewal of each lease, and when its time is over.

    A client counts from when it applied the renewal, which is after the holder asked for it, so it is never
    early. A client that begins with an image gives every lease its full time.
    """

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}
        self._heap: list[tuple[float, int, int]] = []

    def renewed(self, lease: int, renewals: int, ends_s: float) -> None:
        """A lease was granted (with no renewals yet) or renewed, and is over at `ends_s` if not again."""
        self._newest[lease] = renewals
        heapq.heappush(self._heap, (ends_s, lease, renewals))

    def next(self) -> float | None:
        """Return when the next lease is over, or None when there is none."""
        self._forget()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_s: float) -> Iterator[tuple[int, int]]:
        """Yield each lease that is over, and how often it was renewed."""
        while (at := self.next()) is not None and at <= now_s:
            _at, lease, renewals = heapq.heappop(self._heap)
            del self._newest[lease]
            yield lease, renewals

    def _forget(self) -> None:
        """Drop what was renewed since."""
        while self._heap and self._newest.get(self._heap[0][1]) != self._heap[0][2]:
            heapq.heappop(self._heap)
