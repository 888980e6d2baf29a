"""Elections with one safeguard taken away by each of these, and the scenario that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from coterie.coordination import Duties, Election, LeaderDuty, Lease, queueing
from coterie.coordination._machine import Behind, Gone, Held, Tenure
from coterie.errors import CoterieError
from coterie.ports.store import Check, Commit

__all__ = ["MUTANTS"]


def body_not_cancelled() -> None:
    """Who leads is not told that the lease is lost."""
    Lease.when_lost = lambda self, callback: None  # type: ignore[method-assign]


def believes_for_ever() -> None:
    """A leader never doubts its lease by its own clock."""
    Tenure.believed_until = property(lambda self: self.renewed_at + 1e6)  # type: ignore[assignment,method-assign]


def believes_too_long() -> None:
    """A leader believes for two leases instead of one."""
    Tenure.believed_until = property(lambda self: self.renewed_at + 2 * self.ttl_s)  # type: ignore[assignment,method-assign]


def acts_before_the_former_lease_is_over() -> None:
    """The next in line leads at once, whether or not the lease before it is over."""
    correct = queueing.turn

    def turn(queue: Any, mine: str) -> Held | Behind | Gone:
        ordered = sorted(queue, key=lambda place: place.version)
        return Held(0) if mine in {place.id for place in ordered[:2]} else correct(ordered, mine)

    queueing.turn = turn


def token_of_the_first_term() -> None:
    """A node takes its first token for all its terms; its entry in the queue is right."""
    begin = Lease.__init__
    first: dict[tuple[Any, str], int] = {}

    def again(self: Lease, name: str, session: Any, key: str, token: int, **others: Any) -> None:
        begin(self, name, session, key, token, **others)
        self._check = Check(key, token)  # type: ignore[attr-defined]
        self.token = first.setdefault((session._store, name), token)

    Lease.__init__ = again  # type: ignore[method-assign]
    Lease.checks = property(lambda self: (self._check,))  # type: ignore[assignment,method-assign]


def fence_ignored() -> None:
    """What a leader writes demands nothing."""
    Lease.checks = property(lambda self: ())  # type: ignore[assignment,method-assign]
    Lease.fences = property(lambda self: ())  # type: ignore[assignment,method-assign]


def in_order_of_ids() -> None:
    """Candidates stand in line by the ids of their entries, which are random, and not as they came."""
    correct = queueing.turn

    def turn(queue: Any, mine: str) -> Held | Behind | Gone:
        by_id = sorted(queue, key=lambda place: place.id[::-1])
        return correct((replace(place, version=n) for n, place in enumerate(by_id)), mine)

    queueing.turn = turn


def newcomers_jump_the_line() -> None:
    """Who leaves says that the office is free, although somebody is behind."""

    async def leave_empty(self: Any, spec: Any, lease: Lease) -> bool:
        tail = self._tail(spec)
        await self.store.commit(Commit((), (lease.key, tail), (Check(lease.key, lease.token),)))
        return True

    queueing.Queues._leave_empty = leave_empty  # type: ignore[method-assign]


def place_not_kept() -> None:
    """A candidate that is woken and does not lead comes again, at the end of the line."""
    until_news = queueing.Queues._until_news
    correct = queueing.Queues._wait_turn

    async def once(self: Any, spec: Any, ahead: str | None, mine: str) -> None:
        await until_news(self, spec, ahead, mine)
        key = self.entries(spec) + mine
        await self.store.commit(Commit((), (key,)))
        (await self.sessions.current()).detach(key)
        raise TimeoutError

    async def wait_turn(self: Any, session: Any, spec: Any, id_: str, key: str) -> Held | None:
        try:
            return await correct(self, session, spec, id_, key)
        except TimeoutError:
            return None

    queueing.Queues._until_news = once  # type: ignore[method-assign]
    queueing.Queues._wait_turn = wait_turn  # type: ignore[method-assign]


def sleeps_until_asked() -> None:
    """A candidate does not watch who is ahead of it: it looks again every few seconds."""

    async def sleep(self: Any, spec: Any, ahead: str | None, mine: str) -> None:
        await asyncio.sleep(4.0)

    queueing.Queues._until_news = sleep  # type: ignore[method-assign]


def office_given_up() -> None:
    """Whose function has returned does not go on leading."""

    async def wait_lost(self: Lease) -> str:
        return ""

    Lease.wait_lost = wait_lost  # type: ignore[method-assign]


def stands_once() -> None:
    """Who has lost the office does not stand for it again."""

    async def lead(self: Duties, duty: LeaderDuty) -> None:
        with suppress(CoterieError):
            async with Election(duty.name) as lease:
                await duty.function(lease)

    Duties._lead = lead  # type: ignore[method-assign]


MUTANTS: dict[str, tuple[Callable[[], None], str]] = {
    mutant.__name__: (mutant, scenario)
    for mutant, scenario in (
        (body_not_cancelled, "under_faults"),
        (believes_for_ever, "under_faults"),
        (believes_too_long, "under_faults"),
        (acts_before_the_former_lease_is_over, "failover"),
        (token_of_the_first_term, "under_faults"),
        (fence_ignored, "under_faults"),
        (in_order_of_ids, "in_turn"),
        (place_not_kept, "in_turn"),
        (newcomers_jump_the_line, "in_turn"),
        (sleeps_until_asked, "failover"),
        (office_given_up, "done_once"),
        (stands_once, "failover"),
    )
}
