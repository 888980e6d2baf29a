"""Runs the protocol of one node on its wire and its loop: the thin part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from ..ports.entropy import Entropy
from ..ports.wire import Wire
from ..telemetry import Counter, Family, gauge
from ._links import Hello, Links
from ._machine import Change, Gossip, Send
from ._table_machine import Known
from .config import DetectionConfig
from .messages import State, decode, encode

__all__ = ["Detector"]

_log = logging.getLogger("coterie.detection")
_MOST_LINKS = 64
"""To so many others connections are kept open. In larger clusters a probe may have to connect first."""


class Detector:
    """Which nodes live, as this one and those that it talks to see it.

    `start` begins to send, `datagram` takes what others send, `sync` takes in what the Store says. What
    comes out is a hint: whom to call last. `on_change` is called when `suspected` has changed.
    """

    Load = Callable[[], int]
    """Returns how many calls are under way here."""

    def __init__(
        self,
        me: Known,
        wire: Wire,
        *,
        entropy: Entropy,
        hello: Hello,
        load: Load,
        on_change: Callable[[], None],
        config: DetectionConfig | None = None,
    ) -> None:
        config = config or DetectionConfig()
        self._loop = asyncio.get_running_loop()
        self.gossip: Gossip = Gossip(me, config, now=self._loop.time(), chance=entropy.randbelow)
        self.suspected: frozenset[str] = frozenset()
        """The ids of the nodes that are suspected or taken to be dead."""
        self._links = Links(wire, hello, most=_MOST_LINKS, timeout_s=2 * config.period_s)
        self._load = load
        self._on_change = on_change
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._messages = Counter(
            "coterie_detection_messages_total", "Messages of failure detection.", ("kind", "direction")
        )
        self._seen = Counter(
            "coterie_detection_changes_total", "How often a node was held to be in a state.", ("state",)
        )

    def start(self) -> None:
        """Take part from now on."""
        self._schedule()

    def sync(self, members: Mapping[str, Known]) -> None:
        """Take in who is a member by the Store."""
        self.gossip.sync(members)
        self._note()

    def datagram(self, body: bytes, peer: str) -> None:
        """Take in what another node has sent. What cannot be read is counted and dropped."""
        if self._closed:
            return
        try:
            message = decode(body)
        except msgspec.DecodeError:
            self._messages.add(("unreadable", "in"))
            return
        self._messages.add((type(message).__name__.lower(), "in"))
        due = self.gossip.next_at
        self._send(self.gossip.received(message, self._loop.time()))
        self._note()
        if self.gossip.next_at < due:
            self._schedule()

    def leave(self) -> None:
        """Tell the others that this node leaves."""
        if not self._closed:
            self._send(self.gossip.leave())

    async def close(self) -> None:
        """Stop, and say nothing. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._links.close()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            # A loop that counts in milliseconds may call a little early; it must not be asked in a circle.
            at = max(self.gossip.next_at, self._loop.time() + 0.001)
            self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self.gossip.loads.load = max(0, self._load())
        self._send(self.gossip.tick(self._loop.time()))
        self._note()
        self._schedule()

    def _send(self, sends: Iterable[Send]) -> None:
        for send in sends:
            self._messages.add((type(send.message).__name__.lower(), "out"))
            self._links.send(send.address, encode(send.message))

    def _note(self) -> None:
        changes = self.gossip.take_changes()
        if not changes:
            return
        for change in changes:
            self._tell(change)
        members = self.gossip.table.members
        suspected = {change.id for change in changes if _doubtful(members.get(change.id))}
        suspected |= {id_ for id_ in self.suspected if _doubtful(members.get(id_))}
        if any(change.after is None or change.after >= State.DEAD for change in changes):
            self._links.retain({known.address for known in members.values() if known.state < State.LEFT})
        if suspected != self.suspected:
            self.suspected = frozenset(suspected)
            self._on_change()

    def _tell(self, change: Change) -> None:
        if change.after is None:
            return
        self._seen.add((change.after.name.lower(),))
        if change.before is not None:
            known = self.gossip.table.members[change.id]
            _log.info("%s (%s) is %s", known.name, known.address, known.state.name.lower())

    def collect(self) -> Iterable[Family]:
        """Return the metrics."""
        gossip = self.gossip
        yield self._messages.family()
        yield self._seen.family()
        yield gauge("coterie_detection_suspected", "Nodes that are suspected or dead.", len(self.suspected))
        yield gauge(
            "coterie_detection_health", "How little this node trusts itself: 0 is well.", gossip.health.score
        )
        yield gauge("coterie_detection_links", "Connections for failure detection.", len(self._links))
        phis = [gossip.phi(id_, self._loop.time()) or 0.0 for id_ in gossip.watched]
        yield gauge(
            "coterie_detection_phi_max",
            "The greatest phi of the nodes that are watched.",
            max(phis, default=0.0),
        )
        for name in ("probes", "failed", "suspected", "died", "refuted", "overslept"):
            counter = Counter(f"coterie_detection_{name}_total", f"Of failure detection: {name}.")
            counter.add((), getattr(gossip.statistics, name))
            yield counter.family()


def _doubtful(known: Known | None) -> bool:
    return known is not None and known.state in {State.SUSPECT, State.DEAD}
