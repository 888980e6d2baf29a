"""Elections with one safeguard taken away by each of these, and the scenario that shows it.

Some are those of locks: `two_at_once` does not wait for the former lease before it acts, `no_fence` lets
everybody write, `tail_unchecked` lets newcomers jump the line, `place_not_kept` sends who waits to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lock_scenarios import (
    believes_for_ever,
    believes_too_long,
    no_fence,
    place_not_kept,
    tail_unchecked,
    two_at_once,
)

from coterie.coordination import Duties, Election, LeaderDuty, Lease, queueing
from coterie.coordination._machine import Behind, Gone, Held
from coterie.errors import CoterieError
from coterie.ports.store import Check

__all__ = ["MUTANTS"]


def body_not_cancelled() -> None:
    """Who leads is not told that the lease is lost."""
    Lease.when_lost = lambda self, callback: None  # type: ignore[method-assign]


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


def in_order_of_ids() -> None:
    """Candidates stand in line by the ids of their entries, which are random, and not as they came."""
    correct = queueing.turn

    def turn(queue: Any, mine: str) -> Held | Behind | Gone:
        by_id = sorted(queue, key=lambda place: place.id[::-1])
        return correct((replace(place, version=n) for n, place in enumerate(by_id)), mine)

    queueing.turn = turn


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
        (two_at_once, "failover"),
        (token_of_the_first_term, "under_faults"),
        (no_fence, "under_faults"),
        (in_order_of_ids, "in_turn"),
        (place_not_kept, "in_turn"),
        (tail_unchecked, "in_turn"),
        (sleeps_until_asked, "failover"),
        (office_given_up, "done_once"),
        (stands_once, "failover"),
    )
}
