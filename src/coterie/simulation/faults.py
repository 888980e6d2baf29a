"""Faults: what goes wrong, when, to whom; all of it drawn from the tape.

A plan is drawn as a whole before it begins: fault `n` from the stream `fault/n`, so that one of them
can be edited away without touching the others. Not every class of faults is on in every universe:
each is, with an even chance, as drawn from `swarm/<class>` (swarm testing, Groce et al., 2012), since
faults of one class often hide what another would show.

Adding a class: a function that takes the world, the fault's stream and the hosts' names, does the
damage, and returns how it is undone, registered with `@fault_class`.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument
from .network.links import Disturbance
from .tape import Stream, Tape

if TYPE_CHECKING:
    from .world import World

__all__ = ["CLASSES", "Damaged", "Fault", "Fired", "Plan", "Storm", "fault_class", "swarm"]

Undo = Callable[[], object]
Damage = Callable[["World", Stream, Sequence[str]], "Damaged | None"]


@dataclass(frozen=True, slots=True)
class Damaged:
    """What a fault did: a sentence for people, and how to undo it."""

    what: str
    undo: Undo | None = None


CLASSES: dict[str, Damage] = {}
"""Every class of faults by its name."""


def fault_class(name: str) -> Callable[[Damage], Damage]:
    """Register a class of faults."""

    def register(damage: Damage) -> Damage:
        CLASSES[name] = damage
        return damage

    return register


@dataclass(frozen=True, slots=True)
class Fault:
    """One planned fault, from `at_s` after the storm's beginning on for `duration_s`."""

    label: str
    """The stream that it draws from; edit it to be calm, and the fault does not happen."""
    kind: str
    at_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that happened, in words."""

    label: str
    kind: str
    at_s: float
    duration_s: float
    """How long it lasted; 0 for what happens in a moment."""
    what: str

    def __str__(self) -> str:
        lasting = f", for {self.duration_s:.3f} s" if self.duration_s else ""
        return f"at {self.at_s:.3f} s{lasting}: {self.what}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All faults of a storm, in the order of their time."""

    faults: tuple[Fault, ...]

    @classmethod
    def draw(
        cls, tape: Tape, classes: Sequence[str], duration_s: float, *, most: int = 12, name: str = "fault"
    ) -> Plan:
        """Draw up to `most` faults of `classes` within `duration_s`; `name` tells several plans apart."""
        if not classes:
            return cls(())
        count = tape.stream(f"{name}s").below(most + 1)
        faults = []
        for index in range(count):
            label = f"{name}/{index}"
            stream = tape.stream(label)
            if stream.fraction() is None:
                continue  # It was edited away.
            kind = stream.choose(classes)
            at_s = stream.uniform(0.0, duration_s)
            lasts_s = min(stream.spread(0.2, max(0.4, duration_s / 3), calm=1.0), duration_s - at_s)
            faults.append(Fault(label, kind, at_s, lasts_s))
        return cls(tuple(sorted(faults, key=lambda fault: fault.at_s)))


