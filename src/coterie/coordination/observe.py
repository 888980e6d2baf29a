"""A look at all queues: who holds, who waits for whom, and who waits for ever.

Deadlocks are found by reducing the graph of who waits for whom (Holt, "Some Deadlock Properties of Computer
Systems", 1972): whoever waits for nobody will be done some day, and so will those who wait for such only.
Who is left waits for ever. What one task holds and waits for is known by the owner in its entries; what one
task waits for on behalf of another (a call, a child task) is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import Conflict, CorruptData, InvalidArgument, NotFound
from ..ports.store import Check, Commit, Entry, Store
from ._machine import Held, Mode, Place, read_place, turn
from ._names import quoted, unquoted

__all__ = ["KINDS", "Deadlock", "Queue", "deadlocks", "force_release", "read_queues", "scan_queues", "who"]

KINDS: tuple[str, ...] = ("lock", "election", "rwlock", "semaphore")


@dataclass(frozen=True, slots=True)
class Queue:
    """One lock or the like as it was found: its entries in their order."""

    kind: str
    name: str
    places: tuple[Place, ...]

    @property
    def holders(self) -> list[Place]:
        """Those whose turn it is."""
        return [place for place in self.places if isinstance(turn(self.places, place.id), Held)]

    def ahead(self, place: Place) -> list[Place]:
        """Return those whom `place` waits for: none when it holds."""
        if isinstance(turn(self.places, place.id), Held):
            return []
        before = [other for other in self.places if other.version < place.version]
        if place.ticket.mode is Mode.SHARED:
            before = [other for other in before if other.ticket.mode is Mode.EXCLUSIVE]
        return before

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


@dataclass(frozen=True, slots=True)
class Deadlock:
    """Tasks that wait for each other for ever, as a circle: each holds what the one before it waits for."""

    circle: tuple[tuple[Place, Queue], ...]
    """Each member's entry that waits, and the queue that it waits in."""

    def __str__(self) -> str:
        first, *rest = self.circle
        text = f"{who(first[0])} waits for the {first[1]}"
        for place, queue in rest:
            text += f", held by {who(place)}, which waits for the {queue}"
        return f"{text}, held by {who(first[0])}"


def who(place: Place) -> str:
    """Return a name for who stands at `place`."""
    return f"{place.ticket.task or 'a task'} on {place.ticket.node or 'a node'}"


def read_queues(entries: Iterable[Entry], prefix: str) -> list[Queue]:
    """Return the queues among `entries`, ordered by kind and name. What cannot be read is left out."""
    found: dict[tuple[str, str], list[Place]] = {}
    for entry in entries:
        parts = entry.key[len(prefix) :].split("/")
        if len(parts) != 4 or parts[2] != "q":  # The tail of a queue, for instance.
            continue
        try:
            place = read_place(parts[3], entry.version, entry.value)
        except CorruptData:
            continue
        found.setdefault((parts[0], unquoted(parts[1])), []).append(place)
    return [
        Queue(kind, name, tuple(sorted(places, key=lambda place: place.version)))
        for (kind, name), places in sorted(found.items())
    ]


def deadlocks(queues: Sequence[Queue]) -> list[Deadlock]:
    """Return the circles of tasks that wait for each other for ever."""
    waits: dict[str, list[tuple[Place, Queue]]] = {}
    for queue in queues:
        for place in queue.places:
            if queue.ahead(place) and place.ticket.owner:
                waits.setdefault(place.ticket.owner, []).append((place, queue))
    stuck = set(waits)
    while freed := {owner for owner in stuck if all(_will_be_served(*wait, stuck) for wait in waits[owner])}:
        stuck -= freed
    return _circles(stuck, waits)


def _will_be_served(place: Place, queue: Queue, stuck: set[str]) -> bool:
    in_the_way = [other for other in queue.ahead(place) if other.ticket.owner in stuck]
    return len(in_the_way) < place.ticket.places


def _circles(stuck: set[str], waits: Mapping[str, list[tuple[Place, Queue]]]) -> list[Deadlock]:
    found: list[Deadlock] = []
    seen: set[str] = set()
    for start in sorted(stuck):
        path: dict[str, tuple[Place, Queue]] = {}
        owner = start
        while owner not in seen and owner not in path:
            place, queue = next(wait for wait in waits[owner] if not _will_be_served(*wait, stuck))
            path[owner] = (place, queue)
            # Prefer one that holds: it is whom people look for.
            held = {other.id for other in queue.holders}
            ahead = [other for other in queue.ahead(place) if other.ticket.owner in stuck]
            owner = min(ahead, key=lambda other: (other.id not in held, other.version)).ticket.owner
        if owner in path:
            members = list(path)
            found.append(Deadlock(tuple(path[member] for member in members[members.index(owner) :])))
        seen.update(path)
    return found


async def scan_queues(store: Store, app: str) -> list[Queue]:
    """Read all queues of an app. Several pages of them need not be one moment."""
    prefix = f"{app}/lock/"
    entries: list[Entry] = []
    after, more = "", True
    while more:
        page = await store.scan(prefix, after=after)
        entries += page.entries
        after, more = page.entries[-1].key if page.entries else "", page.more
    return read_queues(entries, prefix)


async def force_release(
    store: Store, app: str, kind: str, name: str, token: int | None = None
) -> list[Place]:
    """Take a lock from whoever holds it, or a place from the one with this `token`; return whom.

    Raises `NotFound` when nobody holds it, `Conflict` when it has just changed hands.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"a kind is one of {', '.join(KINDS)}, not {kind!r}")
    queues = await scan_queues(store, app)
    queue = next((each for each in queues if (each.kind, each.name) == (kind, name)), None)
    if queue is None:
        others = ", ".join(f"{each.kind} {each.name}" for each in queues[:5])
        raise NotFound(f"nobody holds the {kind} {name!r}", hint=f"there are: {others}" if others else None)
    chosen = queue.holders if token is None else [each for each in queue.places if each.version == token]
    if not chosen:
        raise NotFound(f"nobody stands in the queue of the {queue} with the token {token}")
    keys = [f"{app}/lock/{kind}/{quoted(name)}/q/{place.id}" for place in chosen]
    checks = tuple(Check(key, place.version) for key, place in zip(keys, chosen, strict=True))
    try:
        await store.commit(Commit((), tuple(keys), checks))
    except Conflict as error:
        raise Conflict(f"the {queue} has changed hands just now", hint="look again: coterie locks") from error
    return chosen
