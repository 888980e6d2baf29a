"""Charged twice: a client that hears nothing asks again, and the payment is made once more.

What goes wrong: a timeout says nothing about whether the request took effect. The answer was lost, or
late; the repetition looks like a new order.

Textbook: a non-idempotent operation retried, at-least-once delivery (Helland, Idempotence is not a
medical condition, 2012).

Repair: an idempotency key, chosen once by the client for all its attempts. The server keeps the reply
beside the effect, and answers a repetition with it.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from bug_kit import NoAnswer, ask, judge, me, recorder_of, serve, weather

from coterie.simulation import World


class Payments:
    """The books of a bank. The object outlives its process, as what is on a disk does."""

    def __init__(self) -> None:
        self.total = 0

    def charge(self, key: str, amount: int) -> str:
        self.total += amount
        return f"receipt for {amount}"

    async def answer(self, request: Any) -> Any:
        return self.total if request is None else self.charge(*request)


class PaymentsWithKeys(Payments):
    def __init__(self) -> None:
        super().__init__()
        self.replies: dict[str, str] = {}

    def charge(self, key: str, amount: int) -> str:
        if key not in self.replies:
            self.replies[key] = super().charge(key, amount)
        return self.replies[key]


async def play(world: World, payments: Payments) -> None:
    recorder = recorder_of(world)

    async def buy() -> None:
        for number in range(10):
            await asyncio.sleep(random.uniform(0.5, 2.5))
            key = f"{me()}/{number}"
            with recorder.operation(me(), "add", value=100):
                while True:
                    try:
                        await ask("bank", [key, 100])
                        break
                    except NoAnswer:
                        await asyncio.sleep(random.uniform(0.1, 0.5))

    await world.start("bank", lambda: serve(payments.answer))
    await world.start("client", buy)
    await weather(world, 20.0)
    await world.wait("client")
    recorder.invoke("auditor", "read")
    recorder.ok("auditor", await ask("bank", None))
    judge(recorder, "counter")


async def broken(world: World) -> None:
    await play(world, Payments())


async def repaired(world: World) -> None:
    await play(world, PaymentsWithKeys())
