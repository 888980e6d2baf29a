"""The audit of determinism: each universe twice, out of different nurseries, event by event the same.

    for divergence in audit(Target("scenarios.py:main"), range(100), jobs=2):
        print(divergence)

A program is only repeatable if nothing of it escapes: a clock that a default argument has captured,
an identifier made of an address, a library with entropy of its own. What escapes shows here as two
runs that part, and `Divergence` says where.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .nursery import Target, explore_pinned
from .trace import Event
from .universe import Request, Result, Settings

__all__ = ["Divergence", "audit"]

_RECORD = 1_000_000


@dataclass(frozen=True, slots=True)
class Divergence:
    """Two runs of one seed that differ, and the first event in which they do, if the record shows it."""

    seed: int
    first: Result
    second: Result
    events: tuple[Event | None, Event | None] = (None, None)
    """The first that differ; None at the end of the shorter run, or where only contents differ."""

    def __str__(self) -> str:
        head = f"seed {self.seed} differs between two runs: {self.first.digest} and {self.second.digest}"
        if self.events == (None, None):
            return f"{head}; the same events, with other contents or between other steps"
        return f"{head}\n  first:  {_line(self.events[0])}\n  second: {_line(self.events[1])}"


def _line(event: Event | None) -> str:
    if event is None:
        return "is over"
    return f"at {event.time_s:.6f} s, {event.host}: {event.kind} {event.detail}"


def audit(
    target: Target, seeds: Iterable[int], settings: Settings | None = None, *, jobs: int = 1
) -> Iterator[Divergence]:
    """Run every seed twice, and yield those whose runs differ."""
    requests = [Request(seed=seed) for seed in seeds]
    runs = [
        {result.seed: result for result in explore_pinned(target, requests, settings, jobs=jobs)}
        for _ in "12"
    ]
    for request in requests:
        first, second = (run[request.seed] for run in runs)
        if first.digest != second.digest or first.verdict is not second.verdict:
            yield _explain(target, request.seed, settings)


def _explain(target: Target, seed: int, settings: Settings | None) -> Divergence:
    """Run a seed twice more, with a record, and find where the runs part."""
    request = Request(seed=seed, record=_RECORD)
    first, second = (next(iter(list(explore_pinned(target, [request], settings)))) for _ in "12")
    ends = (None, None)
    for pair in zip((*first.record, None), (*second.record, None), strict=False):
        if pair[0] != pair[1]:
            return Divergence(seed, first, second, pair)
    return Divergence(seed, first, second, ends)
