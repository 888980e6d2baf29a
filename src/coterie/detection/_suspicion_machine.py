"""How long a suspicion lasts, and how far a node trusts itself. Pure: time is an input.

Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate Failure Detection"
(DSN 2018).
"""

from __future__ import annotations

import math

__all__ = ["LocalHealth", "Suspicion"]


class Suspicion:
    """One node that is suspected, at one incarnation. It becomes shorter with everybody who confirms it."""

    __slots__ = ("_by", "_enough", "_least_s", "_most_s", "_since", "until")

    def __init__(self, by: str, now: float, *, least_s: float, most_s: float, enough: int) -> None:
        self._by = {by}
        self._since = now
        self._least_s = least_s
        self._most_s = most_s
        self._enough = enough
        self.until: float = self._end()
        """When the suspected node is taken to be dead."""

    def _end(self) -> float:
        if not self._enough:  # With nobody to confirm it, it is as short as it gets from the start.
            return self._since + self._least_s
        part = math.log(len(self._by)) / math.log(self._enough + 1)
        return self._since + max(self._least_s, self._most_s - (self._most_s - self._least_s) * part)

    def confirm(self, by: str) -> bool:
        """Take in that `by` suspects it as well; return whether that was news that counts."""
        if by in self._by or len(self._by) > self._enough:
            return False
        self._by.add(by)
        self.until = self._end()
        return True

    def extend(self, seconds: float) -> None:
        """Leave out `seconds` in which this node itself was not there to hear a refutation."""
        self._since += seconds
        self.until = self._end()


class LocalHealth:
    """A node's mark for itself: 0 is well, and with each point it takes more time before it blames others."""

    __slots__ = ("_worst", "score")

    def __init__(self, worst: int) -> None:
        self._worst = worst
        self.score: int = 0

    @property
    def factor(self) -> int:
        """By how much timeouts are longer than usual."""
        return 1 + self.score

    def worse(self, points: int = 1) -> None:
        self.score = min(self.score + points, self._worst)

    def better(self) -> None:
        self.score = max(self.score - 1, 0)
