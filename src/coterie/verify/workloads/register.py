"""Registers: read, write and compare-and-set on a few keys that all clients want."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ...history import Recorder
from ..target import Target
from ..workload import Action, Promise, User, Workload, distinct

__all__ = ["REGISTER"]

_KEYS = ("a", "b", "c")


def _actions(rng: random.Random, client: int) -> Iterator[Action]:
    number = 0
    while True:
        number += 1
        key = rng.choice(_KEYS)
        f = rng.choices(("read", "write", "cas"), (5, 2, 3))[0]
        yield Action(f, key, None if f == "read" else distinct(client, number))


def _closing(_used: Sequence[Action]) -> list[Action]:
    return [Action("read", key) for key in _KEYS]


class _RegisterUser(User):
    def __init__(self, name: str, index: int, recorder: Recorder) -> None:
        super().__init__(name, index, recorder)
        self._seen: dict[str, int | None] = {}

    async def perform(self, action: Action, target: Target) -> None:
        seen = self._seen
        key = action.key or ""
        if action.f == "write":
            await self.record(action, lambda: target.write(key, action.value))
        elif action.f == "cas" and key in seen:
            old = seen.pop(key)
            swap = Action("cas", key, [old, action.value])
            await self.record(swap, lambda: target.swap(key, old, action.value))
        else:  # there is nothing to expect before the first read
            done, value = await self.record(Action("read", key), lambda: target.read(key))
            if done:
                seen[key] = value


REGISTER = Workload(
    name="register",
    summary="read, write and compare-and-set of single keys",
    actions=_actions,
    closing=_closing,
    user=_RegisterUser,
    promises=(Promise(name="linearizable", model="register"),),
    evidence={"write": lambda op: op.f in {"write", "cas"}, "read": lambda op: op.f == "read"},
)
