"""One universe of an app: its nodes, its clients, a storm of faults, and then every promise is held to.

    for result in explore_pinned(Target(f"{__name__}:scenario", (Trial(app="shop:app"),)), requests): ...

The hosts are `engine`, `node-1`, `node-2`, ..., one for each client of a workload, named after it, and
`observer`, which looks at what the app declares with `always` and `eventually`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ...app import App
from ...engines.memory.watches import MemoryWatch
from ...ports.store import Batch
from ..faults import swarm
from ..members import Members
from ..nodes import Wrap, load_app, run_node
from ..standin import StandIn
from ..universe import Inconclusive, Scenario, Violation
from ..world import World
from .clients import Client, check_failed
from .judge import judge
from .judge_rates import not_judged
from .notebook import Notebook
from .observer import OBSERVER, Observer
from .record import write_down
from .recording import Gate, recorded, watch_methods, watch_transactions
from .target import find_app
from .watching import Schedules, watching

__all__ = ["NETWORK_FAULTS", "Trial", "scenario"]

NETWORK_FAULTS = ("partition", "latency", "loss", "bandwidth", "fragment", "reset")
"""The classes of faults that reach clients too. They are never killed: what they know is evidence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """How an app is tried; the same for all universes of a run."""

    app: str
    """`module:attribute`."""
    nodes: int = 3
    duration_s: float = 60.0
    """How long faults happen, in virtual seconds."""
    settle_s: float = 60.0
    """How long all that is under way may take to end when the faults have ended."""
    faults: tuple[str, ...] | None = None
    """The classes of faults; None for all, of which about half are on in each universe."""
    weak: tuple[str, ...] = ()
    """The weaknesses of the engine; see `standin.Weakness`."""


class Stage:
    """What the parts of one universe share."""

    def __init__(self, world: World, trial: Trial, app: App) -> None:
        self.world = world
        self.trial = trial
        self.app = app
        """The app as the world has it: to read its declarations, not to run it."""
        self.engine: StandIn = StandIn(world, weak=trial.weak)
        self.notebook: Notebook = Notebook(app.name, lambda: round(world.time * 1e9))
        self.gate: Gate = Gate()
        self._changes = _Changes(self.engine, self.notebook.prefix)
        self.engine.memory.store.follow(self._changes)
        self.engine.memory.store.follow(Schedules(self.engine.memory.store, app.name, self.notebook))

    @property
    def changes(self) -> int:
        """How often the maps were changed, as the engine itself knows."""
        return self._changes.count

    def load(self) -> None:
        """Load the app on the host whose code calls this, to be watched."""
        app = load_app(self.engine, self.trial.app)
        watch_transactions(app, self.notebook)
        watch_methods(app, self.notebook)

    def wrap(self, host: str, *, client: bool = False, quiet: bool = False) -> Wrap:
        """Return what lets the notebook see what `host` does."""
        gate = self.gate if client else None
        return lambda ports: recorded(ports, self.notebook, host, gate=gate, quiet=quiet)


class _Changes(MemoryWatch):
    """Counts the commits to the maps."""

    __slots__ = ("count",)

    def __init__(self, engine: StandIn, prefix: str) -> None:
        super().__init__(engine.memory.store, prefix)
        self.count = 0

    def offer(self, batch: Batch) -> None:
        self.count += 1


def scenario(trial: Trial) -> Scenario:
    """Return the scenario that tries an app; raise `InvalidConfiguration` if it has no workload."""
    app = find_app(trial.app)

    async def universe(world: World) -> dict[str, Any]:
        stage = Stage(world, trial, app)
        try:
            with watching(stage.notebook, stage.engine.memory.store.snapshot):
                return await _run(stage)
        finally:
            if world.trace.recording:
                write_down(world, stage.notebook)

    return universe


