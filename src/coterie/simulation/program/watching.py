"""Lets a notebook know what locks and the like give to whom.

What a node makes of a grant is in its memory and passes no port, so the methods that give are replaced while
a universe runs. A process runs one universe at a time, and all of its hosts share Coterie's own modules.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from typing import Any, TypeAlias

from ...coordination import Job, Lease, RunStatus, Sequence, Tick
from ...coordination._machine import Mode
from ...coordination._names import unquoted
from ...coordination.queueing import Queues, QueueSpec
from ...coordination.schedule import read_record
from ...engines.memory import MemoryStore
from ...engines.memory.watches import MemoryWatch
from ...ports.store import Batch
from ...resilience import RateBinding
from ...state import Item, StrongMap
from .evidence import Acquired, Passed, Ran, Reserved, Scanned
from .notebook import Notebook

__all__ = ["Schedules", "Snapshot", "watching"]

Snapshot: TypeAlias = Callable[[str], Batch]
"""Returns all entries under a prefix as the engine itself has them at this moment."""
_Method: TypeAlias = Callable[..., Any]


@contextmanager
def watching(notebook: Notebook, snapshot: Snapshot) -> Iterator[None]:
    """Note what is given to whom while the block runs."""
    with ExitStack() as stack:
        _replace(stack, Queues, "acquire", _Holders(notebook, snapshot).noting)
        _replace(stack, Sequence, "reserve", lambda reserve: _noting_numbers(reserve, notebook))
        _replace(stack, Job, "run", lambda run: _noting_runs(run, notebook))
        _replace(stack, StrongMap, "scan", lambda scan: _noting_scans(scan, notebook))
        _replace(stack, RateBinding, "acquire", lambda acquire: _noting_units(acquire, notebook))
        yield


def _replace(stack: ExitStack, owner: type, name: str, noting: Callable[[_Method], _Method]) -> None:
    before = getattr(owner, name)
    setattr(owner, name, noting(before))
    stack.callback(setattr, owner, name, before)


class _Holders:
    """Who holds what, as far as the Store still knows of it."""

    def __init__(self, notebook: Notebook, snapshot: Snapshot) -> None:
        self._notebook = notebook
        self._snapshot = snapshot
        self._holding: dict[str, list[Acquired]] = {}

    def noting(self, acquire: _Method) -> _Method:
        book = self._notebook

        async def noted_acquire(queues: Queues, spec: QueueSpec, **limits: Any) -> Lease:
            noted = book.begin(socket.gethostname(), "acquire", spec.path)
            try:
                lease: Lease = await acquire(queues, spec, **limits)
            except BaseException as error:
                book.error(noted, error)
                raise
            book.ok(noted, lease.token)
            fence = lease.fences[0].name if lease.fences else None
            given = Acquired(noted, lease.token, spec.mode is Mode.SHARED, spec.places, fence)
            self._given(given, queues.entries(spec))
            book.add(given, book.acquired)
            return lease

        return noted_acquire

    def _given(self, given: Acquired, prefix: str) -> None:
        """Compare with the others whose entries are still there: then they hold too."""
        path = given.noted.key or ""
        alive = {change.version for change in self._snapshot(prefix).changes}
        others = [each for each in self._holding.get(path, ()) if each.token in alive]
        self._holding[path] = [*others, given]
        if given.token not in alive:
            return  # It is lost already, and its holder is about to notice.
        if given.places > 1:
            too_many = others if len(others) >= given.places else []
        else:
            too_many = [each for each in others if not (each.shared and given.shared)]
        given.beside = tuple(each.noted for each in too_many)


def _noting_numbers(reserve: _Method, book: Notebook) -> _Method:
    async def noted_reserve(sequence: Sequence, count: int) -> range:
        noted = book.begin(socket.gethostname(), "reserve", sequence.name, count)
        try:
            numbers: range = await reserve(sequence, count)
        except BaseException as error:
            book.error(noted, error)
            raise
        book.ok(noted, [numbers[0], numbers[-1]])
        book.add(Reserved(noted, numbers[0], numbers[-1], sequence.block), book.reserved)
        return numbers

    return noted_reserve


def _noting_runs(run: _Method, book: Notebook) -> _Method:
    async def noted_run(job: Job, tick: Tick) -> object:
        noted = book.begin(socket.gethostname(), "run", job.name, tick.due)
        again = job.policy.crashed == "again"
        book.add(Ran(noted, tick.due, tick.attempt, tick.token, again), book.ran)
        try:
            result = await run(job, tick)
        except BaseException as error:
            book.error(noted, error)
            raise
        book.ok(noted)
        return result

    return noted_run


def _noting_scans(scan: _Method, book: Notebook) -> _Method:
    async def noted_scan(
        strong: StrongMap[Any], prefix: str = "", *, limit: int | None = None
    ) -> AsyncGenerator[Item[Any], None]:
        noted = book.begin(socket.gethostname(), "scan", f"{strong.name}/{prefix}", limit)
        scanned = Scanned(noted, f"{book.prefix}{strong.name}/{prefix}")
        book.add(scanned, book.scanned)
        try:
            async with aclosing(scan(strong, prefix, limit=limit)) as items:
                async for item in items:
                    book.found(scanned, f"{book.prefix}{strong.name}/{item.key}", item.version)
                    yield item
        except BaseException as error:
            book.error(noted, error)
            raise
        book.ok(noted, len(scanned.found))
        if limit is None or len(scanned.found) < limit:
            book.scanned_all(scanned)

    return noted_scan


def _noting_units(acquire: _Method, book: Notebook) -> _Method:
    async def noted_acquire(binding: RateBinding, key: str, units: int) -> None:
        host, limit = socket.gethostname(), binding._limit  # noqa: SLF001 - nobody else needs it
        rated = book.asked(limit.name, key, limit.rate, host, units)
        noted = book.begin(host, "acquire", f"{limit.name}/{key}" if key else limit.name, units)
        unsure = binding.unsure
        await acquire(binding, key, units)
        if binding.unsure == unsure:  # Else it may have been let through since the Store was away.
            book.ok(noted)
            book.let_through(rated, Passed(noted, units))

    return noted_acquire


class Schedules(MemoryWatch):
    """Notes which ticks are over, as the engine itself has it."""

    __slots__ = ("_notebook",)

    def __init__(self, store: MemoryStore, app: str, notebook: Notebook) -> None:
        super().__init__(store, f"{app}/schedule/")
        self._notebook = notebook

    def offer(self, batch: Batch) -> None:
        for change in batch.changes:
            name, _, kind = change.key[len(self.prefix) :].partition("/")
            if kind != "record" or change.value is None:
                continue
            for run in read_record(change.value).runs:
                # One entry for missed ticks stands for many.
                if run.status not in {RunStatus.RUNNING, RunStatus.MISSED}:
                    self._notebook.is_over(unquoted(name), run.tick, change.version)
