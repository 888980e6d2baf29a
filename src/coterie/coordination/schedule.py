"""`@app.every` and `@app.cron`: functions that run once per tick in the whole cluster."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..codec import record_decoder
from ..errors import Conflict, CoterieError, InvalidConfiguration, LeaseLost, Unavailable
from ..ports.store import ABSENT, Batch, Check, Commit, Put
from ._names import checked_name, quoted
from ._ticks_machine import Decided, JobPolicy, Record, Run, Wait, decide, finished
from .coordination import Coordination, bound
from .cron import Schedule
from .lease import Lease
from .session import first_of

__all__ = ["Job", "JobRunner", "Tick", "read_record"]

_log = logging.getLogger("coterie.coordination")
_encode = msgspec.msgpack.Encoder().encode
read_record: Callable[[bytes], Record] = record_decoder(Record, "a schedule")
"""Return what a schedule's record in the Store says."""

_LONGEST_SLEEP_S = 60.0
"""The clock on the wall may be set: look at it so often at least."""
_STAGGER_S = 0.2
"""Nodes that did not run the last tick wait for up to so long, so that not all of them write at once."""


class Tick(Lease):
    """What a run is for, and its lease: `put(..., fence=tick)` is refused once another runs it."""

    due: float = 0.0
    """When the tick was due, in seconds since 1970."""
    attempt: int = 1
    """Greater than 1 if a node died while it ran this one."""


class Job:
    """A function with a schedule. From `app.every(...)` or `app.cron(...)`; calling it just runs it."""

    def __init__(
        self, name: str, function: Callable[..., Awaitable[object]], schedule: Schedule, policy: JobPolicy
    ) -> None:
        self.name: str = checked_name("a scheduled function", name)
        self.function: Callable[..., Awaitable[object]] = function
        self.schedule: Schedule = schedule
        self.policy: JobPolicy = policy
        parameters = len(inspect.signature(function).parameters)
        if parameters > 1:
            raise InvalidConfiguration(
                f"{name} is run on a schedule, so it takes no parameters, or one: the tick; not {parameters}"
            )
        self._takes_tick = parameters == 1

    def __repr__(self) -> str:
        return f"Job({self.name!r}, {self.schedule})"

    async def __call__(self, *args: Any) -> object:
        return await self.function(*args)

    async def run(self, tick: Tick) -> object:
        """Run it for a tick."""
        return await (self.function(tick) if self._takes_tick else self.function())

    async def history(self) -> list[Run]:
        """Return what became of the latest ticks, the newest last."""
        entry = await bound().store.get(f"{self.prefix(bound())}record")
        return [] if entry is None else list(read_record(entry.value).runs)

    def prefix(self, here: Coordination) -> str:
        """Return what the keys of this job start with."""
        return f"{here.app}/schedule/{quoted(self.name)}/"


@dataclass(slots=True)
class _View:
    """The record and the runs that are alive, as this node knows them."""

    record: Record | None = None
    version: int = ABSENT
    alive: dict[float, int] = field(default_factory=dict)
    """The version of each run's key, by its tick."""

    def apply(self, batch: Batch, prefix: str) -> None:
        """Take over what a watch said, unless this node knows better already."""
        if batch.snapshot:
            # What this node wrote itself may be newer than a snapshot that was under way.
            self.alive = {tick: version for tick, version in self.alive.items() if version > batch.revision}
            known = self.version > batch.revision
            if not known and not any(change.key == f"{prefix}record" for change in batch.changes):
                self.record, self.version = None, ABSENT
        for change in batch.changes:
            kind, _, text = change.key[len(prefix) :].partition("/")
            if kind == "record":
                if change.value is None:
                    self.record, self.version = None, ABSENT
                elif change.version > self.version:
                    self.record, self.version = read_record(change.value), change.version
            elif change.value is None:
                self.alive.pop(float(text), None)
            else:
                self.alive[float(text)] = change.version


