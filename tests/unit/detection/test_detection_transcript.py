"""The protocol as a golden transcript: three nodes, one of which falls silent and comes back; line by line.

After a wanted change run this file: `python tests/unit/detection/test_detection_transcript.py` writes the
transcript anew. Read the difference.
"""

from __future__ import annotations

import heapq
from itertools import count
from pathlib import Path

from coterie.detection import DetectionConfig, Gossip, Known, Send
from coterie.detection.messages import Ack, Ask, Message, Nack, Ping, Rumor

GOLDEN = Path(__file__).with_name("transcript.txt")


def said(rumor: Rumor) -> str:
    by = f" by {rumor.by}" if rumor.by else ""
    return f"{rumor.id} {rumor.state.name.lower()}@{rumor.incarnation}{by}"


def shown(message: Message) -> str:
    words = [type(message).__name__.lower()]
    if isinstance(message, Ping | Ack | Ask | Nack):
        words.append(str(message.number))
    if isinstance(message, Ask):
        words.append(f"about {message.target}")
    return " ".join(words) + "".join(f", {said(rumor)}" for rumor in message.rumors)


class Transcript:
    """Nodes whose messages take 10 ms, and all that they send and learn."""

    def __init__(self, *ids: str) -> None:
        self.lines: list[str] = []
        self.silent: set[str] = set()
        self._events: list[tuple[float, int, str, Message | None]] = []
        self._order = count()
        known = {id_: Known(id_, id_, f"{id_}:1") for id_ in ids}
        self.nodes: dict[str, Gossip] = {}
        for place, id_ in enumerate(ids):
            # Chance that takes turns: the same for ever, and never always the same.
            turns = count(place)
            node = Gossip(
                known[id_],
                DetectionConfig(),
                now=0.1 * place,
                chance=lambda bound, turns=turns: next(turns) % bound,  # type: ignore[misc]
            )
            node.sync(known)
            node.take_changes()
            self.nodes[id_] = node
            self._push(node.next_at, id_, None)

    def _push(self, at: float, id_: str, message: Message | None) -> None:
        heapq.heappush(self._events, (at, next(self._order), id_, message))

    def _sent(self, now: float, id_: str, sends: list[Send]) -> None:
        for send in sends:
            self.lines.append(f"{now:6.3f}  {id_} -> {send.to}  {shown(send.message)}")
            if send.to not in self.silent:
                self._push(now + 0.01, send.to, send.message)
        for change in self.nodes[id_].take_changes():
            after = "forgotten" if change.after is None else change.after.name.lower()
            self.lines.append(f"{now:6.3f}  {id_} holds {change.id} to be {after}")

    def run(self, until: float) -> None:
        while self._events[0][0] <= until:
            now, _, id_, message = heapq.heappop(self._events)
            node = self.nodes[id_]
            if id_ in self.silent:
                self._push(until + 0.001, id_, None) if message is None else None
            elif message is None:
                self._sent(now, id_, node.tick(now))
                self._push(max(node.next_at, now + 0.001), id_, None)
            else:
                due = node.next_at
                self._sent(now, id_, node.received(message, now))
                if node.next_at < due:
                    self._push(node.next_at, id_, None)


def transcript() -> str:
    play = Transcript("a", "b", "c")
    play.lines.append("# all is well")
    play.run(1.0)
    play.lines.append("# c falls silent")
    play.silent = {"c"}
    play.run(3.0)
    play.lines.append("# c is back")
    play.silent = set()
    play.run(4.5)
    return "\n".join(play.lines) + "\n"


def test_the_protocol_is_as_it_was() -> None:
    assert transcript() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.write_text(transcript())
