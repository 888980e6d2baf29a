"""Machines of gossip beside each other, on a network that delays and loses, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count

from coterie.detection import DetectionConfig, Gossip, Known, Send, State

__all__ = ["Network", "name"]


def name(number: int) -> str:
    return f"n{number:04}"


class Network:
    """`size` nodes that know each other, if `acquainted`. All chance comes from `seed`."""

    def __init__(
        self,
        size: int,
        *,
        seed: int = 1,
        loss: float = 0.0,
        config: DetectionConfig | None = None,
        machine: type[Gossip] = Gossip,
        acquainted: bool = True,
    ) -> None:
        self.random = random.Random(seed)
        self.config = config or DetectionConfig()
        self.loss = loss
        self.now = 0.0
        self.nodes: dict[str, Gossip] = {}
        self.down: set[str] = set()
        self.cut: Callable[[str, str], bool] = lambda sender, to: False
        self.latency_s: Callable[[str, str], float] = lambda sender, to: 0.001 + self.random.random() / 500
        self.sent: Counter[str] = Counter()
        self.largest = 0
        self.heard: list[tuple[float, str, str, State | None]] = []
        """When which node changed its mind about whom."""
        self.on_send: Callable[[float, str, Send], None] = lambda now, sender, send: None
        self._machine = machine
        self._events: list[tuple[float, int, str, object]] = []
        self._order = count()
        known = {name(i): Known(name(i), name(i), f"{name(i)}:1") for i in range(size)}
        for each in known.values():
            self.start(each)
        if acquainted:
            for node in self.nodes.values():
                node.sync(known)
                node.take_changes()

    def start(self, me: Known) -> Gossip:
        """Start one more node, which knows nobody."""
        chance = random.Random(self.random.random())
        node = self._machine(me, self.config, now=self.now, chance=lambda bound: int(chance.random() * bound))
        self.nodes[me.id] = node
        self._wake(me.id, node)
        return node

    def _wake(self, id_: str, node: Gossip) -> None:
        heapq.heappush(self._events, (node.next_at, next(self._order), id_, None))

    def send(self, sender: str, sends: Iterable[Send]) -> None:
        for send in sends:
            self.sent[sender] += 1
            self.largest = max(self.largest, len(send.message.rumors) + len(send.message.loads))
            self.on_send(self.now, sender, send)
            if self.random.random() < self.loss or self.cut(sender, send.to):
                continue
            at = self.now + self.latency_s(sender, send.to)
            heapq.heappush(self._events, (at, next(self._order), send.to, send.message))

    def run(self, seconds: float, *, until: Callable[[], bool] | None = None) -> float:
        """Let time pass, until a condition that is looked at every 50 ms if there is one. Return the time."""
        end, look_at = self.now + seconds, self.now
        while self._events and self._events[0][0] <= end:
            if until is not None and self.now >= look_at:
                look_at += 0.05
                if until():
                    return self.now
            self.now, _, id_, message = heapq.heappop(self._events)
            node = self.nodes.get(id_)
            if node is None or id_ in self.down:
                continue
            due = node.next_at
            if message is None:
                if due > self.now:
                    self._wake(id_, node)
                    continue
                self.send(id_, node.tick(self.now))
                self._wake(id_, node)
            else:
                self.send(id_, node.received(message, self.now))  # type: ignore[arg-type]
                if node.next_at < due:
                    self._wake(id_, node)
            for change in node.take_changes():
                self.heard.append((self.now, id_, change.id, change.after))
        self.now = end
        return self.now

    def kill(self, *ids: str) -> None:
        self.down.update(ids)

    def resume(self, id_: str) -> None:
        """Let a node that was down run again, late for everything."""
        self.down.discard(id_)
        self.send(id_, self.nodes[id_].tick(self.now))
        self._wake(id_, self.nodes[id_])

    def live(self) -> list[Gossip]:
        return [node for id_, node in self.nodes.items() if id_ not in self.down]

    def all_say(self, about: str, *states: State | None) -> bool:
        """Whether all live nodes but itself hold a node to be in one of these states."""
        return all(node.state(about) in states for node in self.live() if node.me.id != about)

    def blamed(self) -> set[str]:
        """Return who was suspected, or held to be dead, by anybody so far."""
        return {about for _, _, about, state in self.heard if state in {State.SUSPECT, State.DEAD}}
