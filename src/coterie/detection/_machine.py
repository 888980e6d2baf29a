"""Who lives, as the nodes tell each other: the protocol of one node. Pure: time and chance are inputs.

Das, Gupta and Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership
Protocol" (DSN 2002), with the local health of Lifeguard (Dadgar et al., DSN 2018):

- In each period a node probes one other. When that does not answer in time, some others are asked to probe
  it as well. When they reach it neither, it is *suspected*, and everybody is told.
- A suspected node that lives hears of it, above all from whoever talks to it, and refutes it with a higher
  incarnation. Otherwise it is *dead* after a time that becomes shorter with all who suspect it as well.
- A node that hears nothing from anybody blames itself first, and takes more time before it blames others.

Beside that each node sends a heartbeat to a few others, its successors on a ring. They probe it out of turn
when the silence becomes surprising (φ accrual). So each node sends a number of messages that does not
depend on the size of the cluster, each of bounded size.

    ALIVE --a probe failed--> SUSPECT --nothing refuted it--> DEAD
      ^------a higher incarnation, by itself only-----'---------'      LEFT: said by itself, final
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from ._loads_machine import LoadTable
from ._phi_machine import PhiAccrual, deviations_of
from ._rumors_machine import Rumors
from ._suspicion_machine import LocalHealth, Suspicion
from ._table_machine import Chance, Known, Table
from .config import DetectionConfig
from .messages import Ack, Ask, Beat, Message, Nack, Ping, Rumor, State

__all__ = ["Change", "Gossip", "Send", "Statistics"]


_MOST_LATE = 64
_MOST_RELAYS = 256
"""For so many others at once a node probes somebody."""


class Send(NamedTuple):
    """A message to be sent. It may get lost."""

    to: str
    address: str
    message: Message


class Change(NamedTuple):
    """What is known of a node has changed; None stands for nothing."""

    id: str
    before: State | None
    after: State | None


@dataclass(slots=True)
class Statistics:
    """What a node did so far."""

    probes: int = 0
    failed: int = 0
    """Probes that neither the node nor anybody who was asked answered with an ack."""
    suspected: int = 0
    """Suspicions that this node raised itself."""
    died: int = 0
    """Nodes that it held to be dead."""
    refuted: int = 0
    """Suspicions of itself that it refuted."""
    overslept: int = 0
    """Times that it was not run for longer than a period."""


@dataclass(slots=True)
class _Probe:
    target: str
    indirect_at: float
    until: float
    asked: int = 0
    nacks: set[str] = field(default_factory=set)


class _Relay(NamedTuple):
    asker: str
    number: int
    until: float


class Gossip:
    """One node's part. The driver calls `tick` at `next_at` or soon after, and `received` for each message;
    both return what is to be sent. `changes` has what was learned since `take_changes`."""

    def __init__(self, me: Known, config: DetectionConfig, *, now: float, chance: Chance) -> None:
        self.me: Known = me
        self.config: DetectionConfig = config
        self.health: LocalHealth = LocalHealth(config.max_health)
        self.statistics: Statistics = Statistics()
        self.table: Table = Table(me.id, chance)
        self.loads: LoadTable = LoadTable(me.id, config.max_loads)
        self._chance = chance
        self._rumors = Rumors(config.max_rumors)
        self._rumors.add(me.said())
        self._members = self.table.members
        self._official: frozenset[str] = frozenset()
        self._phis: dict[str, PhiAccrual] = {}
        self._suspicions: dict[str, Suspicion] = {}
        self._doubted: dict[str, int] = {}
        """Of whom so many probes in a row ended without a word from anybody: they are probed again."""
        self._late: dict[int, str] = {}
        """Whom those probes were for: an answer that comes late is an answer."""
        self._gone: dict[str, float] = {}
        """Since when the dead and those that left are so."""
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}
        self._number = 0
        self._looked_at = -math.inf
        """When the heartbeats were looked at last; those overdue then were probed."""
        self._replan = False
        """Whether something is due that was not known when `next_at` was worked out."""
        self._changes: list[Change] = []
        self._reply: dict[type[Message], Callable[..., list[Send]]] = {
            Beat: self._on_beat,
            Ping: self._on_ping,
            Ack: self._on_ack,
            Ask: self._on_ask,
            Nack: self._on_nack,
        }
        # Nodes that start together do not send together.
        self._period_at = now + config.period_s * self._chance(1000) / 1000
        self._deviations = deviations_of(config.phi)
        self.next_at: float = self._period_at
        """When `tick` is due."""

    # What it knows.

    def state(self, id_: str) -> State | None:
        """Return what is known of a node."""
        known = self._members.get(id_)
        return None if known is None else known.state

    def phi(self, id_: str, now: float) -> float | None:
        """Return φ of a node, if its heartbeats come here."""
        phi = self._phis.get(id_)
        return None if phi is None else phi.phi(now)

    @property
    def watched(self) -> tuple[str, ...]:
        """The nodes whose heartbeats come here."""
        return tuple(self._phis)

    def take_changes(self) -> list[Change]:
        """Return what changed since the last time, in order."""
        changes, self._changes = self._changes, []
        return changes

    def sync(self, members: Mapping[str, Known]) -> None:
        """Take in who is a member by the Store, the authority for that.

        Who is not there stays known for as long as it answers: it may be the Store that is cut off.
        """
        self._official = frozenset(members)
        new = [known for id_, known in members.items() if id_ not in self._members and id_ != self.me.id]
        del new[max(0, self.config.max_members - len(self._members)) :]
        if new:
            self.table.fill(new)
            self._changes += [Change(known.id, None, known.state) for known in new]

    # Time.

    def tick(self, now: float) -> list[Send]:
        """Do what is due at `now`."""
        if now < self.next_at or self.me.state is State.LEFT:
            return []
        late_s = now - self.next_at
        if late_s > self.config.period_s:
            self._overslept(late_s, now)
        out: list[Send] = []
        self._end_relays(now, out)
        self._end_probes(now, out)
        for id_ in [id_ for id_, suspicion in self._suspicions.items() if suspicion.until <= now]:
            self.statistics.died += 1
            self._hear(self._said(id_, State.DEAD), now)
        if now >= self._period_at:
            self._period(now, out)
        self._look(now, out)
        self._plan()
        return out

    def _plan(self) -> None:
        self._replan = False
        due = self._period_at
        for phi in self._phis.values():
            overdue_at = phi.reaches(self._deviations)
            if overdue_at > self._looked_at:
                due = min(due, overdue_at)
        for probe in self._probes.values():
            due = min(due, probe.until if probe.asked else probe.indirect_at)
        for relay in self._relays.values():
            due = min(due, relay.until)
        for suspicion in self._suspicions.values():
            due = min(due, suspicion.until)
        self.next_at = due

    def _overslept(self, late_s: float, now: float) -> None:
        """This node was paused, or its loop was blocked: that it heard nothing was no one else's fault."""
        self.statistics.overslept += 1
        self.health.worse()
        self._probes.clear()
        self._relays.clear()
        for phi in self._phis.values():
            phi.forgive(late_s, now)
        for suspicion in self._suspicions.values():
            suspicion.extend(late_s)
        self._period_at = now

    def _period(self, now: float, out: list[Send]) -> None:
        period_s = self.config.period_s
        self._period_at += period_s * max(1, math.ceil((now - self._period_at) / period_s))
        self.loads.count()
        self._watch(now)
        target = self.table.next()
        if target is not None:
            self._probe(target, now, out)
        # A probe is as good as a heartbeat.
        out += [self._send(id_, Beat) for id_ in self.table.after(self.config.watchers) if id_ != target]
        if self._gone:
            self._visit_the_dead(now, out)

    def _watch(self, now: float) -> None:
        """Watch the heartbeats of those that send them here."""
        watched = self.table.before(self.config.watchers)
        if self._phis.keys() != set(watched):
            self._phis = {
                id_: self._phis.get(id_) or PhiAccrual(self.config.heartbeats, now) for id_ in watched
            }

    def _look(self, now: float, out: list[Send]) -> None:
        """Probe those whose heartbeats are overdue, and once more whom nobody said anything of."""
        self._looked_at = now
        overdue = [id_ for id_, phi in self._phis.items() if phi.reaches(self._deviations) <= now]
        for id_ in (*overdue, *(each for each in self._doubted if each not in overdue)):
            if self.state(id_) is State.ALIVE:
                self._probe(id_, now, out)

    def _visit_the_dead(self, now: float, out: list[Send]) -> None:
        """Forget whom nobody claims to be a member; now and then tell another what is said of it.

        So two halves of a cluster that held each other to be dead find together again.
        """
        for id_, since in list(self._gone.items()):
            if now - since >= self.config.forget_s and id_ not in self._official:
                self._forget(id_)
        dead = [id_ for id_ in self._gone if self.state(id_) is State.DEAD]
        if dead and not self._chance(4):
            out.append(self._send(dead[self._chance(len(dead))], Beat))

    def _forget(self, id_: str) -> None:
        self._changes.append(Change(id_, self._members[id_].state, None))
        self.table.forget(id_)
        self.loads.drop(id_)
        self._rumors.drop((id_,))
        self._gone.pop(id_, None)

    # Probes.

    def _probe(self, target: str, now: float, out: list[Send]) -> None:
        if any(probe.target == target for probe in self._probes.values()):
            return
        config, factor = self.config, self.health.factor
        self.statistics.probes += 1
        self._number += 1
        self._probes[self._number] = _Probe(
            target, now + config.timeout_s * factor, now + config.period_s * factor
        )
        out.append(self._send(target, Ping, self._number, target))

    def _end_probes(self, now: float, out: list[Send]) -> None:
        for number, probe in list(self._probes.items()):
            if not probe.asked and probe.indirect_at <= now:
                helpers = self.table.some(self.config.helpers, (probe.target,))
                probe.asked = len(helpers)
                out += [self._send(helper, Ask, number, probe.target) for helper in helpers]
                if helpers:
                    continue
                probe.until = now
            if probe.until <= now:
                del self._probes[number]
                self._probe_failed(number, probe, now)

    def _probe_failed(self, number: int, probe: _Probe, now: float) -> None:
        self.statistics.failed += 1
        known = self._members.get(probe.target)
        if known is None or known.state >= State.DEAD:
            return
        if len(probe.nacks) * 2 < max(probe.asked, 1):
            self.health.worse()
        if not probe.nacks and known.state is State.ALIVE:
            # Neither the node nor any helper said a word, which speaks against this node as well.
            doubts = self._doubted.get(probe.target, 0) + 1
            if doubts <= (self.config.doubts if probe.asked else 1):
                self._doubted[probe.target] = doubts
                self._late[number] = probe.target
                if len(self._late) > _MOST_LATE:
                    del self._late[next(iter(self._late))]
                return
        self._doubted.pop(probe.target, None)
        if known.state is State.ALIVE:
            self.statistics.suspected += 1
        self._hear(self._said(probe.target, State.SUSPECT), now)

    def _end_relays(self, now: float, out: list[Send]) -> None:
        for number, relay in list(self._relays.items()):
            if relay.until <= now:
                del self._relays[number]
                if relay.asker in self._members:
                    out.append(self._send(relay.asker, Nack, relay.number))

    # Messages.

    def received(self, message: Message, now: float) -> list[Send]:
        """Take in a message; return the answer to it, if there is one."""
        if self.me.state is State.LEFT or message.sender == self.me.id:
            return []
        for rumor in message.rumors:
            self._hear(rumor, now)
        for report in message.loads:
            if report.id in self._members:
                self.loads.hear(report)
        known = self._members.get(message.sender)
        out = [] if known is None else self._reply[type(message)](message, known, now)
        if self._replan:
            self._plan()
        return out

    def _on_beat(self, beat: Beat, known: Known, now: float) -> list[Send]:
        self._heartbeat(beat.sender, now)
        # It lives, whatever is said of it; it must hear what that is.
        return [] if known.state is State.ALIVE else [self._send(beat.sender, Beat)]

    def _heartbeat(self, sender: str, now: float) -> None:
        phi = self._phis.get(sender)
        if phi is not None:
            phi.heartbeat(now)

    def _on_ping(self, ping: Ping, known: Known, now: float) -> list[Send]:
        self._heartbeat(ping.sender, now)
        return [self._send(ping.sender, Ack, ping.number)] if ping.to == self.me.id else []

    def _on_ack(self, ack: Ack, known: Known, now: float) -> list[Send]:
        probe = self._probes.pop(ack.number, None)
        if probe is not None:
            self.health.better()
            self._doubted.pop(probe.target, None)
            return []
        self._doubted.pop(self._late.pop(ack.number, ""), None)
        relay = self._relays.pop(ack.number, None)
        if relay is not None and relay.asker in self._members:
            return [self._send(relay.asker, Ack, relay.number)]
        return []

    def _on_ask(self, ask: Ask, known: Known, now: float) -> list[Send]:
        if len(self._relays) >= _MOST_RELAYS or ask.target not in self._members:
            return [self._send(ask.sender, Nack, ask.number)]
        self._number += 1
        self._replan = True
        self._relays[self._number] = _Relay(ask.sender, ask.number, now + 0.8 * self.config.timeout_s)
        return [self._send(ask.target, Ping, self._number, ask.target)]

    def _on_nack(self, nack: Nack, known: Known, now: float) -> list[Send]:
        probe = self._probes.get(nack.number)
        if probe is not None:
            probe.nacks.add(nack.sender)
        return []

    def _send(self, to: str, kind: Callable[..., Message], *details: object) -> Send:
        known = self._members[to]
        first: list[Rumor] = []
        if kind is Ping:
            first.append(self.me.said())  # Who is asked must know whom to answer.
        if known.state is not State.ALIVE:
            first.append(known.said(self.me.id))
        rumors = self._rumors.take(self.config.repeats(self.table.living + 1), first)
        return Send(to, known.address, kind(self.me.id, self.loads.take(), rumors, *details))

    # News.

    def _said(self, id_: str, state: State) -> Rumor:
        return Rumor(id_, state, self._members[id_].incarnation, self.me.id)

    def _hear(self, rumor: Rumor, now: float) -> None:
        """Take in a piece of news, and pass it on if it is one."""
        if rumor.id == self.me.id:
            self._defend(rumor)
            return
        known = self._members.get(rumor.id)
        if known is None:
            if rumor.state is State.ALIVE and rumor.address and len(self._members) < self.config.max_members:
                known = Known(rumor.id, rumor.name, rumor.address, rumor.state, rumor.incarnation)
                self.table.add(known)
                self._rumors.add(rumor)
                self._changes.append(Change(rumor.id, None, rumor.state))
        elif known.older_than(rumor):
            self._learn(known, rumor, now)
        elif known.state is rumor.state is State.SUSPECT and known.incarnation == rumor.incarnation:
            self._confirm(rumor)

    def _confirm(self, rumor: Rumor) -> None:
        if self._suspicions[rumor.id].confirm(rumor.by):
            self._rumors.add(rumor)
            self._replan = True

    def _learn(self, known: Known, rumor: Rumor, now: float) -> None:
        self.table.change(msgspec.structs.replace(known, state=rumor.state, incarnation=rumor.incarnation))
        self._rumors.add(rumor)
        self._suspicions.pop(known.id, None)
        self._gone.pop(known.id, None)
        if rumor.state is State.SUSPECT:
            living = self.table.living + 1
            least_s, most_s = self.config.suspicion_s(living)
            # Neither it nor whoever suspects it first can confirm.
            enough = max(0, min(self.config.confirmations, living - 2))
            self._suspicions[known.id] = Suspicion(
                rumor.by, now, least_s=least_s, most_s=most_s, enough=enough
            )
            self._replan = True
        elif rumor.state >= State.DEAD:
            self._gone[known.id] = now
            self._doubted.pop(known.id, None)
        if rumor.state is not known.state:
            self._changes.append(Change(known.id, known.state, rumor.state))

    def _defend(self, rumor: Rumor) -> None:
        """Refute what is said of this node: only it may raise its incarnation."""
        if rumor.state not in {State.SUSPECT, State.DEAD} or rumor.incarnation < self.me.incarnation:
            return
        self.me = msgspec.structs.replace(self.me, incarnation=rumor.incarnation + 1)
        self.statistics.refuted += 1
        self.health.worse()
        self._rumors.add(self.me.said())

    def leave(self) -> list[Send]:
        """Say farewell to some, who tell the others. After that the node is silent."""
        if self.me.state is State.LEFT:
            return []
        self.me = msgspec.structs.replace(self.me, state=State.LEFT)
        self._rumors.add(self.me.said())
        near = self.table.after(self.config.watchers)
        return [self._send(id_, Beat) for id_ in (*near, *self.table.some(self.config.helpers, near))]
