"""Locks: at most one holder at a time, fencing tokens that only rise, and no write by a stale holder."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

from ...errors import InvalidArgument
from ..operations import NEVER, Interval, show
from ..verdict import Verdict, passed, violated
from ._blocks import conflict
from ._common import per_key, refuse
from ._order import falls

__all__ = ["check_mutex"]

Mode = Literal["lock", "lease", "fenced"]
_KINDS = frozenset({"acquire", "release", "lost", "write"})
_EXPECTED = "f to be acquire (the result is null or a token), release, lost, or write with a token"


def check_mutex(intervals: Iterable[Interval], *, mode: Mode = "lock") -> Verdict:
    """Decide whether each key is a lock that keeps its promise.

    `acquire` may return a fencing token, an integer; `release` gives the lock back; `lost` records
    that a holder noticed that its lease is over; `write`, with a token as its value, is a write that
    the guarded resource accepted. `mode` says what is promised:

    - `lock`: from `acquire` until `release` nobody else holds it (exact if all outcomes are known);
    - `lease`: the same, but a holder that fell silent, whose release failed, or that recorded `lost`,
      may have lost its lease before, so it is taken to hold until the last `write` that it began;
    - `fenced`: two may believe that they hold it, so only tokens and guarded writes are checked.

    In each mode, tokens must rise from one acquisition to the next, and no write may be accepted
    after one with a later token was.
    """
    if mode not in {"lock", "lease", "fenced"}:
        raise InvalidArgument(f"mode is {mode!r}", hint="expected lock, lease or fenced")
    return per_key(intervals, lambda group: _decide(group, mode))


@dataclass(slots=True)
class _Hold:
    acquire: Interval
    release: Interval | None
    last_start: int
    """When the last operation that shows that it was held began."""
    weak: bool = False
    """Whether it may have ended before a later release: that may be of another hold."""

    @property
    def first_end(self) -> int:
        # Never, if the acquisition is unknown and no release shows that it happened: that excludes nobody.
        ends = self.acquire.end, NEVER if self.release is None else self.release.end
        return min(ends)

    @property
    def operations(self) -> list[Interval]:
        return [self.acquire] if self.release is None else [self.acquire, self.release]


def _decide(group: list[Interval], mode: Mode) -> Verdict:
    for op in group:
        token = op.result if op.f == "acquire" else op.argument if op.f == "write" else None
        if op.f not in _KINDS or not (token is None or type(token) is int):
            raise refuse(op, _EXPECTED)
    holds = _holds(group, mode)
    if isinstance(holds, Verdict):
        return holds
    verdict = passed() if mode == "fenced" else _exclusive(holds)
    if verdict.ok:
        verdict = _tokens_rise([op for op in group if op.f == "acquire" and op.result is not None])
    if verdict.ok:
        verdict = _writes_fenced([op for op in group if op.f == "write" and op.outcome == "ok"])
    return verdict


class _Holds:
    """Each time that the lock was certainly held, gathered from the operations in order."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.all: list[_Hold] = []
        self.current: dict[int | str, _Hold] = {}
        self.stray: set[int | str] = set()
        """Processes with an operation of unknown outcome that may yet take effect in a later hold."""

    def acquire(self, op: Interval) -> None:
        if op.outcome == "unknown" and op.process in self.current:
            # It happened only if the hold that there is has ended; then a later release may be its own.
            self.stray.add(op.process)
            self.current[op.process].weak |= self.current[op.process].release is not None
            return
        # A release that may still take effect can end the next hold of its process at once.
        weak = op.process in self.stray
        forever = self.mode != "lease" and not weak
        self.current[op.process] = _Hold(op, None, NEVER if forever else op.start, weak)
        self.all.append(self.current[op.process])
        if op.outcome == "unknown":
            self.stray.add(op.process)

    def write(self, op: Interval) -> None:
        if self.mode == "lease" and op.process in self.current:
            self.current[op.process].last_start = op.start

    def release(self, op: Interval) -> Verdict | None:
        if self.mode == "lease" and (op.f == "lost" or op.outcome == "fail"):
            self.current.pop(op.process, None)
            return None
        if op.outcome == "fail":
            return None
        hold = self.current.get(op.process)
        if hold is None:
            if op.outcome == "ok" and self.mode == "lock" and op.process not in self.stray:
                sentence = f"process {op.process} released a lock that it did not hold"
                return violated("unheld-release", sentence, [op])
            self.stray.add(op.process)
            return None
        again = hold.release is not None
        # Of several tries, only the one that is known to have happened shows that it was held until then.
        if op.outcome == "ok" or not again:
            hold.release = op
            if not hold.weak:
                hold.last_start = op.start
        if again:
            self.stray.add(op.process)
        if op.outcome == "ok":
            del self.current[op.process]
        return None


def _holds(group: list[Interval], mode: Mode) -> list[_Hold] | Verdict:
    holds = _Holds(mode)
    for op in group:
        if op.f == "write":
            holds.write(op)
        elif op.f == "acquire" and op.outcome != "fail":
            holds.acquire(op)
        elif op.f != "acquire":
            verdict = holds.release(op)
            if verdict is not None:
                return verdict
    return holds.all


def _exclusive(holds: list[_Hold]) -> Verdict:
    zones: list[tuple[int, int, Hashable]] = [
        (hold.first_end, hold.last_start, number) for number, hold in enumerate(holds)
    ]
    found = conflict(zones)
    if found is None:
        return passed()
    first, second = (hold for number, hold in enumerate(holds) if number in found[:2])
    processes = f"processes {first.acquire.process} and {second.acquire.process}"
    if first.acquire.process == second.acquire.process:
        processes = f"process {first.acquire.process} twice"
    sentence = f"the lock was held by {processes} at one time"
    return violated("two-holders", sentence, [*first.operations, *second.operations])


def _tokens_rise(acquired: list[Interval]) -> Verdict:
    tokens: dict[int, Interval] = {}
    for op in acquired:
        other = tokens.setdefault(op.result, op)
        if other is not op:
            sentence = f"processes {other.process} and {op.process} both acquired with the token {op.result}"
            return violated("repeated-token", sentence, [other, op])
    found = falls([(op, op.result) for op in acquired])
    if found is None:
        return passed()
    before, after = found
    sentence = f"{before} ended before {after} began, whose token must be higher"
    return violated("token-went-back", sentence, [before, after])


def _writes_fenced(writes: list[Interval]) -> Verdict:
    found = falls([(op, op.argument) for op in writes if op.argument is not None])
    if found is None:
        return passed()
    before, after = found
    sentence = (
        f"a write with the token {show(after.argument)} was accepted after one with the later token"
        f" {show(before.argument)}: its holder was no longer the holder"
    )
    return violated("stale-write", sentence, [before, after])
