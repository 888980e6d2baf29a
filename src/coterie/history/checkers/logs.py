"""Logs: each record has one offset, in the order of the appends, and readers skip none."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..operations import Interval, show
from ..verdict import Verdict, inconclusive, passed, violated
from ._common import freeze, per_key, refuse
from ._order import falls

__all__ = ["check_log"]

_EXPECTED = "f to be append (the result is the offset), read (a list of [offset, value]) or seek"
_APPEND = frozenset({"append", "send", "publish"})
_READ = frozenset({"read", "poll"})
_SEEK = frozenset({"seek", "assign", "subscribe"})


def check_log(intervals: Iterable[Interval], *, at_least_once: bool = False, fresh: bool = False) -> Verdict:
    """Decide whether each key is a log (a partition) of distinct records.

    `append` returns the offset of its record, or null. `read` returns `[offset, value]` pairs; its
    argument is the offset that it begins at, or null to go on from where its process last read, until
    a `seek`. Violated if two records have one offset, one record has two (unless `at_least_once`: a
    producer that tries again), a record comes from nowhere, an append that began after another ended
    has a lower offset, or a read goes back, or passes over the offset of a record that is in the log:
    that record is lost to its reader. How far readers get is decided only if reads are `fresh`: then a
    read that says where it begins and finds nothing is the end of the log, and a record that was
    acknowledged there before it began is a `stale-read`. O(n log n).
    """
    return per_key(intervals, lambda group: _Log(at_least_once, fresh).decide(group))


@dataclass(slots=True)
class _Log:
    at_least_once: bool
    fresh: bool
    appends: dict[Hashable, Interval] = field(default_factory=dict)
    failed: dict[Hashable, Interval] = field(default_factory=dict)
    at: dict[int, tuple[Hashable, Interval]] = field(default_factory=dict)
    """Offset to the record there and an operation that shows it: its append, or a read."""
    offset: dict[Hashable, tuple[int, Interval]] = field(default_factory=dict)
    """Record to its first known offset and an operation that shows it."""

    def decide(self, group: list[Interval]) -> Verdict:
        reads = []
        for op in group:
            if op.f in _APPEND:
                value = freeze(op.argument)
                if op.outcome == "fail":
                    self.failed[value] = op
                elif value in self.appends:
                    return inconclusive(f"{show(op.argument)} is appended twice; append distinct records")
                else:
                    self.appends[value] = op
            elif op.f not in _READ | _SEEK:
                raise refuse(op, _EXPECTED)
        for op in group:
            if op.f in _APPEND and op.outcome == "ok" and op.result is not None:
                verdict = self._place(op, _offset(op), op.argument)
            elif op.f in _READ and op.outcome == "ok":
                reads.append((op, _pairs(op)))
                verdict = self._place_all(*reads[-1])
            else:
                continue
            if verdict is not None:
                return verdict
        found = self._appended_in_order()
        if found is None and self.fresh:
            found = self._ended_too_early([op for op, pairs in reads if not pairs])
        return (
            self._read_in_order(group, {op.start: pairs for op, pairs in reads}) if found is None else found
        )

    def _place_all(self, op: Interval, pairs: list[tuple[int, Any]]) -> Verdict | None:
        for offset, value in pairs:
            frozen = freeze(value)
            append = self.appends.get(frozen)
            if append is None:
                return _from_nowhere(op, value, self.failed.get(frozen))
            if op.precedes(append):
                sentence = f"process {op.process} read {show(value)} before anybody began to append it"
                return violated("future-read", sentence, [op, append])
            verdict = self._place(op, offset, value)
            if verdict is not None:
                return verdict
        return None

    def _place(self, op: Interval, offset: int, value: Any) -> Verdict | None:
        frozen = freeze(value)
        there, shown = self.at.setdefault(offset, (frozen, op))
        if there != frozen:
            sentence = f"offset {offset} holds two records: {_says(shown, offset)} and {_says(op, offset)}"
            return violated("inconsistent-offset", sentence, [shown, op])
        first, shown = self.offset.setdefault(frozen, (offset, op))
        if first != offset and not self.at_least_once:
            sentence = f"{show(value)} is in the log twice, at the offsets {first} and {offset}"
            return violated("duplicated-record", sentence, [self.appends[frozen], shown, op])
        return None

    def _appended_in_order(self) -> Verdict | None:
        placed = [(self.appends[value], offset) for value, (offset, _) in self.offset.items()]
        found = falls(placed)
        if found is None:
            return None
        before, after = found
        first, second = (self.offset[freeze(op.argument)] for op in found)
        sentence = (
            f"{show(before.argument)} was appended before {show(after.argument)},"
            f" but its offset {first[0]} is behind {second[0]}"
        )
        return violated("reordered-records", sentence, [before, after, first[1], second[1]])

    def _ended_too_early(self, empty: list[Interval]) -> Verdict | None:
        """Find a read that found nothing though a record was there before it began."""
        acknowledged = sorted(
            (op for op in self.appends.values() if _acknowledged(op)), key=lambda op: op.end
        )
        furthest: Interval | None = None
        index = 0
        for read in sorted(empty, key=lambda op: op.start):
            while index < len(acknowledged) and acknowledged[index].end < read.start:
                if furthest is None or _offset(acknowledged[index]) > _offset(furthest):
                    furthest = acknowledged[index]
                index += 1
            if furthest is not None and read.argument is not None and read.argument <= _offset(furthest):
                sentence = (
                    f"process {read.process} found nothing from offset {read.argument} on, though"
                    f" {show(furthest.argument)} had been appended at {_offset(furthest)} before it began"
                )
                return violated("stale-read", sentence, [furthest, read])
        return None

    def _read_in_order(self, group: list[Interval], pairs_of: dict[int, list[tuple[int, Any]]]) -> Verdict:
        present = sorted(self.at)
        cursor: dict[int | str, tuple[int, Interval]] = {}
        for op in group:
            if op.f in _SEEK or (op.f in _READ and op.outcome == "unknown"):
                cursor.pop(op.process, None)
            pairs = pairs_of.get(op.start)
            if not pairs:
                continue
            before = cursor.get(op.process) if op.argument is None else None
            if op.argument is not None:
                reached, expected = op.argument - 1, op
            elif before is not None:
                reached, expected = before
            else:
                reached, expected = pairs[0][0] - 1, op
            for offset, _ in pairs:
                if offset <= reached:
                    if self.at_least_once and expected is not op:
                        reached = offset
                        continue
                    sentence = f"process {op.process} read offset {offset} after it had read up to {reached}"
                    return violated("read-went-back", sentence, [expected, op])
                skipped = present[bisect_right(present, reached) : bisect_left(present, offset)]
                if skipped:
                    return self._skipped(op, expected, skipped[0], offset)
                reached = offset
            cursor[op.process] = reached, op
        return passed()

    def _skipped(self, op: Interval, before: Interval, skipped: int, offset: int) -> Verdict:
        value, shown = self.at[skipped]
        append = self.appends[value]
        sentence = (
            f"process {op.process} read offset {offset} but passed over {skipped},"
            f" where {show(append.argument)} is: {_says(shown, skipped)}"
        )
        return violated("lost-record", sentence, [append, shown, before, op])


def _acknowledged(op: Interval) -> bool:
    return op.outcome == "ok" and op.result is not None


def _offset(op: Interval) -> int:
    offset = op.result[0] if isinstance(op.result, list | tuple) and op.result else op.result
    if type(offset) is not int:
        raise refuse(op, _EXPECTED)
    return offset


def _pairs(op: Interval) -> list[tuple[int, Any]]:
    if not isinstance(op.result, list | tuple) or not (op.argument is None or type(op.argument) is int):
        raise refuse(op, _EXPECTED)
    for pair in op.result:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or type(pair[0]) is not int:
            raise refuse(op, _EXPECTED)
    return [(offset, value) for offset, value in op.result]


def _says(op: Interval, offset: int) -> str:
    if op.f in _APPEND:
        return f"process {op.process} appended {show(op.argument)} there"
    value = next(value for at, value in op.result if at == offset)
    return f"process {op.process} read {show(value)} there"


def _from_nowhere(op: Interval, value: Any, failed: Interval | None) -> Verdict:
    if failed is not None:
        sentence = f"process {op.process} read {show(value)}, although appending it failed"
        return violated("aborted-read", sentence, [failed, op])
    return violated(
        "unappended-record", f"process {op.process} read {show(value)}, which nobody appended", [op]
    )
