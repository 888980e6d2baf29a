"""Locks: leases with fencing tokens, whose holders are sometimes slower than their lease."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

from ..target import Target
from ..workload import Action, Promise, User, Workload

__all__ = ["LOCK", "TTL_S"]

TTL_S = 2.0
"""How long a lock is held at most by whoever does not give it back: the least that every engine grants."""

_KEYS = ("x", "y")
_DAWDLES = 0.12
_DAWDLE_S = TTL_S + 1.2
"""Leases end late: etcd looks for those that are over twice a second."""
_HOLD_S = 0.05


def _actions(rng: random.Random, client: int) -> Iterator[Action]:
    del client
    while True:
        dawdles = rng.random() < _DAWDLES
        yield Action("hold", rng.choice(_KEYS), {"writes": rng.randint(1, 3), "dawdles": dawdles})


def _returning(rng: random.Random, client: int) -> Iterator[Action]:
    for action in _actions(rng, client):
        yield Action("hold", action.key, {"writes": 1, "dawdles": False})


def _closing(_used: Sequence[Action]) -> list[Action]:
    return []


class _LockUser(User):
    async def perform(self, action: Action, target: Target) -> None:
        """Take the lock, write what it guards, and give it back.

        One that dawdles is as one that was paused, by its garbage collector or its machine: it has the lock,
        writes only after its lease has ended, and does not know.
        """
        key = action.key or ""
        taking = Action("acquire", key)
        holding = None

        async def acquire() -> int:
            nonlocal holding
            holding = await target.acquire(key, self.process, TTL_S)
            return holding.token

        await self.record(taking, acquire)
        if holding is None:
            return
        held = holding
        if action.value["dawdles"]:
            await asyncio.sleep(_DAWDLE_S)
        for _ in range(action.value["writes"]):
            writing = Action("write", key, held.token)
            done, _ = await self.record(writing, lambda: target.guarded_write(key, held))
            if not done:
                break
            await asyncio.sleep(_HOLD_S)
        await self.record(Action("release", key), lambda: target.release(key, held))


LOCK = Workload(
    name="lock",
    summary="locks on leases; what they guard is written with the token as a fence",
    actions=_actions,
    closing=_closing,
    returning=_returning,
    user=_LockUser,
    promises=(
        Promise(
            name="one holder at a time",
            model="mutex",
            options={"mode": "lease"},
            never="a lease ends while its holder is paused: fence what it guards",
        ),
        Promise(name="no write of a former holder", model="mutex", options={"mode": "fenced"}),
    ),
    evidence={"acquisition": lambda op: op.f == "acquire", "write": lambda op: op.f == "write"},
)
