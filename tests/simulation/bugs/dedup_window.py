"""Redelivered after the deduplication window: a message takes effect twice, a while apart.

What goes wrong: the consumer did the work, and then could not tell the broker for longer than the
database remembers what it has done. The broker delivers again, and nobody knows the message.

Textbook: at-least-once delivery with time-bounded deduplication (Amazon SQS FIFO: five minutes).

Repair: no window of time. Messages are numbered, and the database keeps up to which number all are done,
and the few done beyond it: that is small, and never forgets (a cumulative acknowledgement, as in TCP).
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from bug_kit import NoAnswer, ask, judge, recorder_of, serve, weather

from coterie.simulation import World

WINDOW_S = 3.0
INVISIBLE_S = 2.0
MESSAGES = 15


class Broker:
    """Hands a message out again when it was not acknowledged for a while.

    The object outlives its process, as what is on a disk does.
    """

    def __init__(self) -> None:
        self.visible_at_s = dict.fromkeys(range(MESSAGES), 0.0)

    async def answer(self, acknowledged: Any) -> Any:
        now = asyncio.get_running_loop().time()
        if acknowledged is not None:
            self.visible_at_s.pop(acknowledged, None)
            return None
        found = next((number for number, at_s in self.visible_at_s.items() if at_s <= now), None)
        if found is not None:
            self.visible_at_s[found] = now + INVISIBLE_S
        return found


class Window:
    """Remembers what was done for `WINDOW_S`."""

    def __init__(self) -> None:
        self.done_at_s: dict[int, float] = {}

    def is_new(self, number: int) -> bool:
        now = asyncio.get_running_loop().time()
        new = now - self.done_at_s.get(number, -WINDOW_S) >= WINDOW_S
        if new:
            self.done_at_s[number] = now
        return new


class Watermark:
    """Remembers what was done, in little space."""

    def __init__(self) -> None:
        self.all_below = 0
        self.beyond: set[int] = set()

    def is_new(self, number: int) -> bool:
        if number < self.all_below or number in self.beyond:
            return False
        self.beyond.add(number)
        while self.all_below in self.beyond:
            self.beyond.remove(self.all_below)
            self.all_below += 1
        return True


async def play(world: World, memory: Window | Watermark) -> None:
    recorder = recorder_of(world)
    broker = Broker()
    for number in range(MESSAGES):
        recorder.invoke("broker", "enqueue", value=number)
        recorder.ok("broker")

    async def apply(number: Any) -> Any:
        """Do what the message says, unless it was done."""
        if memory.is_new(number):
            recorder.invoke("database", "dequeue")
            recorder.ok("database", number)

    async def consume() -> None:
        while True:
            await asyncio.sleep(random.uniform(0.2, 1.0))
            try:
                number = await ask("broker", None)
                if number is not None:
                    await ask("database", number)
                    await asyncio.sleep(0.2)  # The rest of the work, such as a message to the customer.
                    await ask("broker", number)
            except NoAnswer:
                pass  # The broker will deliver again.

    await world.start("broker", lambda: serve(broker.answer))
    await world.start("database", lambda: serve(apply))
    await world.start("consumer", consume)
    await weather(world, 20.0)
    judge(recorder, "queue", ordered=False)


async def broken(world: World) -> None:
    await play(world, Window())


async def repaired(world: World) -> None:
    await play(world, Watermark())
