"""Nodes that share one store, each with a binding of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from coterie.context import CURRENT, Call
from coterie.coordination import Coordination, CoordinationConfig
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import Outcome, Unavailable
from coterie.ports.store import Store
from coterie.state import MapBinding, StrongMap

LEASE_S = 1.0


class SkewedClock(SystemClock):
    """A clock of its own, that can be moved."""

    __slots__ = ("ahead_s",)

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def boottime(self) -> float:
        return super().boottime() + self.ahead_s


class Flaky:
    """A store whose calls can be counted, refused, and left without an answer."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.guarantees = store.guarantees
        self.calls: list[str] = []
        self.cut = False
        self.mute = False
        """Commits are applied, and nobody is told."""
        self.late: list[Any] = []
        """Commits that were put off, while `delay` is true."""
        self.delay = False

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.cut:
                raise Unavailable("cut off", outcome=Outcome.NOT_APPLIED)
            if name == "commit" and self.delay:
                self.late.append(args[0])
                raise Unavailable("no answer")
            result = await getattr(self.store, name)(*args, **kwargs)
            if name == "commit" and self.mute:
                raise Unavailable("no answer")
            return result

        return call

    def watch(self, prefix: str) -> Any:
        self.calls.append("watch")
        if self.cut:
            raise Unavailable("cut off", outcome=Outcome.NOT_APPLIED)
        return self.store.watch(prefix)


class Place:
    """Some nodes and one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.numbers = StrongMap("numbers", int)
        self.nodes: list[Coordination] = []
        self.clocks: dict[str, SkewedClock] = {}
        self.flaky: dict[str, Flaky] = {}

    def node(self, name: str = "a", **config: Any) -> Call:
        """Start a node; the call is the context in which its handles work."""
        clock = self.clocks[name] = SkewedClock()
        store: Any = Flaky(self.store)
        self.flaky[name] = store
        binding = Coordination(
            store,
            "app",
            clock=clock,
            entropy=SystemEntropy(),
            node=name,
            config=CoordinationConfig(**{"lease_s": LEASE_S, "margin_s": 0.2, **config}),
        )
        self.nodes.append(binding)
        numbers = MapBinding(store=self.store, prefix="app/map/numbers/", entropy=SystemEntropy())
        return Call(name, {Coordination: binding, self.numbers: numbers})

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()

    async def keys(self, prefix: str = "app/lock/") -> list[str]:
        return [entry.key for entry in (await self.store.scan(prefix)).entries]


@asynccontextmanager
async def on(call: Call) -> AsyncIterator[Coordination]:
    """Run the body as code of that node."""
    token = CURRENT.set(call)
    try:
        yield call.bindings[Coordination]
    finally:
        CURRENT.reset(token)


def start(call: Call, main: Callable[[], Awaitable[Any]], name: str | None = None) -> asyncio.Task[Any]:
    """Run `main` as a task of that node."""

    async def run() -> Any:
        CURRENT.set(call)
        return await main()

    return asyncio.create_task(run(), name=name)


async def until(condition: Callable[[], Any]) -> None:
    """Return when `condition`, which may be a coroutine function, holds."""
    async with asyncio.timeout(10):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.005)
