"""Transactions that append to lists and read them: they show in which order all happened."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ...history import Interval
from ..target import MicroOperation, Target
from ..workload import Action, Promise, User, Workload, distinct

__all__ = ["APPEND", "ISOLATIONS"]

ISOLATIONS = ("strict-serializable", "serializable", "snapshot-isolation", "read-committed")
"""The levels, the strongest first."""

_TXNS_EACH = 25
"""After so many transactions a client goes on to new lists: each read returns all of one."""
_LISTS = 3
_STEPS_EACH = 64


def _actions(rng: random.Random, client: int) -> Iterator[Action]:
    number = 0
    while True:
        age = number // _TXNS_EACH
        steps: list[MicroOperation] = []
        for place in range(rng.randint(1, 4)):
            key = f"{age}.{rng.randrange(_LISTS)}"
            if rng.random() < 0.5:
                steps.append(("append", key, distinct(client, number * 4 + place)))
            else:
                steps.append(("r", key, None))
        number += 1
        yield Action("txn", None, steps)


def _closing(used: Sequence[Action]) -> list[Action]:
    keys = sorted({key for action in used if action.f == "txn" for _, key, _ in action.value})
    pieces = [keys[start : start + _STEPS_EACH] for start in range(0, len(keys), _STEPS_EACH)]
    return [Action("txn", None, [("r", key, None) for key in piece]) for piece in pieces]


def _has(txn: Interval, kind: str) -> bool:
    return any(step[0] == kind for step in txn.result)


class _AppendUser(User):
    async def perform(self, action: Action, target: Target) -> None:
        await self.record(action, lambda: target.transact(action.value))


APPEND = Workload(
    name="append",
    summary="transactions that append to lists and read them",
    actions=_actions,
    closing=_closing,
    user=_AppendUser,
    promises=tuple(
        Promise(name=level.replace("-", " "), model="append", options={"isolation": level})
        for level in ISOLATIONS
    ),
    evidence={"append": lambda op: _has(op, "append"), "read": lambda op: _has(op, "r")},
)
