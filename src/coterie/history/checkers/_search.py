"""The search for a linearization of operations on any object: Wing, Gong and Lowe.

Wing and Gong (Testing and verifying concurrent objects, J. Parallel Distrib. Comput. 17, 1993) try
the operations that may come next, one after the other, and go back when stuck. Lowe (Testing for
linearizability, Concurrency and Computation 29(4), 2017) remembers each pair of linearized operations
and state, so that none is tried twice. Here in addition: an operation that only reads, and may come
next, is taken at once, which is never wrong; of equal operations with unknown outcomes only the one
that began first is tried; and what lets the most urgent operation come next is tried first. The
problem is NP-complete, so the search has a budget of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from ..operations import NEVER, Interval
from ._common import freeze

__all__ = ["REJECT", "Budget", "Step", "search"]


class _Reject:
    """What a step returns when the object could not have answered so in that state."""


REJECT = _Reject()

Step = Callable[[Hashable, Interval], Hashable]
"""Returns the state after an operation with its result, or `REJECT`."""


@dataclass(slots=True)
class Budget:
    """The steps that a search may still take; shared by the searches of one check."""

    steps: int

    def spend(self) -> bool:
        self.steps -= 1
        return self.steps >= 0


def search(
    group: Sequence[Interval],
    initial: Hashable,
    step: Step,
    *,
    reads: Callable[[Interval], bool],
    budget: Budget,
) -> bool | None:
    """Return whether a linearization exists, or None if the budget ended first.

    `group` is sorted by `start` and holds operations that happened or may have. `reads` says which
    ones never change the state.
    """
    known = [op for op in group if op.end != NEVER]
    maybe = [op for op in group if op.end == NEVER]
    return _Search(known, maybe, step, reads, budget).run(initial)


class _Search:
    """Places are (base, mask, taken, state): known operations before `base` are all linearized, `mask`
    has a bit for each one after it, and `taken` one for each operation of unknown outcome."""

    def __init__(
        self,
        known: list[Interval],
        maybe: list[Interval],
        step: Step,
        reads: Callable[[Interval], bool],
        budget: Budget,
    ) -> None:
        self.known = known
        self.starts = [op.start for op in known]
        self.ends = [op.end for op in known]
        self.maybe = maybe
        self.kinds = [(op.f, freeze(op.argument)) for op in maybe]
        self.step = step
        self.reading = [reads(op) for op in known]
        self.budget = budget

    def run(self, initial: Hashable) -> bool | None:
        if not self.known:
            return True
        place = (0, 0, 0, initial)
        seen = {place}
        stack = [iter(self._next(*place))]
        while stack:
            for following in stack[-1]:
                if following in seen:
                    continue
                if following[0] == len(self.known):
                    return True
                if not self.budget.spend():
                    return None
                seen.add(following)
                stack.append(iter(self._next(*following)))
                break
            else:
                stack.pop()
        return False

    def _next(
        self, base: int, mask: int, taken: int, state: Hashable
    ) -> list[tuple[int, int, int, Hashable]]:
        """Return the places that one more operation leads to, the most urgent operation first."""
        known, starts, ends, step = self.known, self.starts, self.ends, self.step
        # Each place with (whether it leaves the most urgent operation stuck, when its own ends).
        found: list[tuple[tuple[bool, int], tuple[int, int, int, Hashable]]] = []
        options: list[tuple[int, Hashable]] = []
        urgent, deadline = base, NEVER
        index, rest = base, mask
        while index < len(known) and starts[index] < deadline:
            if not rest & 1:
                if ends[index] < deadline:
                    urgent, deadline = index, ends[index]
                after = step(state, known[index])
                if after is not REJECT:
                    if self.reading[index] and after == state:
                        return [(*self._taken(base, mask, index), taken, state)]
                    options.append((index, after))
            index += 1
            rest >>= 1
        for index, after in options:
            stuck = index != urgent and step(after, known[urgent]) is REJECT
            found.append(((stuck, ends[index]), (*self._taken(base, mask, index), taken, after)))
        tried = set()
        for number, op in enumerate(self.maybe):
            if op.start > deadline:
                break
            if taken >> number & 1 or self.kinds[number] in tried:
                continue
            tried.add(self.kinds[number])
            after = step(state, op)
            if after is not REJECT and after != state:
                stuck = step(after, known[urgent]) is REJECT
                found.append(((stuck, NEVER), (base, mask, taken | 1 << number, after)))
        found.sort(key=_urgency)
        return [place for _, place in found]

    def _taken(self, base: int, mask: int, index: int) -> tuple[int, int]:
        mask |= 1 << (index - base)
        while mask & 1:
            mask >>= 1
            base += 1
        return base, mask


def _urgency(found: tuple[tuple[bool, int], tuple[int, int, int, Hashable]]) -> tuple[bool, int]:
    return found[0]
