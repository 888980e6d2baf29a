"""What happened before what, as sessions could know: the causal order of reads and writes.

An operation causally precedes the later ones of its process, and a write precedes the reads that saw
it; the causal order is what follows from these two (Ahamad and others, Causal memory, Distributed
Computing 9(1), 1995). A vector clock for each operation says how far into each session its past goes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence

from ..operations import Interval
from ..verdict import Verdict, inconclusive, violated
from ._common import freeze, refuse
from ._graph import components, shortest_path
from ._register_ops import READS, WRITES

__all__ = ["Causality"]

_EXPECTED = "f to be read or write"
_DISTINCT = "write distinct values, so that a read tells which write it saw"


class Causality:
    """The reads and writes of all sessions, numbered in the order in which they began.

    `problem` is what is wrong with them before any order is looked at, or None.
    """

    def __init__(self, intervals: Iterable[Interval], initial: Hashable) -> None:
        self.initial = initial
        self.problem: Verdict | None = None
        self.ops: list[Interval] = []
        self.keys: list[Hashable] = []
        self.source: dict[int, int | None] = {}
        """Of each read: the write that it saw, or None for the initial value."""
        self.session: dict[int | str, list[int]] = {}
        """Of each process: its operations that certainly happened."""
        self.before: list[int | None] = []
        """Of each operation: the one before it in its session."""
        self._gather(intervals)
        if self.problem is None:
            self._clock()

    def _gather(self, intervals: Iterable[Interval]) -> None:
        kept = [op for op in intervals if self._fits(op)]
        values = {(freeze(op.key), freeze(op.result)) for op in kept if op.f in READS}
        writers: dict[tuple[Hashable, Hashable], int] = {}
        failed: dict[tuple[Hashable, Hashable], Interval] = {}
        for op in kept:
            key = freeze(op.key)
            if op.f in WRITES:
                pair = key, freeze(op.argument)
                if op.outcome == "fail":
                    failed[pair] = op
                    continue
                if op.outcome == "unknown" and pair not in values:
                    continue
                if pair in writers or pair[1] == self.initial:
                    self.problem = inconclusive(f"{op} repeats a value; {_DISTINCT}")
                    return
                writers[pair] = len(self.ops)
            mine = self.session.setdefault(op.process, [])
            self.before.append(mine[-1] if mine else None)
            if op.outcome == "ok":  # one of unknown outcome need not be seen by its own session
                mine.append(len(self.ops))
            self.ops.append(op)
            self.keys.append(key)
        for number, op in enumerate(self.ops):
            if op.f in READS:
                pair = self.keys[number], freeze(op.result)
                if pair not in writers and pair[1] != self.initial:
                    self.problem = _thin_air(op, failed.get(pair))
                    return
                self.source[number] = writers.get(pair)

    def _fits(self, op: Interval) -> bool:
        if op.f not in READS | WRITES:
            raise refuse(op, _EXPECTED)
        return op.f in WRITES or op.outcome == "ok"

    def causes(self, number: int) -> Iterator[int]:
        """Return what an operation depends on directly."""
        before, source = self.before[number], self.source.get(number)
        if before is not None:
            yield before
        if source is not None:
            yield source

    def _clock(self) -> None:
        """Give each operation its chain, its place there, and the clock of its past."""
        waiting = [sum(1 for _ in self.causes(n)) for n in range(len(self.ops))]
        self.effects: list[list[int]] = [[] for _ in self.ops]
        for number in range(len(self.ops)):
            for cause in self.causes(number):
                self.effects[cause].append(number)
        order = deque(n for n, count in enumerate(waiting) if not count)
        sorted_: list[int] = []
        while order:
            number = order.popleft()
            sorted_.append(number)
            for effect in self.effects[number]:
                waiting[effect] -= 1
                if not waiting[effect]:
                    order.append(effect)
        if len(sorted_) < len(self.ops):
            self.problem = self._cycle()
            return
        self._place()
        for number in sorted_:
            clock = [0] * self.chains
            for cause in self.causes(number):
                clock = list(map(max, clock, self.past[cause]))
            chain, place = self.where[number]
            clock[chain] = place
            self.past[number] = clock

    def _place(self) -> None:
        # A write of unknown outcome is a chain of its own: later operations of its process do not follow it.
        chain_of: dict[int | str, int] = {}
        self.where: list[tuple[int, int]] = []
        lengths: list[int] = []
        for op in self.ops:
            chain = len(lengths)
            if op.outcome == "ok":
                chain = chain_of.setdefault(op.process, chain)
            if chain == len(lengths):
                lengths.append(0)
            lengths[chain] += 1
            self.where.append((chain, lengths[chain]))
        self.chains = len(lengths)
        self.past: list[list[int]] = [[] for _ in self.ops]
        self.writes: dict[Hashable, dict[int, tuple[list[int], list[int]]]] = {}
        """Key and chain to the places and the numbers of the writes there."""
        for number, op in enumerate(self.ops):
            if op.f in WRITES:
                chain, place = self.where[number]
                places, numbers = self.writes.setdefault(self.keys[number], {}).setdefault(chain, ([], []))
                places.append(place)
                numbers.append(number)

    def precedes(self, one: int | None, other: int) -> bool:
        """Return whether `one` (None: the initial value) causally precedes `other`."""
        if one is None:
            return True
        chain, place = self.where[one]
        return one != other and self.past[other][chain] >= place

    def last_writes(self, number: int) -> Iterator[int]:
        """Return, of each session, the last write to the key of a read that is in its past."""
        clock = self.past[number]
        for chain, (places, numbers) in self.writes.get(self.keys[number], {}).items():
            index = bisect_right(places, clock[chain])
            if index:
                yield numbers[index - 1]

    def chain(self, one: int | None, other: int) -> list[Interval]:
        """Return the operations by which `one` precedes `other`; of a run in one session only the ends."""
        if one is None:
            return []
        path = shortest_path(one, other, lambda number: self.effects[number]) or [one, other]
        return [self.ops[n] for n in self._ends(path)]

    def _ends(self, path: Sequence[int]) -> list[int]:
        inner = [
            here
            for cause, here, effect in zip(path, path[1:], path[2:], strict=False)
            if self.before[here] != cause or self.before[effect] != here
        ]
        return [path[0], *inner, path[-1]]

    def _cycle(self) -> Verdict:
        component = components(range(len(self.ops)), dict(enumerate(self.effects)))[0]
        inside = set(component)
        start = min(component)
        paths = (
            shortest_path(first, start, lambda number: inside.intersection(self.effects[number]))
            for first in self.effects[start]
            if first in inside
        )
        cycle = min((path for path in paths if path is not None), key=len)
        witness = [self.ops[number] for number in cycle]
        text = ", then ".join(map(str, witness))
        return violated(
            "causality-cycle", f"each was the cause of the next, and the last of the first: {text}", witness
        )


def _thin_air(read: Interval, failed: Interval | None) -> Verdict:
    if failed is not None:
        return violated("aborted-read", f"{read} saw a value whose {failed} did not happen", [failed, read])
    return violated("unwritten-value", f"{read} saw a value that nobody wrote", [read])
