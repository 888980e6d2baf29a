"""The decisions of a schedule, pure: which tick is next, and what becomes of those that nobody ran.

One record in the Store says which tick was decided last, and what became of the latest ones. A node that
thinks that a tick is due writes the next record on the condition that this one is still there, so of all
nodes exactly one decides each tick. While a run is under way there is a key beside the record, under its
node's lease: a record that says `running` without such a key is that of a node that died.

    (not due) --due--> running --returned--> done
       |                  |----raised------> failed
       |                  '-its node died--> running, a further attempt; or crashed
       |--too late-----------------------------------> missed
       '--another run is still under way-------------> skipped
"""

from __future__ import annotations

import enum
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from ..errors import InvalidConfiguration
from .cron import Schedule, due

__all__ = [
    "Crashed",
    "Decided",
    "JobPolicy",
    "Missed",
    "Overlap",
    "Record",
    "Run",
    "RunStatus",
    "Wait",
    "decide",
    "finished",
]

Missed: TypeAlias = Literal["skip", "latest", "all"]
Overlap: TypeAlias = Literal["skip", "queue", "allow"]
Crashed: TypeAlias = Literal["again", "leave"]

_MOST_DUE = 1000
_KEEP = 50
_MOST_ATTEMPTS = 10
"""A run that takes its node with it shall not take all of them."""


class RunStatus(enum.StrEnum):
    """What became of a tick."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """The function raised."""
    CRASHED = "crashed"
    """Its node died, or lost its lease, and it was not to be run again."""
    MISSED = "missed"
    """No node was there in time. One entry stands for all in a row."""
    SKIPPED = "skipped"
    """Another run was still under way."""


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a tick. Times are in seconds since 1970, by the clock of the node."""

    tick: float
    status: RunStatus
    node: str = ""
    started: float = 0.0
    ended: float = 0.0
    attempt: int = 1
    count: int = 1
    """How many ticks this stands for: more than one only when they were missed."""
    error: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the Store says of a schedule."""

    tick: float
    """Up to and including this one, all ticks are decided."""
    runs: tuple[Run, ...] = ()
    """The latest ones, the newest last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPolicy:
    """What happens to a tick that nobody was there for, that finds another run under way, or that died."""

    missed: Missed = "latest"
    """Ticks that are too late: `skip` them all, run the `latest` only, or `all` of them (the last 1,000)."""
    overlap: Overlap = "skip"
    """A tick that is due while another run is under way: `skip` it, `queue` it, or `allow` both."""
    crashed: Crashed = "again"
    """A run whose node died: run it `again` elsewhere, or `leave` it."""
    grace_s: float = 60.0
    """By how much a tick may be late without being missed."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("missed", ("skip", "latest", "all")),
            ("overlap", ("skip", "queue", "allow")),
            ("crashed", ("again", "leave")),
        ):
            if getattr(self, name) not in allowed:
                raise InvalidConfiguration(
                    f"{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}"
                )
        if not 0 <= self.grace_s <= 86400 * 366:
            raise InvalidConfiguration(f"grace_s must be between 0 and 366 days, not {self.grace_s}")


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to decide before `until`, a time of the clock on the wall, or before something changes."""

    until: float


@dataclass(frozen=True, slots=True)
class Decided:
    """Write `record` in place of the present one; if that works, run `run`."""

    record: Record
    run: Run | None


def decide(
    schedule: Schedule,
    policy: JobPolicy,
    record: Record | None,
    alive: Set[float],
    *,
    now: float,
    node: str,
) -> Wait | Decided:
    """Return what `node` should do at `now`, given the record and the ticks whose runs are `alive`."""
    if record is None:
        return Decided(Record(tick=now), None)  # Ticks from before the first start were never due.
    for run in record.runs:
        if run.status is RunStatus.RUNNING and run.tick not in alive:
            return _after_a_crash(policy, record, run, now, node)
    ticks, cut = due(schedule, record.tick, now, most=_MOST_DUE)
    if not ticks:
        return Wait(schedule.next_after(record.tick))
    late = [tick for tick in ticks if now - tick > policy.grace_s]
    wanted = ticks
    if policy.missed == "skip" or (policy.missed == "latest" and len(late) < len(ticks)):
        wanted = ticks[len(late) :]
    elif policy.missed == "latest":
        wanted = ticks[-1:]
    missed = ticks[: len(ticks) - len(wanted)]
    runs = list(record.runs)
    if missed or cut:
        runs.append(
            Run(tick=missed[-1] if missed else ticks[0], status=RunStatus.MISSED, count=max(1, len(missed)))
        )
    if not wanted:
        return Decided(_record(ticks[-1], runs), None)
    tick = wanted[0]
    if alive and policy.overlap != "allow":
        # Ticks that nobody was there for did not come while the run of another was under way.
        if policy.overlap == "queue" or (policy.missed == "all" and tick in late):
            if not missed:
                return Wait(schedule.next_after(now))  # Until the run under way has ended.
            return Decided(_record(missed[-1], runs), None)
        runs.append(Run(tick=tick, status=RunStatus.SKIPPED, node=node, started=now))
        return Decided(_record(tick, runs), None)
    run = Run(tick=tick, status=RunStatus.RUNNING, node=node, started=now)
    return Decided(_record(tick, [*runs, run]), run)


def _after_a_crash(policy: JobPolicy, record: Record, dead: Run, now: float, node: str) -> Decided:
    if policy.crashed == "leave" or dead.attempt >= _MOST_ATTEMPTS:
        over = msgspec.structs.replace(dead, status=RunStatus.CRASHED, ended=now)
        return Decided(_replaced(record, dead, over), None)
    again = Run(tick=dead.tick, status=RunStatus.RUNNING, node=node, started=now, attempt=dead.attempt + 1)
    return Decided(_replaced(record, dead, again), again)


def finished(record: Record, run: Run, now: float, error: str | None) -> Record | None:
    """Return the record with `run` done or failed; None when it is not this run's any more."""
    if run not in record.runs:
        return None
    status = RunStatus.DONE if error is None else RunStatus.FAILED
    return _replaced(
        record, run, msgspec.structs.replace(run, status=status, ended=now, error=(error or "")[:500])
    )


def _replaced(record: Record, old: Run, new: Run) -> Record:
    return msgspec.structs.replace(
        record, runs=tuple(new if run is old or run == old else run for run in record.runs)
    )


def _record(tick: float, runs: list[Run]) -> Record:
    running = [run for run in runs[:-_KEEP] if run.status is RunStatus.RUNNING]
    return Record(tick=tick, runs=(*running, *runs[-_KEEP:]))
