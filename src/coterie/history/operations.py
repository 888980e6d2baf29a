"""Recorded operations: one record per event, and the intervals that pairs of records make.

The records have the shape of Jepsen's. A process is a thread of control that does one operation at
a time: it records `invoke` when it begins, and then `ok` (it happened), `fail` (it certainly did
not happen) or `info` (unknown: it may take effect at any later time, or never). The order of the
records is the real-time order; `time` is for people, and for settling times.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from ..errors import InvalidArgument

__all__ = ["NEVER", "History", "Interval", "Operation", "Outcome", "RecordType"]

RecordType = Literal["invoke", "ok", "fail", "info"]
Outcome = Literal["ok", "fail", "unknown"]

NEVER = sys.maxsize
"""The end of an interval whose outcome is unknown: it may take effect at any later time."""


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One record of a history: a process begins or ends an operation.

    `f` names what is done (`read`, `write`, `cas` ...), `key` what it is done to, and `value` is the
    argument in an `invoke` and the result in an `ok`. `time` is in nanoseconds since any moment.
    """

    process: int | str
    type: RecordType
    f: str
    key: Any = None
    value: Any = None
    time: int = 0
    error: str | None = None


class Interval(msgspec.Struct, frozen=True, gc=False):
    """An operation from its invocation to its completion.

    `start` and `end` are the positions of its two records in the history, counted from 0; `end` is
    `NEVER` when the outcome is unknown. `argument` is the value that was invoked, `result` the value
    of an `ok`. `end_ns` is the time of the completion, or None if there was none.
    """

    process: int | str
    f: str
    key: Any
    argument: Any
    result: Any
    outcome: Outcome
    start: int
    end: int
    start_ns: int = 0
    end_ns: int | None = None
    error: str | None = None

    def precedes(self, other: Interval) -> bool:
        """Return whether this operation ended before the other began."""
        return self.end < other.start

    def __str__(self) -> str:
        return f"{describe(self)} by process {self.process}"


class History:
    """A sequence of records and the intervals that they pair into.

    `source` and `lines` say where the records stood, so that an error can name the file and line.
    Raises `InvalidArgument` if the records cannot be paired: see `intervals`.
    """

    __slots__ = ("_intervals", "lines", "operations", "source")

    def __init__(
        self,
        operations: Iterable[Operation],
        *,
        source: str = "history",
        lines: Sequence[int] | None = None,
    ) -> None:
        self.operations: tuple[Operation, ...] = tuple(operations)
        self.source: str = source
        self.lines: Sequence[int] | None = lines
        self._intervals: tuple[Interval, ...] | None = None

    def __len__(self) -> int:
        return len(self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The operations in the order in which they began.

        An invocation without a completion has an unknown outcome. Raises `InvalidArgument`, naming
        the line, if a process begins an operation inside another, completes one that it did not
        begin or that was another, or if `time` goes back.
        """
        if self._intervals is None:
            self._intervals = tuple(_pair(self))
        return self._intervals

    def line(self, position: int) -> int:
        """Return the line, counted from 1, of the record at `position`."""
        return position + 1 if self.lines is None else self.lines[position]


def describe(interval: Interval) -> str:
    """Return what was done as a short text: `write "x" 3`, `read "x" -> 3`."""
    what = interval.f if interval.key is None else f"{interval.f} {show(interval.key)}"
    if interval.argument is not None:
        what += f" {show(interval.argument)}"
    if interval.outcome == "ok":
        # A write answers nothing, or repeats what was written.
        silent = interval.argument is not None and (
            interval.result is None or interval.result == interval.argument
        )
        return what if silent else f"{what} -> {show(interval.result)}"
    return f"{what} -> {'failed' if interval.outcome == 'fail' else 'unknown'}"


def show(value: Any, limit: int = 80) -> str:
    """Return a value as JSON, cut to about `limit` characters."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def _pair(history: History) -> list[Interval]:
    # Kept flat on purpose: a history of 100,000 operations passes here before anything is checked.
    begun: dict[int | str, int] = {}
    ends: dict[int, int] = {}
    latest = -1
    operations = history.operations
    for position, operation in enumerate(operations):
        process = operation.process
        if process == "nemesis":  # Jepsen's own records of the faults that it made
            continue
        if operation.time < latest:
            raise _wrong(history, position, _BACK.format(now=operation.time, before=latest), _SORT)
        latest = operation.time
        if operation.type == "invoke":
            if process in begun:
                open_line = history.line(begun[process])
                problem = (
                    f"process {process!r} begins {operation.f!r} inside what it began on line {open_line}"
                )
                raise _wrong(history, position, problem, "a process does one operation at a time")
            begun[process] = position
            continue
        start = begun.pop(process, None)
        if start is None:
            problem = f"process {process!r} completes {operation.f!r}, which it did not begin"
            raise _wrong(history, position, problem, "expected an earlier record of type invoke")
        if operations[start].f != operation.f or operations[start].key != operation.key is not None:
            problem = (
                f"process {process!r} completes {_name(operation)}, but it began {_name(operations[start])}"
            )
            raise _wrong(history, position, problem, "a completion has the `f` and `key` of its invocation")
        ends[start] = position
    return [
        _interval(operations, start, ends.get(start))
        for start, operation in enumerate(operations)
        if operation.type == "invoke" and operation.process != "nemesis"
    ]


_BACK = "time goes back from {before} to {now} ns"
_SORT = "the order of the lines is the real-time order; merge_histories sorts records by time"


def _interval(operations: Sequence[Operation], start: int, end: int | None) -> Interval:
    begun = operations[start]
    if end is None:
        return Interval(
            begun.process, begun.f, begun.key, begun.value, None, "unknown", start, NEVER, begun.time
        )
    done = operations[end]
    if done.type == "ok":
        return Interval(
            begun.process,
            begun.f,
            begun.key,
            begun.value,
            done.value,
            "ok",
            start,
            end,
            begun.time,
            done.time,
        )
    failed = done.type == "fail"
    return Interval(
        begun.process,
        begun.f,
        begun.key,
        begun.value,
        None,
        "fail" if failed else "unknown",
        start,
        end if failed else NEVER,
        begun.time,
        done.time,
        done.error,
    )


def _name(operation: Operation) -> str:
    return operation.f if operation.key is None else f"{operation.f} {show(operation.key)}"


def _wrong(history: History, position: int, problem: str, hint: str) -> InvalidArgument:
    return InvalidArgument(f"{history.source}, line {history.line(position)}: {problem}", hint=hint)
