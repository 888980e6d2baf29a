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

    - `lock`: from `acquire` until `release` nobody else holds it (exact);
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


def _holds(group: list[Interval], mode: Mode) -> list[_Hold] | Verdict:
    """Return each time that the lock was certainly held."""
    holds: list[_Hold] = []
    current: dict[int | str, _Hold] = {}
    for op in group:
        hold = current.get(op.process)
        if op.f == "acquire":
            if op.outcome != "fail":
                current[op.process] = _Hold(op, None, op.start if mode == "lease" else NEVER)
                holds.append(current[op.process])
        elif op.f == "write":
            if hold is not None and mode == "lease":
                hold.last_start = op.start
        elif mode == "lease" and (op.f == "lost" or op.outcome == "fail"):
            current.pop(op.process, None)
        elif op.outcome != "fail" and hold is not None:
            if op.outcome == "ok":
                del current[op.process]
            # One of unknown outcome may be tried again, and only the one that is known to have
            # happened shows that the lock was held until then.
            if op.outcome == "ok" or hold.release is None:
                hold.release, hold.last_start = op, op.start
        elif op.f == "release" and op.outcome == "ok" and mode == "lock":
            sentence = f"process {op.process} released a lock that it did not hold"
            return violated("unheld-release", sentence, [op])
    return holds


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
