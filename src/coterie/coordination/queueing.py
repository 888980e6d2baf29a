"""Waiting in the queue of a lock, and leaving it: the thin driver of `_machine.turn`."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import msgspec

from ..errors import (
    Conflict,
    CoterieError,
    DeadlineExceeded,
    InvalidArgument,
    LeaseLost,
    Outcome,
    Overloaded,
    Unavailable,
)
from ..ports.clock import Clock
from ..ports.entropy import Entropy
from ..ports.store import ABSENT, Check, Commit, Put, Store
from ._machine import Behind, Held, Mode, Place, Ticket, backoff_s, read_batch, read_place, turn
from ._names import quoted
from .lease import Lease
from .session import CoordinationConfig, Session, Sessions

__all__ = ["QueueSpec", "Queues", "held"]

_log = logging.getLogger("coterie.coordination")
_encode = msgspec.msgpack.Encoder().encode
_MOST_LISTED = 10_000
"""As many as one page has."""


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """Which queue, and how to hold. `path` is what its keys start with after the prefix of all queues."""

    kind: str
    name: str
    mode: Mode = Mode.EXCLUSIVE
    places: int = 1
    mixed: bool = False
    """Others in this queue may hold in another mode, so that several hold at once."""

    @property
    def path(self) -> str:
        return f"{self.kind}/{quoted(self.name)}"

    @property
    def alone(self) -> bool:
        """Whether the queue never has two holders."""
        return self.places == 1 and not self.mixed

    @property
    def fenced(self) -> bool:
        """Whether a later holder ends the right of an earlier one."""
        return self.places == 1 and self.mode is Mode.EXCLUSIVE

    def __str__(self) -> str:
        return f"the {self.kind} {self.name!r}"


class Queues:
    """All queues as one node sees them.

    Of a queue that never has two holders, `tail` is written with each entry and deleted only by a holder that
    finds nobody behind. So where there is no tail there is no entry, and one commit takes a free lock. A
    holder that dies leaves its tail behind, which costs the next one a scan.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        *,
        clock: Clock,
        entropy: Entropy,
        node: str,
        config: CoordinationConfig,
    ) -> None:
        self.store = store
        self.prefix = prefix
        self.sessions: Sessions = Sessions(store, clock, config)
        self._clock = clock
        self._entropy = entropy
        self._node = node
        self._config = config
        self._busy: Counter[str] = Counter()
        """By queue, how many of this node hold or wait: where there are any, a lock is not free."""

    async def acquire(
        self, spec: QueueSpec, *, wait_s: float | None, deadline: float | None, owner: str = ""
    ) -> Lease:
        """Wait for one's turn and return the lease.

        `wait_s` (None for any time) and `deadline`, a time of the loop's clock, both bound the wait: then
        raises `DeadlineExceeded`. Raises `Unavailable` when the Store cannot be asked at first; later ones
        are waited out.
        """
        loop = asyncio.get_running_loop()
        limit = math.inf if wait_s is None else loop.time() + wait_s
        limit = min(limit, math.inf if deadline is None else deadline)
        self._busy[spec.path] += 1
        scope = asyncio.timeout_at(None if limit == math.inf else limit)
        try:
            async with scope:
                while True:
                    lease = await self._attempt(spec, owner)
                    if lease is not None:
                        return lease
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded(
                    f"{spec} was not free in time",
                    hint="allow more time with wait_s=, or look who holds it: coterie locks",
                    outcome=Outcome.NOT_APPLIED,
                ) from None
            raise
        finally:
            self._busy[spec.path] -= 1
            if not self._busy[spec.path]:
                del self._busy[spec.path]

    async def release(self, spec: QueueSpec, lease: Lease) -> None:
        """Give the lease back. If the Store cannot be asked now, this is done as soon as it can."""
        if lease.over:
            return
        session, key = lease.session, lease.key
        lost = bool(lease.reason)
        lease.end()
        session.detach(key)
        if lost or session.ended:
            return  # The entry is gone, or vanishes with the session's lease.
        try:
            if not lease.behind and spec.alone and await self._leave_empty(spec, lease):
                return
            await self.store.commit(Commit((), (key,)))
        except (Unavailable, asyncio.CancelledError) as error:
            session.orphan(key, stray=False)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _leave_empty(self, spec: QueueSpec, lease: Lease) -> bool:
        """Delete the entry and the tail, if nobody is behind."""
        tail = self._tail(spec)
        checks = (Check(tail, lease.token), Check(lease.key, lease.token))
        try:
            await self.store.commit(Commit((), (lease.key, tail), checks))
        except Conflict:
            return False
        return True

    async def places(self, spec: QueueSpec) -> list[Place]:
        """Return the queue as it is now. Raises `Overloaded` when it is far longer than allowed."""
        prefix = self.entries(spec)
        page = await self.store.scan(prefix, limit=_MOST_LISTED)
        if page.more:
            raise self._overloaded(spec)
        return [read_place(each.key[len(prefix) :], each.version, each.value) for each in page.entries]

    async def _attempt(self, spec: QueueSpec, owner: str) -> Lease | None:
        """Enter the queue and wait for one's turn. Return None when the place was lost: enter again."""
        session = await self.sessions.current()
        id_ = self._entropy.identifier()
        key = self.entries(spec) + id_
        try:
            version, free = await self._enter(session, spec, id_, owner)
        except LeaseLost:
            session.lose("its lease has ended in the Store")
            return None
        except BaseException as error:
            if not isinstance(error, CoterieError) or error.outcome is Outcome.UNKNOWN:
                session.orphan(key, stray=True)
            raise
        turned = Held(0) if free else None
        try:
            if turned is None:
                turned = await self._wait_turn(session, spec, id_, key)
        except BaseException:
            session.orphan(key, stray=False)
            raise
        if turned is None or not session.believes:
            session.orphan(key, stray=False)
            return None
        fence = self.prefix + spec.path if spec.fenced else None
        lease = Lease(spec.name, session, key, version, fence=fence, behind=turned.behind)
        session.attach(key, lease.lose)
        session.verify(key, version)
        return lease

    async def _enter(self, session: Session, spec: QueueSpec, id_: str, owner: str) -> tuple[int, bool]:
        """Write the entry; return its version, and whether the queue was certainly empty."""
        task = asyncio.current_task()
        ticket = Ticket(
            mode=spec.mode,
            places=spec.places,
            node=self._node,
            owner=owner,
            task="" if task is None else task.get_name(),
            since=self._clock.time(),
        )
        put = Put(self.entries(spec) + id_, _encode(ticket), session.lease)
        if not spec.alone:
            return await self.store.commit(Commit((put,))), False
        tail = self._tail(spec)
        puts = (put, Put(tail, b""))
        if self._busy[spec.path] == 1:
            try:
                return await self.store.commit(Commit(puts, (), (Check(tail, ABSENT),))), True
            except Conflict:
                pass
        return await self.store.commit(Commit(puts)), False

    async def _wait_turn(self, session: Session, spec: QueueSpec, id_: str, key: str) -> Held | None:
        """Return when it is one's turn; None if the session is lost and the place with it."""
        # Losing the session ends the wait through this scope.
        scope = asyncio.timeout(None)
        loop = asyncio.get_running_loop()
        failures = 0
        try:
            async with scope:
                session.attach(key, lambda _reason: scope.reschedule(loop.time()))
                while True:
                    try:
                        state = turn(await self._checked_places(spec, id_), id_)
                        if isinstance(state, Held):
                            return state
                        if not isinstance(state, Behind):
                            self._pushed_out(session, spec)
                            return None
                        await self._until_news(spec, state.ahead, id_)
                        failures = 0
                    except Unavailable as error:
                        failures += 1
                        _log.warning("waiting for %s, but the store does not answer: %s", spec, error)
                        pause_s = backoff_s(failures, first_s=0.02, longest_s=1.0)
                        await asyncio.sleep(pause_s * self._entropy.random())
        except TimeoutError:
            if session.ended:
                return None
            raise

    def _overloaded(self, spec: QueueSpec) -> Overloaded:
        return Overloaded(
            f"more than {self._config.most_waiting} hold and wait for {spec}",
            hint="spread the work over several locks",
        )

    async def _checked_places(self, spec: QueueSpec, mine: str) -> list[Place]:
        places = await self.places(spec)
        # Only who came too late is turned away: those who come and go behind it are nothing to who waits.
        if mine in {place.id for place in sorted(places, key=_version)[self._config.most_waiting :]}:
            raise self._overloaded(spec)
        for place in places:
            if place.ticket.places != spec.places:
                raise InvalidArgument(
                    f"{spec} has {spec.places} places here, but {place.ticket.places} at {place.ticket.node}",
                    hint="declare it with the same number everywhere",
                )
        return places

    def _pushed_out(self, session: Session, spec: QueueSpec) -> None:
        """Raise `LeaseLost` when somebody took the place away, and it did not go with the session."""
        if session.believes:
            raise LeaseLost(f"the place in the queue of {spec} was released by force")

    async def _until_news(self, spec: QueueSpec, ahead: str | None, mine: str) -> None:
        """Return when the entry `ahead` is gone, or, if it is None, when any change makes it one's turn."""
        prefix = self.entries(spec)
        if ahead is not None:
            async with aclosing(self.store.watch(prefix + ahead)) as batches:
                async for batch in batches:
                    if not any(change.value is not None for change in batch.changes):
                        return
            return
        queue: dict[str, Place] = {}
        async with aclosing(self.store.watch(prefix)) as batches:
            async for batch in batches:
                read_batch(batch, prefix, queue)
                if not isinstance(turn(queue.values(), mine), Behind):
                    return

    def entries(self, spec: QueueSpec) -> str:
        """Return what the keys of a queue's entries start with."""
        return f"{self.prefix}{spec.path}/q/"

    def _tail(self, spec: QueueSpec) -> str:
        return f"{self.prefix}{spec.path}/tail"


