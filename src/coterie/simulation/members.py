"""Nodes that come and go: what faults of the class `scale` do to a cluster.

world.members = Members(world, 3, run_node, engine, "shop:app")     # node-1, node-2, node-3
await world.members.start()
world.members.join()                                                # node-4
world.members.leave("node-1")
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .host import Main, Process

if TYPE_CHECKING:
    from .world import World

__all__ = ["Members"]


class Members:
    """The nodes of one cluster: each runs `main(*args)`, and goes when it gets SIGTERM.

    They are called `node-1` to `node-<count>`, and those that join later continue these names, so that
    each is a machine that was never there before.
    """

    def __init__(self, world: World, count: int, main: Main | str, *args: Any) -> None:
        self.first: tuple[str, ...] = tuple(f"node-{number + 1}" for number in range(count))
        """Those that are there from the beginning."""
        self._world = world
        self._main = main
        self._args = args
        self._joined: list[str] = []
        self._leaving: dict[str, list[Process]] = {}

    async def start(self) -> None:
        """Start those that are there from the beginning."""
        for name in self.first:
            await self._world.start(name, self._main, *self._args)

    @property
    def present(self) -> list[str]:
        """Those that run and were not told to leave."""
        world = self._world
        known = [name for name in (*self.first, *self._joined) if name in world.hosts]
        return [name for name in known if name not in self._leaving and world.host(name).running]

    def join(self) -> str:
        """Start a node on a new machine, and return its name."""
        name = f"node-{len(self.first) + len(self._joined) + 1}"
        self._joined.append(name)
        self._world.launch(name, self._main, *self._args)
        return name

    def leave(self, name: str, *, for_good: bool = False) -> None:
        """Tell a node to stop, as a service manager does. For good, nothing starts it again."""
        self._leaving[name] = self._world.host(name).running
        self._world.signal(name, signal.SIGTERM)
        if for_good:
            self._world.forget(name)

    def rejoin(self, name: str) -> None:
        """Start a node that was told to leave; it is killed first if it has not ended by now."""
        lingering = [process for process in self._leaving.pop(name, ()) if process.alive]
        if lingering:
            self._world.kill(name)
        self._world.revive(name)

    def reached(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return `names` and the nodes that have joined since, if the cluster is among them at all."""
        if not set(self.first) & set(names):
            return tuple(names)
        present = self.present
        return (*names, *(name for name in self._joined if name in present and name not in names))
