"""Whom a node knows: its members, a ring of the living, and the order of probes. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Container, Iterable
from zlib import crc32

import msgspec

from .messages import Rumor, State

__all__ = ["Chance", "Known", "Table"]

Chance = Callable[[int], int]
"""Returns an int in [0, bound), as the Entropy port's `randbelow`."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """A node, and the last word on it. Immutable, so that many tables in one process can share it."""

    id: str
    name: str
    address: str
    state: State = State.ALIVE
    incarnation: int = 0

    def said(self, by: str = "") -> Rumor:
        """Return the news that it is so."""
        if self.state is State.ALIVE:
            return Rumor(self.id, self.state, self.incarnation, "", self.name, self.address)
        return Rumor(self.id, self.state, self.incarnation, by)

    def older_than(self, rumor: Rumor) -> bool:
        """Return whether `rumor` overrules this. All nodes that heard the same, in any order, agree."""
        if self.state is State.LEFT or rumor.state is State.LEFT:
            return self.state is not rumor.state and rumor.state is State.LEFT
        return (self.incarnation, self.state) < (rumor.incarnation, rumor.state)


class Table:
    """All nodes that are known, the own one left out."""

    def __init__(self, me: str, chance: Chance) -> None:
        self._chance = chance
        self._me = (crc32(me.encode()), me)
        self._ring: list[tuple[int, str]] = []
        self._order: list[str] = []
        self._next = 0
        self.members: dict[str, Known] = {}
        self.living: int = 0
        """How many of them are not known to be dead or gone."""

    def add(self, member: Known) -> None:
        """Take in a node that was not known."""
        self.members[member.id] = member
        self._order.append(member.id)
        if member.state < State.DEAD:
            self._enter(member.id)

    def fill(self, members: Iterable[Known]) -> None:
        """Take in many living nodes that were not known, quicker than one by one."""
        new = list(members)
        self.members.update((member.id, member) for member in new)
        self._order += [member.id for member in new]
        self._ring += [(crc32(member.id.encode()), member.id) for member in new]
        self._ring.sort()
        self.living += len(new)

    def change(self, member: Known) -> None:
        """Take over what is now known of a node."""
        before = self.members[member.id]
        self.members[member.id] = member
        if before.state < State.DEAD <= member.state:
            self._leave(member.id)
        elif member.state < State.DEAD <= before.state:
            self._enter(member.id)

    def forget(self, id_: str) -> None:
        """Know nothing more of a node."""
        if self.members.pop(id_).state < State.DEAD:
            self._leave(id_)
        order, at = self._order, self._order.index(id_)
        if at < self._next:  # The last of those that had their turn takes its place.
            self._next -= 1
            order[at] = order[self._next]
            at = self._next
        order[at] = order[-1]
        order.pop()

    def _enter(self, id_: str) -> None:
        self.living += 1
        insort(self._ring, (crc32(id_.encode()), id_))

    def _leave(self, id_: str) -> None:
        self.living -= 1
        del self._ring[bisect_left(self._ring, (crc32(id_.encode()), id_))]

    def after(self, count: int) -> tuple[str, ...]:
        """Return the living nodes, `count` at most, that come next on the ring."""
        ring, start = self._ring, bisect_left(self._ring, self._me)
        return tuple(ring[(start + step) % len(ring)][1] for step in range(min(count, len(ring))))

    def before(self, count: int) -> tuple[str, ...]:
        """Return the living nodes, `count` at most, for which this one comes next on the ring."""
        ring, start = self._ring, bisect_left(self._ring, self._me)
        return tuple(ring[(start - step) % len(ring)][1] for step in range(1, min(count, len(ring)) + 1))

    def next(self) -> str | None:
        """Return the next living node to probe: each one once a round, in an order that changes.

        So a death is noticed after two rounds at the latest (SWIM, section 4.3).
        """
        order = self._order
        for _ in range(len(order)):
            if self._next >= len(order):
                self._next = 0
            # The next step of a Fisher-Yates shuffle, so that no round begins with a long one.
            at = self._next + self._chance(len(order) - self._next)
            id_ = order[at]
            order[at], order[self._next] = order[self._next], id_
            self._next += 1
            if self.members[id_].state < State.DEAD:
                return id_
        return None

    def some(self, count: int, but: Container[str]) -> list[str]:
        """Return up to `count` different nodes at random that are alive and not in `but`."""
        ring, found = self._ring, list[str]()
        if len(ring) <= 4 * count:
            left = [id_ for _, id_ in ring if id_ not in but and self.members[id_].state is State.ALIVE]
            while left and len(found) < count:
                found.append(left.pop(self._chance(len(left))))
            return found
        for _ in range(4 * count):
            id_ = ring[self._chance(len(ring))][1]
            if id_ not in but and id_ not in found and self.members[id_].state is State.ALIVE:
                found.append(id_)
                if len(found) == count:
                    break
        return found
