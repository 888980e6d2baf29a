"""Logs: records are appended, and readers follow."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ...history import Recorder
from ..target import Target
from ..workload import Action, Promise, User, Workload, distinct

__all__ = ["LOG", "PARTITIONS"]

PARTITIONS = ("0", "1")
_MARK_CLIENT = 999


def _actions(rng: random.Random, client: int) -> Iterator[Action]:
    number = 0
    while True:
        number += 1
        key = rng.choice(PARTITIONS)
        if rng.random() < 0.65:
            yield Action("append", key, distinct(client, number))
        else:
            yield Action("read", key)


def _marks(number: int) -> list[Action]:
    # With a last record that everybody reads, the loss of those before it is a hole and shows.
    first = number * len(PARTITIONS)
    return [
        Action("append", key, distinct(_MARK_CLIENT, first + place)) for place, key in enumerate(PARTITIONS)
    ]


def _closing(_used: Sequence[Action]) -> list[Action]:
    return [Action("read", key, 0) for key in PARTITIONS]


class _LogUser(User):
    def __init__(self, name: str, index: int, recorder: Recorder) -> None:
        super().__init__(name, index, recorder)
        self._next: dict[str, int] = {}

    async def perform(self, action: Action, target: Target) -> None:
        key = action.key or ""
        if action.f == "append":
            await self.record(action, lambda: target.append(key, action.value))
            return
        if action.value is not None:
            await self._read_all(key, action.value, target)
            return
        start = self._next.get(key, 0)
        done, pairs = await self._read(key, start, target)
        if done and pairs:
            self._next[key] = pairs[-1][0] + 1

    async def _read(self, key: str, start: int, target: Target) -> tuple[bool, list[tuple[int, int]]]:
        reading = Action("read", key, start)
        return await self.record(reading, lambda: target.records(key, start))

    async def _read_all(self, key: str, start: int, target: Target) -> None:
        while True:
            done, pairs = await self._read(key, start, target)
            if not done or not pairs:
                return
            start = pairs[-1][0] + 1


LOG = Workload(
    name="log",
    summary="records are appended to partitions and read in their order",
    actions=_actions,
    closing=_closing,
    marks=_marks,
    user=_LogUser,
    promises=(
        Promise(name="no record lost, repeated or out of order", model="log", options={"fresh": True}),
    ),
    evidence={"append": lambda op: op.f == "append", "read": lambda op: op.f == "read" and bool(op.result)},
)
