"""What list-append transactions say of themselves: who wrote what, in which order, and who saw it.

Lists tell their own history. A read returns each append that came before it, in order, so the longest
read of a key is the order of its versions, and each read says which version it saw (Kingsbury and
Alvaro, Elle, VLDB 14(3), 2020). From that come the dependencies of Adya (Weak consistency, MIT, 1999):
`ww` to who appended next, `wr` to who read the append, `rw` to who appended what a reader did not see.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..operations import Interval, show
from ..verdict import Verdict, inconclusive, violated
from ._common import freeze, refuse

__all__ = ["Appends", "Read", "gather"]

_EXPECTED = (
    'a transaction: a list of ["append", key, value] and ["r", key, null]; in an ok, each read with its list'
)
_READ = frozenset({"r", "read"})


@dataclass(frozen=True, slots=True)
class Read:
    """A read inside a transaction: the list that it saw."""

    txn: Interval
    key: Hashable
    name: str
    elements: tuple[Hashable, ...]


@dataclass(slots=True)
class Appends:
    """All the transactions that happened, or may have, by what they appended and read."""

    txns: list[Interval] = field(default_factory=list)
    writer: dict[tuple[Hashable, Hashable], Interval] = field(default_factory=dict)
    """Key and element to who appended it."""
    last: dict[tuple[int, Hashable], Hashable] = field(default_factory=dict)
    """Transaction (its `start`) and key to the last element that it appended there."""
    failed: dict[tuple[Hashable, Hashable], Interval] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    longest: dict[Hashable, Read] = field(default_factory=dict)
    """Key to the read that shows most of the order of its versions."""
    unseen: dict[Hashable, list[Interval]] = field(default_factory=dict)
    """Key to those that certainly appended to it, after all that any read saw."""


def gather(intervals: Iterable[Interval], *, internal: bool = True) -> Appends | Verdict:
    """Return the appends and reads, or what is wrong with them without looking for cycles.

    `internal` says whether a transaction must read what it wrote and read before.
    """
    found = Appends()
    for txn in intervals:
        problem = _add(found, txn, internal)
        if problem is not None:
            return problem
    for read in found.reads:
        wrong = _against_longest(found, read)
        if wrong is not None:
            return wrong
    seen = {(key, element) for key, read in found.longest.items() for element in read.elements}
    happened = {found.writer[pair].start for pair in seen}
    for pair, txn in found.writer.items():
        if pair not in seen and (txn.outcome == "ok" or txn.start in happened):
            found.unseen.setdefault(pair[0], []).append(txn)
    found.txns = [txn for txn in found.txns if txn.outcome == "ok" or txn.start in happened]
    return found


def _add(found: Appends, txn: Interval, internal: bool) -> Verdict | None:
    steps = _steps(txn)
    if txn.outcome != "fail":
        found.txns.append(txn)
    known: dict[Hashable, tuple[Hashable, ...]] = {}
    own: dict[Hashable, tuple[Hashable, ...]] = {}
    for kind, key, value in steps:
        frozen = freeze(key)
        if kind == "append":
            element = freeze(value)
            if txn.outcome == "fail":
                found.failed[frozen, element] = txn
                continue
            other = found.writer.setdefault((frozen, element), txn)
            if other is not txn or element in own.get(frozen, ()):
                return inconclusive(
                    f"{show(value)} is appended twice to {show(key)}; append distinct elements"
                )
            found.last[txn.start, frozen] = element
            own[frozen] = (*own.get(frozen, ()), element)
            if frozen in known:
                known[frozen] = (*known[frozen], element)
        elif txn.outcome == "ok":
            elements = tuple(map(freeze, value))
            mine = own.get(frozen, ())
            agrees = known.get(frozen, elements) == elements and elements[len(elements) - len(mine) :] == mine
            if internal and not agrees:
                sentence = (
                    f"process {txn.process} read {show(value)} in {show(key)}, against what it did before"
                )
                return violated("internal", sentence, [txn])
            known[frozen] = elements
            read = Read(txn, frozen, show(key), elements)
            found.reads.append(read)
            if frozen not in found.longest or len(elements) > len(found.longest[frozen].elements):
                found.longest[frozen] = read
    return None


def _steps(txn: Interval) -> Sequence[tuple[str, Any, Any]]:
    steps = txn.result if txn.outcome == "ok" else txn.argument
    if not isinstance(steps, list | tuple):
        raise refuse(txn, _EXPECTED)
    for step in steps:
        if not isinstance(step, list | tuple) or len(step) != 3 or step[0] not in {"append"} | _READ:
            raise refuse(txn, _EXPECTED)
        if step[0] in _READ and txn.outcome == "ok" and not isinstance(step[2], list | tuple):
            raise refuse(txn, _EXPECTED)
    return steps


def _against_longest(found: Appends, read: Read) -> Verdict | None:
    """Return what one read shows to be wrong: what nobody wrote, or another order than others saw."""
    longest = found.longest[read.key]
    for element in read.elements:
        if (read.key, element) not in found.writer:
            return _unwritten(found, read, element)
    if len(set(read.elements)) < len(read.elements):
        twice = next(e for i, e in enumerate(read.elements) if e in read.elements[:i])
        sentence = f"process {read.txn.process} read {show(twice)} twice in {read.name}"
        return violated("duplicate-element", sentence, [found.writer[read.key, twice], read.txn])
    if longest.elements[: len(read.elements)] != read.elements:
        sentence = f"two reads saw the appends to {read.name} in orders that do not fit"
        return violated("incompatible-order", sentence, [read.txn, longest.txn])
    if read.elements:
        last = read.elements[-1]
        writer = found.writer[read.key, last]
        if writer is not read.txn and found.last[writer.start, read.key] != last:
            sentence = (
                f"process {read.txn.process} read {show(last)} in {read.name}, which its writer went on from"
            )
            return violated("G1b", sentence, [writer, read.txn])
    return None


def _unwritten(found: Appends, read: Read, element: Hashable) -> Verdict:
    what = f"process {read.txn.process} read {show(element)} in {read.name}"
    aborted = found.failed.get((read.key, element))
    if aborted is None:
        return violated("unwritten-element", f"{what}, which nobody appended", [read.txn])
    return violated("G1a", f"{what}, whose transaction failed", [aborted, read.txn])
