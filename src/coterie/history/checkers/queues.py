"""Queues: what is enqueued is dequeued once, in order, and a queue with something in it is not empty."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from ..operations import NEVER, Interval, show
from ..verdict import Verdict, inconclusive, passed, violated
from ._common import freeze, per_key, refuse

__all__ = ["check_queue"]

_EXPECTED = "f to be enqueue with an element, dequeue (the result is it, or null for empty) or drain (a list)"


def check_queue(
    intervals: Iterable[Interval], *, ordered: bool = True, at_least_once: bool = False
) -> Verdict:
    """Decide whether each key is a queue of distinct elements.

    Elements may be lost, duplicated, come from nowhere, come out of order (`ordered`), or be hidden by
    a dequeue that finds the queue empty. These are the four patterns of Henzinger, Sezgin and Vafeiadis
    (Aspect-oriented linearizability proofs, CONCUR 2013), which are all that can go wrong with a FIFO queue
    whose operations are complete; O(n log n). An element that was not dequeued is lost once a later
    `dequeue` found nothing, a `drain` ended without it or, if `ordered`, a later element came out;
    before that it may still be there. A dequeue of unknown outcome may have taken any one element.
    `at_least_once` allows that an element comes out again; then its first time counts.
    """
    return per_key(intervals, lambda group: _Queue(ordered, at_least_once).decide(group))


@dataclass(slots=True)
class _Item:
    name: str
    enqueue: Interval
    dequeue: Interval | None = None

    @property
    def out(self) -> int:
        """When its dequeue began, the earliest that it can have left."""
        return NEVER if self.dequeue is None else self.dequeue.start


@dataclass(slots=True)
class _Queue:
    ordered: bool
    at_least_once: bool
    items: dict[Hashable, _Item] = field(default_factory=dict)
    failed: dict[Hashable, Interval] = field(default_factory=dict)
    empty: list[Interval] = field(default_factory=list)
    """Operations at the end of which the queue was empty."""
    unknown: list[Interval] = field(default_factory=list)
    """Dequeues that may have taken an element."""

    def decide(self, group: list[Interval]) -> Verdict:
        for op in group:
            if op.f == "enqueue":
                element = freeze(op.argument)
                if op.outcome == "fail":
                    self.failed[element] = op
                elif element in self.items:
                    return inconclusive(f"{show(op.argument)} is enqueued twice; enqueue distinct elements")
                else:
                    self.items[element] = _Item(show(op.argument), op)
            elif op.f not in {"dequeue", "drain"}:
                raise refuse(op, _EXPECTED)
        for op in group:
            if op.f != "enqueue":
                verdict = self._take(op)
                if verdict is not None:
                    return verdict
        for found in (self._reordered() if self.ordered else None, self._lost(), self._hidden()):
            if found is not None:
                return found
        return passed()

    def _take(self, op: Interval) -> Verdict | None:
        if op.outcome == "unknown":
            self.unknown.append(op)
        if op.outcome != "ok":
            return None
        if op.f == "drain" and not isinstance(op.result, list | tuple):
            raise refuse(op, _EXPECTED)
        elements = op.result if op.f == "drain" else [] if op.result is None else [op.result]
        if op.f == "drain" or not elements:
            self.empty.append(op)
        taken: list[_Item] = []
        for value in elements:
            item = self.items.get(freeze(value))
            if item is None:
                return self._from_nowhere(op, value)
            if op.precedes(item.enqueue):
                sentence = f"process {op.process} dequeued {item.name} before anybody began to enqueue it"
                return violated("future-dequeue", sentence, [op, item.enqueue])
            if item.dequeue is not None:
                if not self.at_least_once:
                    sentence = (
                        f"{item.name} was dequeued by process {item.dequeue.process} and by {op.process}"
                    )
                    return violated("duplicated-element", sentence, [item.enqueue, item.dequeue, op])
                continue
            item.dequeue = op
            taken.append(item)
        return self._drained_in_order(op, taken) if self.ordered else None

    def _from_nowhere(self, op: Interval, value: object) -> Verdict:
        source = self.failed.get(freeze(value))
        if source is not None:
            sentence = f"process {op.process} dequeued {show(value)}, although enqueueing it failed"
            return violated("aborted-element", sentence, [source, op])
        sentence = f"process {op.process} dequeued {show(value)}, which nobody enqueued"
        return violated("unenqueued-element", sentence, [op])

    def _drained_in_order(self, op: Interval, taken: list[_Item]) -> Verdict | None:
        earliest: _Item | None = None  # of those after, the first whose enqueue ended
        for item in reversed(taken):
            if earliest is not None and earliest.enqueue.precedes(item.enqueue):
                sentence = f"{item.name} came out before {earliest.name}, which was enqueued before it"
                return violated("reordered-elements", sentence, [earliest.enqueue, item.enqueue, op])
            if earliest is None or item.enqueue.end < earliest.enqueue.end:
                earliest = item
        return None

    def _reordered(self) -> Verdict | None:
        """Find an element that was enqueued before another and came out after it."""
        items = [item for item in self.items.values() if item.dequeue is not None]
        by_end = sorted(items, key=lambda item: item.enqueue.end)
        latest: _Item | None = None
        index = 0
        for item in items:  # in the order in which the enqueues began
            while by_end[index].enqueue.end < item.enqueue.start:
                if latest is None or by_end[index].out > latest.out:
                    latest = by_end[index]
                index += 1
            if latest is not None and item.dequeue is not None and item.dequeue.end < latest.out:
                sentence = f"{item.name} came out before {latest.name}, which was enqueued before it"
                witness = [latest.enqueue, item.enqueue, item.dequeue]
                witness += [] if latest.dequeue is None else [latest.dequeue]
                return violated("reordered-elements", sentence, witness)
        return None

    def _lost(self) -> Verdict | None:
        """Find elements that must have left, more than the dequeues of unknown outcome can have taken."""
        gone = sorted(self._must_have_left(), key=lambda found: found[0])
        began = [op.start for op in self.unknown]
        for count, (deadline, _, _) in enumerate(gone, 1):
            able = bisect_left(began, deadline)
            if able < count:
                names = ", ".join(item.name for _, item, _ in gone[:count])
                evidence = gone[count - 1][2]
                then = "found the queue empty" if evidence in self.empty else "got a later element"
                sentence = f"{names} was enqueued and never dequeued, but process {evidence.process} {then}"
                if able:
                    sentence += f", and only {able} dequeues of unknown outcome can have taken any"
                witness = [op for _, item, by in gone[:count] for op in (item.enqueue, by)]
                later = next((i.enqueue for i in self.items.values() if i.dequeue is evidence), None)
                extra = [later] if later is not None and evidence not in self.empty else []
                return violated("lost-element", sentence, [*witness, *self.unknown[:able], *extra])
        return None

    def _must_have_left(self) -> list[tuple[int, _Item, Interval]]:
        """Return the elements that must have left but never came out: by when, which, and what shows it."""
        signs = [(op.start, op) for op in self.empty]
        if self.ordered:
            items = self.items.values()
            signs += [(item.enqueue.start, item.dequeue) for item in items if item.dequeue is not None]
        signs.sort(key=lambda sign: sign[0])
        starts = [start for start, _ in signs]
        # Of the signs from each on, the one that ended first.
        first: list[Interval] = []
        for _, op in reversed(signs):
            first.append(op if not first or op.end < first[-1].end else first[-1])
        first.reverse()
        drained = min((op.start for op in self.unknown if op.f == "drain"), default=NEVER)
        found = []
        for item in self.items.values():
            index = bisect_left(starts, item.enqueue.end)
            certain = item.dequeue is None and item.enqueue.outcome == "ok" and index < len(first)
            if certain and first[index].end < drained:
                found.append((first[index].end, item, first[index]))
        return found

    def _hidden(self) -> Verdict | None:
        """Find an empty queue at a time at which each moment some element was certainly in it."""
        taken = min((op.start for op in self.unknown), default=NEVER)
        inside = [
            (item.enqueue.end, item.out if item.dequeue is not None else taken, item)
            for item in self.items.values()
        ]
        inside = sorted((entry for entry in inside if entry[0] < entry[1]), key=lambda entry: entry[0])
        spans: list[tuple[int, int]] = []  # joined where the next one came in before the last was out
        for begun, out, _ in inside:
            if spans and begun < spans[-1][1]:
                spans[-1] = spans[-1][0], max(out, spans[-1][1])
            else:
                spans.append((begun, out))
        starts = [begun for begun, _ in spans]
        for op in self.empty:
            index = bisect_left(starts, op.start) - 1
            if index >= 0 and op.end < spans[index][1]:
                return _explain_hidden(op, inside)
        return None


def _explain_hidden(op: Interval, inside: list[tuple[int, int, _Item]]) -> Verdict:
    """Choose as few elements as possible of which one was in the queue at each moment of `op`."""
    reach, cover = op.start, list[_Item]()
    while reach < op.end:
        _, reach, item = max((entry for entry in inside if entry[0] < reach), key=lambda entry: entry[1])
        cover.append(item)
    names = ", then ".join(item.name for item in cover)
    sentence = f"process {op.process} found the queue empty while {names} was in it"
    witness = [end for item in cover for end in (item.enqueue, item.dequeue) if end is not None]
    return violated("hidden-element", sentence, [*witness, op])
