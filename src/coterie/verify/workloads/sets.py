"""Sets: elements are added and must be in every later read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ..target import Target
from ..workload import Action, Promise, User, Workload, distinct

__all__ = ["SET"]

_ACTIONS_EACH = 50
"""After so many actions a client goes on to the next set: each read returns all of one."""


def _actions(rng: random.Random, client: int) -> Iterator[Action]:
    number = 0
    while True:
        key = f"s{number // _ACTIONS_EACH}"
        number += 1
        if rng.random() < 0.8:
            yield Action("add", key, distinct(client, number))
        else:
            yield Action("read", key)


def _closing(used: Sequence[Action]) -> list[Action]:
    keys = sorted({action.key for action in used if action.key is not None})
    return [Action("read", key) for key in keys]


class _SetUser(User):
    async def perform(self, action: Action, target: Target) -> None:
        key = action.key or ""
        if action.f == "add":
            await self.record(action, lambda: target.add(key, action.value))
        else:
            await self.record(action, lambda: target.members(key))


SET = Workload(
    name="set",
    summary="elements are added, one key each, and listed",
    actions=_actions,
    closing=_closing,
    user=_SetUser,
    promises=(Promise(name="no element lost", model="set"),),
    evidence={"add": lambda op: op.f == "add", "read": lambda op: op.f == "read"},
)