class JobRunner:
    """Runs one job on one node, as far as the other nodes leave it to it."""

    def __init__(self, job: Job, here: Coordination, *, longest_sleep_s: float = _LONGEST_SLEEP_S) -> None:
        self._job = job
        self._here = here
        self._prefix = job.prefix(here)
        self._longest_sleep_s = longest_sleep_s
        self._view = _View()
        self._news = asyncio.Event()
        self._runs: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        """Decide tick after tick, for ever; cancelled, it ends its runs."""
        watching = asyncio.create_task(self._watch(), name=f"coterie-schedule-{self._job.name}-watch")
        try:
            await self._news.wait()
            while True:
                self._news.clear()
                try:
                    await self._step()
                except (Conflict, LeaseLost):
                    await self._until(1.0)  # Somebody else was first; the watch tells how it is now.
                except CoterieError as error:
                    _log.warning("the schedule of %r waits for the store: %s", self._job.name, error)
                    await self._until(1.0)
        finally:
            watching.cancel()
            for run in self._runs:
                run.cancel()
            await asyncio.gather(watching, *self._runs, return_exceptions=True)

    async def _step(self) -> None:
        here, view = self._here, self._view
        now = here.clock.time()
        action = self._decide(now)
        if isinstance(action, Wait):
            await self._until(min(max(action.until - now, 0.001), self._longest_sleep_s))
            return
        if not self._ran_last():
            await self._until(_STAGGER_S * here.entropy.random())
            if self._news.is_set():
                return
            action = self._decide(here.clock.time())
            if isinstance(action, Wait):
                return
        checks = (Check(self._prefix + "record", view.version),)
        put = Put(self._prefix + "record", _encode(action.record))
        if action.run is None:
            view.version = await here.store.commit(Commit((put,), (), checks))
            view.record = action.record
            return
        session = await here.queues.sessions.current()
        key = self._key(action.run)
        try:
            version = await here.store.commit(
                Commit((put, Put(key, b"", session.lease)), (), (*checks, Check(key, ABSENT)))
            )
        except LeaseLost:
            session.lose("its lease has ended in the Store")
            raise
        except BaseException as error:
            if not isinstance(error, CoterieError) or error.outcome.value == "unknown":
                session.orphan(key, stray=True)
            raise
        view.record, view.version = action.record, version
        view.alive[action.run.tick] = version
        # Runs that may overlap do not end each other's right to write.
        fence = f"{self._prefix}run" if self._job.policy.overlap != "allow" else None
        tick = Tick(self._job.name, session, key, version, fence=fence)
        tick.due, tick.attempt = action.run.tick, action.run.attempt
        running = asyncio.create_task(self._run(action.run, tick), name=f"coterie-schedule-{self._job.name}")
        self._runs.add(running)
        running.add_done_callback(self._runs.discard)
        tick.when_lost(lambda: _cancel(running))
        session.attach(key, tick.lose)  # At once, if the lease was lost meanwhile.
        session.verify(key, version)

    def _decide(self, now: float) -> Wait | Decided:
        view, job = self._view, self._job
        return decide(job.schedule, job.policy, view.record, view.alive.keys(), now=now, node=self._here.node)

    def _ran_last(self) -> bool:
        record = self._view.record
        return record is not None and bool(record.runs) and record.runs[-1].node == self._here.node

    async def _run(self, run: Run, tick: Tick) -> None:
        error: str | None = None
        try:
            await self._job.run(tick)
        except asyncio.CancelledError:
            # The lease was lost, or the node leaves: others find a run without its key.
            if not tick.reason:
                tick.session.orphan(tick.key, stray=False)
            tick.end()
            raise
        except Exception as failure:  # noqa: BLE001 - it is the program's own, and the schedule goes on
            _log.exception("%r failed", self._job.name)
            error = f"{type(failure).__name__}: {failure}"
        tick.session.detach(tick.key)
        tick.end()
        while True:
            if await self._finish(run, tick, error):
                return
            await asyncio.sleep(0.05 + 0.2 * self._here.entropy.random())

    async def _finish(self, run: Run, tick: Tick, error: str | None) -> bool:
        """Write down how a run ended, unless it is another's by now; return False to try again."""
        here = self._here
        try:
            entry = await here.store.get(self._prefix + "record")
            if entry is None:
                return True
            record = finished(read_record(entry.value), run, here.clock.time(), error)
            if record is None:
                return True
            checks = (Check(self._prefix + "record", entry.version),)
            put = Put(self._prefix + "record", _encode(record))
            await here.store.commit(Commit((put,), (tick.key,), checks))
        except (Conflict, Unavailable):
            return tick.session.ended
        return True

    async def _watch(self) -> None:
        while True:
            try:
                async with aclosing(self._here.store.watch(self._prefix)) as batches:
                    async for batch in batches:
                        self._view.apply(batch, self._prefix)
                        self._news.set()
            except (CoterieError, msgspec.DecodeError) as error:
                _log.warning("the schedule of %r is not up to date: %s", self._job.name, error)
            await asyncio.sleep(0.1 + 0.4 * self._here.entropy.random())

    async def _until(self, seconds: float) -> None:
        """Return after so long, or when there is news."""
        await first_of(self._news, seconds)

    def _key(self, run: Run) -> str:
        return f"{self._prefix}alive/{run.tick:.6f}"


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
