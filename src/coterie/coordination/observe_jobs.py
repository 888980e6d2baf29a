"""A look at all schedules: when each is due, who runs it now, and what became of its latest ticks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..ports.store import Store
from ._ticks_machine import Record, Run, RunStatus
from .coordination import Coordination
from .schedule import Job, read_record

__all__ = ["JobState", "job_states"]


@dataclass(frozen=True, slots=True)
class JobState:
    """One schedule as it was found. Times are in seconds since 1970."""

    job: Job
    record: Record | None
    """What the Store says of it; None if no node of the app has run yet."""
    alive: frozenset[float]
    """The ticks whose runs are under way on a node that is alive."""
    next_tick: float
    """The first tick that is not decided yet. It is past when no node is there, or when it waits in line."""

    @property
    def history(self) -> tuple[Run, ...]:
        """What became of the latest ticks, the newest last."""
        return () if self.record is None else self.record.runs

    @property
    def running(self) -> list[Run]:
        """The runs under way."""
        return [run for run in self.history if run.status is RunStatus.RUNNING]

    @property
    def counts(self) -> dict[str, int]:
        """How many ticks of the history ended how."""
        found: dict[str, int] = {}
        for run in self.history:
            found[run.status.value] = found.get(run.status.value, 0) + run.count
        return found

    def orphaned(self, run: Run) -> bool:
        """Whether a run says that it is under way, and its node is gone: the next one will take it up."""
        return run.status is RunStatus.RUNNING and run.tick not in self.alive


async def job_states(here: Coordination, jobs: Iterable[Job]) -> list[JobState]:
    """Read how each of `jobs` is. Raises `Unavailable` when the Store cannot be read."""
    now = here.clock.time()
    return [await _state(here.store, job, job.prefix(here), now) for job in jobs]


async def _state(store: Store, job: Job, prefix: str, now: float) -> JobState:
    record: Record | None = None
    alive: set[float] = set()
    after, more = "", True
    while more:
        # One page, one moment, but for a job of which more than a thousand runs overlap.
        page = await store.scan(prefix, after=after)
        for entry in page.entries:
            kind, _, text = entry.key[len(prefix) :].partition("/")
            if kind == "record":
                record = read_record(entry.value)
            elif kind == "alive":
                alive.add(float(text))
        after, more = page.entries[-1].key if page.entries else "", page.more
    decided = now if record is None else record.tick
    return JobState(job, record, frozenset(alive), job.schedule.next_after(decided))
