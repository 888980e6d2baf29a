"""Whom the writer waits for a moment before it cuts the next transaction. Pure.

The writer's own process hears its results at once and is there again for the very next transaction;
another process hears them over a socket and would only be there for the one after: it would get half
the turns. So the writer waits for those who were just answered, as PostgreSQL's `commit_delay` does.
Whoever does not come back in that moment is not waited for the next times, the more often the more.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Turns"]

_MAX_SKIPS = 64
"""Nobody is waited for in vain more often than once in so many answers."""


class Turns:
    """Learns, by session, who comes back at once."""

    def __init__(self) -> None:
        self.awaited: set[str] = set()
        """Who was answered and is expected back."""
        self._skips: dict[str, int] = {}
        self._backoff: dict[str, int] = {}

    def answered(self, sessions: Iterable[str]) -> None:
        """These have just been answered: expect them, but for those who disappointed."""
        for session in sessions:
            left = self._skips.get(session, 0)
            if left:
                self._skips[session] = left - 1
            else:
                self.awaited.add(session)

    def came(self, session: str) -> None:
        """This one has sent an operation."""
        if session in self.awaited:
            self.awaited.remove(session)
            self._backoff[session] = self._backoff.get(session, 1) // 2

    def give_up(self) -> None:
        """The moment is over: whoever is still awaited did not come."""
        for session in self.awaited:
            backoff = self._skips[session] = max(1, self._backoff.get(session, 0))
            self._backoff[session] = min(_MAX_SKIPS, 2 * backoff)
        self.awaited.clear()

    def forget(self, session: str) -> None:
        """This one has gone."""
        self.awaited.discard(session)
        self._skips.pop(session, None)
        self._backoff.pop(session, None)