async def _run(stage: Stage) -> dict[str, Any]:
    world, trial = stage.world, stage.trial
    members = world.members = Members(world, trial.nodes, _node, stage)
    clients = [
        Client(stage, index, number)
        for index, declared in enumerate(stage.app.workloads)
        for number in range(declared.clients)
    ]
    observer = Observer(stage)
    await stage.engine.start()
    await members.start()
    for client in clients:
        await world.start(client.name, client.main)
    await world.start(OBSERVER, observer.main)
    async with _faults(stage, [*members.first, stage.engine.name], [client.name for client in clients]):
        end_s = world.time + trial.duration_s
        while world.time < end_s and not _has_failed(clients, observer):  # noqa: ASYNC110 - it has an end
            await asyncio.sleep(min(1.0, end_s - world.time))
    for name in members.first:
        world.revive(name)
    if not _has_failed(clients, observer):
        await _settle(stage, clients)
    if not _has_failed(clients, observer):
        await _final_look(stage, observer)
    _judge(stage, clients, observer)
    return _statistics(stage, clients, observer)


async def _node(stage: Stage) -> None:
    stage.load()
    await run_node(stage.engine, stage.trial.app, wrap=stage.wrap(socket.gethostname()))


@asynccontextmanager
async def _faults(stage: Stage, hosts: list[str], clients: list[str]) -> AsyncGenerator[None, None]:
    """Let faults happen to the cluster, and those of the network to the clients as well."""
    world, trial = stage.world, stage.trial
    on = swarm(world.tape) if trial.faults is None else trial.faults
    near = tuple(name for name in on if name in NETWORK_FAULTS)
    async with AsyncExitStack() as stack:
        if on:
            most = max(1, round(trial.duration_s / 5))
            storm = world.storm(trial.duration_s, classes=on, hosts=hosts, most=most, use_swarm=False)
            await stack.enter_async_context(storm)
        if near:
            most = max(1, round(trial.duration_s / 20))
            everybody = [*hosts, *clients]
            storm = world.storm(trial.duration_s, classes=near, hosts=everybody, most=most, use_swarm=False)
            await stack.enter_async_context(storm)
        yield


def _has_failed(clients: list[Client], observer: Observer) -> bool:
    return observer.failed is not None or any(client.failed is not None for client in clients)


async def _settle(stage: Stage, clients: list[Client]) -> None:
    """Return when no run of a client is under way; raise `Violation` when one hangs."""
    world = stage.world
    for client in clients:
        client.stop()
    began_s = world.time
    while world.time < began_s + stage.trial.settle_s:
        if all(client.ended or client.failed for client in clients):
            return
        await asyncio.sleep(0.1)
    world.check_processes()
    halfway_ns = round((began_s + stage.trial.settle_s / 2) * 1e9)
    for client in clients:
        # One that still gets answers has much to do, or never ends. One that gets none is stuck.
        if not client.ended and not stage.notebook.heard(client.name, halfway_ns):
            raise Violation(
                f"the client {client.name} is stuck: it has got no answer "
                f"in the last {stage.trial.settle_s / 2:g} s, although all faults are over",
                promise="liveness",
            )
        if not client.ended:
            world.kill(client.name)


async def _final_look(stage: Stage, observer: Observer) -> None:
    observer.finish()
    limit_s = 60.0 + max((goal.within_s for goal in stage.app.goals), default=0.0)
    try:
        async with asyncio.timeout(limit_s):
            await stage.world.wait(OBSERVER)
    except TimeoutError:
        raise Violation(
            f"what the app promises could not be looked at within {limit_s:g} s after the last fault",
            promise="liveness",
        ) from None


def _judge(stage: Stage, clients: list[Client], observer: Observer) -> None:
    """Raise the first promise that was broken: those of the blocks first, since others rest on them."""
    stage.notebook.clocks = {host.name: host.clock.stretches() for host in stage.world.hosts.values()}
    broken = judge(stage.notebook)
    if broken is not None and not broken.inconclusive:
        stage.notebook.witness = broken.witness
        raise Violation(broken.sentence, promise=broken.promise, witness=broken.text())
    for client in clients:
        check_failed(client.failed)
    observer.check()
    if broken is not None:
        raise Inconclusive(f"{broken.promise}: {broken.sentence}")


def _statistics(stage: Stage, clients: list[Client], observer: Observer) -> dict[str, Any]:
    book = stage.notebook
    return {
        "operations": dict(Counter(noted.outcome for noted in book.operations)),
        "calls": dict(Counter(call.outcome for call in book.calls)),
        "commits": len(book.commits),
        "runs": {client.name: client.runs for client in clients},
        "tolerated": {client.name: client.tolerated for client in clients},
        "looks": observer.looks,
        "not_judged": [f"rate limit {name}" for name in not_judged(book)],
    }
