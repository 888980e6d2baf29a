"""Elections: one leader at a time, each with a later token than the one before."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from ._machine import Place, read_batch
from ._names import checked_name
from .coordination import bound
from .locks import Lockable
from .queueing import QueueSpec

__all__ = ["Election", "Leader"]


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads: the node, its fencing token, and since when it has been a candidate."""

    node: str
    token: int
    since: float
    """Seconds since 1970, by the clock of that node; for people."""


class Election(Lockable):
    """A lock that is waited for without end, and whose holder everybody may look up.

        async with app.election("billing") as lease:    # returns when this task leads
            ...

    Candidates lead in the order in which they came. When the leader dies the next one leads as soon as its
    lease is over; when it leaves, at once.
    """

    def __init__(self, name: str, *, wait_s: float | None = None) -> None:
        super().__init__(QueueSpec("election", checked_name("an election", name)), wait_s)

    async def leader(self) -> Leader | None:
        """Return who leads now, or None."""
        return _first(await bound().queues.places(self._spec))

    async def candidates(self) -> list[str]:
        """Return the nodes that lead or would, in their order."""
        places = sorted(await bound().queues.places(self._spec), key=lambda place: place.version)
        return [place.ticket.node for place in places]

    async def watch(self) -> AsyncGenerator[Leader | None, None]:
        """Yield who leads now, then each change. Endless; raises `Unavailable` when the Store is away."""
        queues = bound().queues
        prefix = queues.entries(self._spec)
        queue: dict[str, Place] = {}
        last: Leader | None = None
        async with aclosing(queues.store.watch(prefix)) as batches:
            begun = False
            async for batch in batches:
                read_batch(batch, prefix, queue)
                leader = _first(queue.values())
                if leader != last or not begun:
                    yield leader
                last, begun = leader, True


def _first(places: Iterable[Place]) -> Leader | None:
    first = min(places, key=lambda place: place.version, default=None)
    return None if first is None else Leader(first.ticket.node, first.version, first.ticket.since)
