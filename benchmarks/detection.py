"""Failure detection: what it costs a node, at several sizes, and how soon a death is noticed by all.

The protocol is measured in virtual time: the machines of all nodes in one process, with their messages
encoded and decoded, and no sockets. Detection of a death is measured over real sockets within one
process, beside kinship (SWIM with Lifeguard in Rust, over UDP) if that is installed, at the same period.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable
from functools import partial
from itertools import count

from coterie.detection import DetectionConfig, Gossip, Known, Send, State
from coterie.detection.messages import decode, encode

from ._detection_peers import Crowd, OurCrowd, PeerCrowd, have_peer
from ._harness import Goal, Row, Sample, compare, loop_factory, main, take_turns

__all__ = ["TITLE", "run"]

TITLE = "Failure detection: cost of a node, and time to notice a death"
SIZES = (10, 100, 1000)
GOAL_CPU_MS = 5.0
"""Half a percent of a core."""


class _Protocol:
    """Machines beside each other in virtual time. Each message takes a millisecond."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self._order = count()
        self._events: list[tuple[float, int, str, bytes | None]] = []
        known = {f"n{i}": Known(f"n{i}", f"n{i}", f"10.0.{i // 250}.{i % 250}:7400") for i in range(size)}
        self.nodes = {
            id_: Gossip(each, DetectionConfig(), now=0.0, chance=self._below) for id_, each in known.items()
        }
        self.down: set[str] = set()
        self.messages = self.bytes = 0
        self.now = 0.0
        for id_, node in self.nodes.items():
            node.sync(known)
            self._push(node.next_at, id_, None)

    def _below(self, bound: int) -> int:
        return int(self._chance.random() * bound)

    def _push(self, at: float, id_: str, body: bytes | None) -> None:
        heapq.heappush(self._events, (at, next(self._order), id_, body))

    def _send(self, sends: list[Send]) -> None:
        for send in sends:
            body = encode(send.message)
            self.messages += 1
            self.bytes += len(body)
            self._push(self.now + 0.001, send.to, body)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let time pass, until a condition that is looked at every 50 ms."""
        end, look_at = self.now + seconds, self.now
        while self._events[0][0] <= end:
            if until is not None and self.now >= look_at:
                look_at = self.now + 0.05
                if until():
                    return
            self.now, _, id_, body = heapq.heappop(self._events)
            node = self.nodes[id_]
            if id_ in self.down:
                continue
            due = node.next_at
            if body is not None:
                self._send(node.received(decode(body), self.now))
                if node.next_at < due:
                    self._push(node.next_at, id_, None)
            else:
                self._send(node.tick(self.now))
                self._push(node.next_at, id_, None)
        self.now = end


def _cost(size: int, seconds: float) -> tuple[Sample, Sample, Sample]:
    """Return messages a second, bytes of one, and milliseconds of CPU a second, of one node."""
    protocol = _Protocol(size)
    protocol.run(2.0)
    messages, size_bytes, began = protocol.messages, protocol.bytes, time.process_time()
    protocol.run(seconds)
    used_s = time.process_time() - began
    messages = protocol.messages - messages
    size_bytes = protocol.bytes - size_bytes
    share = size * seconds
    return Sample(messages / share), Sample(size_bytes / messages), Sample(used_s * 1000 / share)


def _noticed_s(size: int, seed: int) -> Sample:
    """Return after how many virtual seconds all others suspect a node that died."""
    protocol = _Protocol(size, seed)
    protocol.run(2.0)
    protocol.down.add("n1")
    began = protocol.now
    others = [node for id_, node in protocol.nodes.items() if id_ != "n1"]
    protocol.run(30.0, until=lambda: all(node.state("n1") is not State.ALIVE for node in others))
    return Sample(protocol.now - began)


async def _real(crowd: Crowd, size: int, seconds: float) -> tuple[Sample, Sample]:
    """Return milliseconds of CPU a node uses in a second, and the seconds until a death was noticed."""
    try:
        await crowd.start(size)
        await asyncio.sleep(1.0)
        began, used_s = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        share = (time.perf_counter() - began) * size
        cpu = Sample((time.process_time() - used_s) * 1000 / share)
        noticed = await crowd.kill()
        began = time.perf_counter()
        async with asyncio.timeout(60):
            while not noticed():  # noqa: ASYNC110 - the peer tells it to those who look only
                await asyncio.sleep(0.01)
        return cpu, Sample(time.perf_counter() - began)
    finally:
        await crowd.close()


def _protocol_rows(*, rounds: int, seconds: float) -> list[Row]:
    found = {
        size: [_cost(size, seconds if size < 1000 else seconds / 2) for _ in range(rounds)] for size in SIZES
    }
    rows = []
    for index, (part, unit) in enumerate(
        [("messages of a node", "per s"), ("size of a message", "bytes"), ("CPU of a node, protocol", "ms/s")]
    ):
        samples = {f"{size} members": [each[index] for each in of] for size, of in found.items()}
        goals = [Goal(name, at_most=GOAL_CPU_MS) for name in samples] if unit == "ms/s" else []
        rows += compare(part, samples, unit=unit, goals=goals)
    noticed = {f"{size} members": [_noticed_s(size, seed) for seed in range(rounds)] for size in SIZES}
    return rows + compare("a death is noticed by all, virtual", noticed, unit="s")


def _real_rows(*, rounds: int, size: int, seconds: float) -> list[Row]:
    crowds: dict[str, Callable[[], Crowd]] = {"coterie": OurCrowd}
    if have_peer():
        crowds["kinship"] = PeerCrowd
    noticed: dict[str, list[Sample]] = {name: [] for name in crowds}
    with asyncio.Runner(loop_factory=loop_factory) as runner:

        def turn(name: str) -> Sample:
            cpu, took = runner.run(_real(crowds[name](), size, seconds))
            noticed[name].append(took)
            return cpu

        turns = {name: partial(turn, name) for name in crowds}
        cpu = take_turns(turns, rounds=rounds, warm_up=0)
    return [
        *compare(f"CPU of a node, {size} on sockets", cpu, unit="ms/s"),
        *compare(
            f"a death is noticed by all, {size} on sockets",
            noticed,
            unit="s",
            goals=[Goal("coterie", at_most=3.0)],
        ),
    ]


def run(quick: bool = False) -> list[Row]:
    """Measure cost and speed of detection."""
    rounds, seconds = (2, 2.0) if quick else (5, 10.0)
    return [
        *_protocol_rows(rounds=rounds, seconds=seconds),
        *_real_rows(rounds=rounds, size=10, seconds=seconds),
    ]


if __name__ == "__main__":
    main(TITLE, run)