def swarm(tape: Tape, classes: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the classes that are on in this universe: of `classes`, or of all there are, about half."""
    wanted = list(CLASSES if classes is None else classes)
    for name in wanted:
        if name not in CLASSES:
            raise InvalidArgument(
                f"there is no class of faults called {name!r}; there are {', '.join(CLASSES)}"
            )
    return tuple(name for name in wanted if tape.stream(f"swarm/{name}").chance(0.5))


class Storm:
    """Lets a plan happen to the hosts `names` of a world, and clears up behind it."""

    def __init__(self, world: World, plan: Plan, names: Sequence[str]) -> None:
        self.plan = plan
        self.fired: list[Fired] = []
        self.counts: Counter[str] = Counter()
        self._world = world
        self._names = tuple(names)
        self._undo: dict[str, Undo] = {}
        self._timers = [world.later(fault.at_s, partial(self._fire, fault)) for fault in plan.faults]

    def _fire(self, fault: Fault) -> None:
        world = self._world
        names = self._names if world.members is None else world.members.reached(self._names)
        damaged = CLASSES[fault.kind](world, world.tape.stream(fault.label), names)
        if damaged is None:
            return
        self.counts[fault.kind] += 1
        lasts_s = 0.0 if damaged.undo is None else fault.duration_s
        self.fired.append(Fired(fault.label, fault.kind, world.time, lasts_s, damaged.what))
        world.note("fault", fault=fault.kind, what=damaged.what, duration_s=lasts_s)
        if damaged.undo is not None:
            self._undo[fault.label] = damaged.undo
            self._timers.append(world.later(fault.duration_s, lambda: self._heal(fault.label)))

    def _heal(self, label: str) -> None:
        undo = self._undo.pop(label, None)
        if undo is not None:
            undo()

    def end(self) -> None:
        """Undo what still lasts, and let nothing more happen. Idempotent."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for label in list(self._undo):
            self._heal(label)


# The classes. Each draws its victims first and its degree second.


def _some(stream: Stream, names: Sequence[str]) -> set[str]:
    """Draw a group that is neither empty nor everybody."""
    chosen = {name for name in names if stream.chance(0.5)}
    if not chosen or len(chosen) == len(names):
        chosen = {stream.choose(names)}
    return chosen


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


@fault_class("partition")
def _partition(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    if len(names) < 2:
        return None
    group = _some(stream, names)
    rest = set(names) - group
    kind = stream.choose(("split", "one-way", "partial"))
    if kind == "one-way":
        cuts = world.block(group, rest)
        what = f"nothing passes from {_list(group)} to {_list(rest)}"
    elif kind == "partial" and len(names) > 2:
        bridge = stream.choose(sorted(rest))
        cuts = world.partition(group, rest - {bridge}) if rest - {bridge} else world.partition(group, rest)
        what = f"{_list(group)} and {_list(rest - {bridge} or rest)} are cut apart"
    else:
        cuts = world.partition(group, rest)
        what = f"{_list(group)} and {_list(rest)} are cut apart"
    return Damaged(what, lambda: world.heal(cuts))


def _weather(
    world: World, stream: Stream, names: Sequence[str], what: str, **conditions: Any
) -> Damaged | None:
    """Change the links of one host, or of all, for a while."""
    victim = stream.choose(names)
    pairs = [pair for other in names if other != victim for pair in ((victim, other), (other, victim))]
    if not pairs:
        return None
    disturbance = Disturbance(frozenset(pairs), conditions)
    world.network.disturb(disturbance)
    return Damaged(f"{what} on all links of {victim}", lambda: world.network.settle(disturbance))


@fault_class("latency")
def _latency(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    tail = stream.uniform(0.05, 0.5)
    longest_s = stream.spread(0.05, 5.0)
    what = f"{tail:.0%} of the packets take up to {longest_s:.2f} s longer"
    return _weather(world, stream, names, what, tail=tail, tail_s=(0.01, longest_s))


@fault_class("loss")
def _loss(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    loss = stream.spread(0.01, 0.6)
    return _weather(world, stream, names, f"{loss:.0%} of the packets are lost", loss=loss)


@fault_class("duplicate")
def _duplicate(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    share = stream.uniform(0.1, 0.9)
    return _weather(world, stream, names, f"{share:.0%} of the datagrams come twice", duplicate=share)


@fault_class("bandwidth")
def _bandwidth(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    rate = stream.spread(2_000, 2_000_000)
    return _weather(world, stream, names, f"{rate:,.0f} bytes a second", bytes_per_s=rate)


@fault_class("fragment")
def _fragment(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    return _weather(world, stream, names, "writes arrive in pieces", fragment=stream.uniform(0.2, 1.0))


@fault_class("reset")
def _reset(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    victim = stream.choose(names)
    broken = sum(world.reset(victim, other) for other in world.hosts if other != victim)
    return Damaged(f"{broken} connections of {victim} are reset") if broken else None


@fault_class("pause")
def _pause(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    victim = stream.choose(names)
    if not world.host(victim).running:
        return None
    world.pause(victim)
    return Damaged(f"{victim} is paused", lambda: world.resume(victim))


@fault_class("slow")
def _slow(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    victim = stream.choose(names)
    step_s = stream.spread(0.0005, 0.05)
    world.slow(victim, step_s)
    return Damaged(f"{victim} is slow: {step_s * 1000:.1f} ms a step", lambda: world.slow(victim, 0.0))


@fault_class("kill")
def _kill(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    victim = stream.choose(names)
    if not world.host(victim).running:
        return None
    world.kill(victim)
    return Damaged(f"{victim} is killed, and started again after it", lambda: world.revive(victim))


@fault_class("crash")
def _crash(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    victim = stream.choose(names)
    if not world.host(victim).running:
        return None
    world.crash(victim)
    return Damaged(f"{victim} loses power, and comes back after it", lambda: world.revive(victim))


@fault_class("clock")
def _clock(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    victim = stream.choose(names)
    sign = stream.choose((1, -1))
    if stream.chance(0.3):
        before_ppm, drift_ppm = world.host(victim).clock.drift_ppm, sign * stream.spread(10, 5_000)
        world.clock(victim, drift_ppm=drift_ppm)
        return Damaged(
            f"the clocks of {victim} drift by {drift_ppm:+.0f} ppm",
            lambda: world.clock(victim, drift_ppm=before_ppm),
        )
    offset_s = sign * stream.spread(0.01, 60.0)
    world.clock(victim, offset_s=offset_s)
    return Damaged(
        f"the wall clock of {victim} is {offset_s:+.3f} s off", lambda: world.clock(victim, offset_s=0.0)
    )


@fault_class("disk")
def _disk(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    victim = stream.choose(names)
    disk = world.host(victim).disk
    if stream.chance(0.5):
        disk.failing = True
        return Damaged(f"the disk of {victim} fails with {errno.errorcode[errno.EIO]}", lambda: _mend(disk))
    disk.capacity = disk.used
    return Damaged(f"the disk of {victim} is full", lambda: _mend(disk))


def _mend(disk: Any) -> None:
    disk.failing, disk.capacity = False, None


_NOWHERE = "192.0.2.1"
"""An address that no host has (RFC 5737)."""


@fault_class("dns")
def _dns(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    victim = stream.choose(names)
    silenced, table = world.network.without_dns, world.network.dns
    if not stream.chance(0.5) or victim in table:
        silenced.add(victim)
        return Damaged(f"{victim} gets no answer from its name server", lambda: silenced.discard(victim))
    table[victim] = (_NOWHERE,)
    return Damaged(f"the name of {victim} leads to where nobody is", lambda: table.pop(victim, None))


@fault_class("schedule")
def _schedule(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    world.loop.schedule = world.tape.stream("schedule")

    def undo() -> None:
        world.loop.schedule = None

    return Damaged("the order of what happens at one moment on different hosts is drawn", undo)


@fault_class("engine")
def _engine(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    if not world.weaknesses:
        return None
    weakness = stream.choose(tuple(world.weaknesses.values()))
    return weakness(stream)


@fault_class("scale")
def _scale(world: World, stream: Stream, names: Sequence[str]) -> Damaged | None:
    members = world.members
    if members is None:
        return None
    if stream.chance(0.5):
        name = members.join()
        return Damaged(f"{name} joins, and leaves after it", lambda: members.leave(name, for_good=True))
    present = members.present
    there = [name for name in names if name in present]
    if len(present) < 2 or not there:
        return None
    victim = stream.choose(there)
    members.leave(victim)
    return Damaged(f"{victim} is told to leave, and joins again after it", lambda: members.rejoin(victim))
