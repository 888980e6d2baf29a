"""A set that only grows: what was added is in every later read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from itertools import pairwise

from msgspec.structs import replace

from ..operations import NEVER, Interval, show
from ..verdict import Verdict, passed, violated
from ._common import freeze, per_key, refuse

__all__ = ["check_set"]

_EXPECTED = "f to be add, with an element, or read, with a list as its result"


def check_set(intervals: Iterable[Interval]) -> Verdict:
    """Decide whether each key is a linearizable set to which `add` adds and that `read` lists.

    Exact, in time linear in what the reads returned: in a set that only grows, reads can be ordered
    by size, an added element comes just before the first read that has it, and what no read has
    comes last. That order is the only one, up to operations that commute, so it needs only to be
    held against real time.
    """
    return per_key(intervals, _decide)


def _decide(group: list[Interval]) -> Verdict:
    reads: list[tuple[Interval, frozenset[Hashable]]] = []
    adds: dict[Hashable, Interval] = {}
    failed: dict[Hashable, Interval] = {}
    for op in group:
        if op.f == "add" and op.outcome == "fail":
            failed[freeze(op.argument)] = op
        elif op.f == "add":
            element = freeze(op.argument)
            adds[element] = _either(adds.get(element), op)
        elif op.f != "read" or (op.outcome == "ok" and not isinstance(op.result, list | tuple)):
            raise refuse(op, _EXPECTED)
    for op in group:
        if op.f == "read" and op.outcome == "ok":
            elements = frozenset(map(freeze, op.result))
            wrong = _wrong_elements(op, elements, adds, failed)
            if wrong is not None:
                return wrong
            reads.append((op, elements))
    reads.sort(key=lambda read: (len(read[1]), read[0].start))
    for (smaller, has), (larger, more) in pairwise(reads):
        if not has <= more:
            return _disagree(smaller, larger, has, more, adds)
    return _against_time(reads, adds)


def _either(first: Interval | None, again: Interval) -> Interval:
    # An element that is added twice is in the set from whichever takes effect first: after the first
    # began, and before the first to end has ended.
    return again if first is None else replace(first, end=min(first.end, again.end))


def _wrong_elements(
    read: Interval,
    elements: frozenset[Hashable],
    adds: dict[Hashable, Interval],
    failed: dict[Hashable, Interval],
) -> Verdict | None:
    if len(elements) < len(read.result):
        element, times = Counter(map(freeze, read.result)).most_common(1)[0]
        sentence = f"process {read.process} read {show(element)} {times} times in one set"
        return violated("duplicated-element", sentence, [read])
    for element in elements:
        if element in adds:
            continue
        name = next(show(item) for item in read.result if freeze(item) == element)
        if element in failed:
            sentence = f"process {read.process} read {name}, although adding it failed"
            return violated("aborted-read", sentence, [failed[element], read])
        return violated("unadded-element", f"process {read.process} read {name}, which nobody added", [read])
    return None


def _disagree(
    smaller: Interval,
    larger: Interval,
    has: frozenset[Hashable],
    more: frozenset[Hashable],
    adds: dict[Hashable, Interval],
) -> Verdict:
    first, second, gone = smaller, larger, has - more
    if larger.precedes(smaller):
        first, second, gone = larger, smaller, more - has
    one = min(gone, key=lambda element: adds[element].start)
    name = show(adds[one].argument)
    if first.precedes(second):
        sentence = (
            f"process {second.process} no longer read {name}, which process {first.process} had read before"
        )
        return violated("vanished-element", sentence, [adds[one], first, second])
    other = min(more - has, key=lambda element: adds[element].start)
    sentence = (
        f"process {smaller.process} read {name} without {show(adds[other].argument)}, and process"
        f" {larger.process} the other way round"
    )
    return violated("reads-disagree", sentence, [adds[one], adds[other], smaller, larger])


def _against_time(
    reads: list[tuple[Interval, frozenset[Hashable]]], adds: dict[Hashable, Interval]
) -> Verdict:
    """Walk through the one possible order and find what ended before something earlier in it began."""
    seen: set[Hashable] = set()
    stages: list[list[Interval]] = []
    for position, (read, elements) in enumerate(reads):
        if position and len(elements) == len(seen):
            stages[-1].append(read)
            continue
        stages.append([adds[element] for element in elements - seen])
        stages.append([read])
        seen |= elements
    stages.append([op for element, op in adds.items() if element not in seen and op.end != NEVER])
    latest: Interval | None = None
    for stage in stages:
        if not stage:
            continue
        early = min(stage, key=lambda op: op.end)
        if latest is not None and early.precedes(latest):
            return _too_early(early, latest, reads)
        begun = max(stage, key=lambda op: op.start)
        if latest is None or begun.start > latest.start:
            latest = begun
    return passed()


def _too_early(
    early: Interval, latest: Interval, reads: list[tuple[Interval, frozenset[Hashable]]]
) -> Verdict:
    """Name what is wrong when `early` ended before `latest` began but comes after it in the order."""
    if early.f == "add":
        element = freeze(early.argument)
        name = show(early.argument)
        if latest.f == "read":
            again = any(element in has and read.start > latest.end for read, has in reads)
            anomaly = "stale-read" if again else "lost-element"
            sentence = (
                f"{name} was added before process {latest.process} began to read, which did not find it"
            )
            return violated(
                anomaly, sentence + ("" if again else ", nor did any later read"), [early, latest]
            )
        later = freeze(latest.argument)
        witness = next(read for read, has in reads if later in has and element not in has)
        other = show(latest.argument)
        sentence = f"{name} was added before {other}, yet process {witness.process} read only {other}"
        return violated("reordered-adds", sentence, [early, latest, witness])
    if latest.f == "add":
        sentence = f"process {early.process} read {show(latest.argument)} before anybody began to add it"
        return violated("future-read", sentence, [early, latest])
    sets = {read.start: has for read, has in reads}
    lost = len(sets[early.start] - sets[latest.start])
    sentence = (
        f"process {latest.process} no longer read {lost} of the elements that process {early.process} had"
    )
    return violated("vanished-element", sentence, [early, latest])