def _version(place: Place) -> int:
    return place.version


@asynccontextmanager
async def held(queues: Queues, spec: QueueSpec, lease: Lease) -> AsyncIterator[Lease]:
    """Run the body under `lease`, cancel it when the lease is lost, and give the lease back at the end.

    Raises `LeaseLost` (outcome unknown) when it was lost before the body was done.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - an asynchronous context runs in a task
    before = task.cancelling()
    cancelled = False

    def cancel() -> None:
        nonlocal cancelled
        cancelled = True
        task.cancel(f"{spec} was lost")

    lease.when_lost(cancel)
    try:
        try:
            yield lease
        except asyncio.CancelledError as error:
            if not cancelled or task.cancelling() > before + 1:
                raise  # Somebody else cancels the task as well.
            raise _lost(spec, lease) from error
        if lease.lost and not lease.over:
            if cancelled:
                # The body ended before it could be told; nobody else shall be told in its place.
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    if task.cancelling() > before + 1:
                        raise
            raise _lost(spec, lease)
    finally:
        if cancelled:
            task.uncancel()
        await queues.release(spec, lease)


def _lost(spec: QueueSpec, lease: Lease) -> LeaseLost:
    return LeaseLost(
        f"{spec} was lost while its body ran: {lease.reason or 'its lease is not certain any more'}",
        hint="what it wrote with fence=lease is safe; look what was done, and take the lock again",
        outcome=Outcome.UNKNOWN,
    )
