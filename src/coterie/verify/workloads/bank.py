"""A bank: money is moved in transactions, and none is made or lost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ..target import Target
from ..workload import Action, Promise, User, Workload

__all__ = ["ACCOUNTS", "BANK", "OPENING"]

ACCOUNTS = ("a", "b", "c", "d", "e")
OPENING = 100
"""What is in each account at the beginning."""


def _actions(rng: random.Random, client: int) -> Iterator[Action]:
    del client
    while True:
        if rng.random() < 0.4:
            yield Action("read")
        else:
            source, target = rng.sample(ACCOUNTS, 2)
            yield Action("transfer", None, {"from": source, "to": target, "amount": rng.randint(1, 5)})


def _closing(_used: Sequence[Action]) -> list[Action]:
    return [Action("read")]


class _BankUser(User):
    async def perform(self, action: Action, target: Target) -> None:
        move = action.value
        if action.f == "read":
            await self.record(action, target.balances)
        else:
            await self.record(action, lambda: target.transfer(move["from"], move["to"], move["amount"]))


BANK = Workload(
    name="bank",
    summary="transfers between accounts in transactions, and reads of all of them",
    actions=_actions,
    closing=_closing,
    user=_BankUser,
    promises=(
        Promise(
            name="the total is conserved",
            model="bank",
            options={"initial": dict.fromkeys(ACCOUNTS, OPENING)},
        ),
    ),
    evidence={"transfer": lambda op: op.f == "transfer", "read": lambda op: op.f == "read"},
)
