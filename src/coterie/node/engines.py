"""Opens engines by URL, and holds an app's declarations against what they guarantee.

This is the only place that turns the scheme of a URL into an engine. Engines are found by their
entry points in the group `coterie.engines`, so others can add their own.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from ..errors import InvalidConfiguration, Unsupported
from ..ports import Clock, Durability, Engine, Entropy, Log, OpenEngine, Store, Wire

if TYPE_CHECKING:
    from ..app import App
    from .config import NodeConfig

__all__ = ["Ports", "check_guarantees", "open_engine", "open_ports", "open_wire"]

GROUP = "coterie.engines"

KEEPERS: Mapping[Durability, tuple[str, ...]] = {
    Durability.PROCESS_CRASH: (
        "sqlite",
        "nats",
        "etcd",
        "postgresql",
        "redis or valkey with appendfsync always or no",
    ),
    Durability.POWER_LOSS: (
        "sqlite",
        "nats whose servers sync always",
        "etcd",
        "postgresql",
        "redis or valkey with appendfsync always",
    ),
    Durability.MACHINE_LOSS: (
        "nats with three replicas that sync always",
        "etcd with three members",
        "postgresql with a majority of synchronous standbys",
    ),
}
"""Which engines' writes outlive what. A test holds it against what they say themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """Everything outside that a node stands on. `engines` are those to report statistics of."""

    clock: Clock
    entropy: Entropy
    store: Store
    log: Log | None
    wire: Wire
    engines: tuple[Engine, ...]


async def open_engine(url: str, *, clock: Clock, entropy: Entropy) -> Engine:
    """Open the engine at `url`. Raises `InvalidConfiguration` when there is none for its scheme."""
    scheme = url.partition(":")[0].lower()
    found = {point.name: point for point in entry_points(group=GROUP)}
    point = found.get(scheme) or _built_in(scheme)
    if point is None:
        near = difflib.get_close_matches(scheme, found, n=1)
        raise InvalidConfiguration(
            f"no engine is called {scheme!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(found))}",
        )
    try:
        opener: OpenEngine = point.load()
    except ModuleNotFoundError as error:
        raise _lacking(scheme, error) from error
    return await opener(url, clock=clock, entropy=entropy)


async def open_wire(config: NodeConfig, *, entropy: Entropy) -> Wire:
    """Open what carries the calls between nodes: sockets, or the servers that `config.wire` names."""
    if not config.wire:
        from ..engines.tcp import TcpWire, WireConfig

        return TcpWire(entropy=entropy, config=WireConfig(cluster_key=config.cluster_key))
    try:
        from ..engines.nats import NatsConfig
        from ..engines.nats.wire import NatsWire
    except ModuleNotFoundError as error:
        raise _lacking("nats", error) from error
    return await NatsWire.open(NatsConfig.from_url(config.wire), entropy)


def _lacking(scheme: str, error: ModuleNotFoundError) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"the engine {scheme!r} needs the module {error.name!r}",
        hint=f"install it with: pip install 'coterie[{scheme}]'",
    )


def _built_in(scheme: str) -> EntryPoint | None:
    # A checkout that is on the path without being installed has no entry points.
    if scheme in {"memory", "sqlite"}:
        return EntryPoint(scheme, f"coterie.engines.{scheme}:open_engine", GROUP)
    return None


async def open_ports(
    app: str, config: NodeConfig, stack: AsyncExitStack, *, clock: Clock, entropy: Entropy, wire: Wire
) -> Ports:
    """Open what `config` names, to be closed with `stack`: each URL once."""
    opened: dict[str, Engine] = {}

    async def engine(url: str) -> Engine:
        if url not in opened:
            opened[url] = await open_engine(url, clock=clock, entropy=entropy)
            stack.push_async_callback(opened[url].close)
        return opened[url]

    main = config.engine_url(app)
    store = (await engine(config.store or main)).store
    log = (await engine(config.log or main)).log
    if store is None:
        raise Unsupported(
            f"the engine {config.store or main!r} keeps no state", hint="name one that does with --store URL"
        )
    return Ports(
        clock=clock, entropy=entropy, store=store, log=log, wire=wire, engines=tuple(opened.values())
    )


def check_guarantees(app: App, store: Store) -> None:
    """Raise `Unsupported` when the app declares more than the store guarantees."""
    given = store.guarantees
    for declared in app.maps.values():
        if given.consistency < declared.consistency:
            raise Unsupported(
                f"the map {declared.name!r} of the app {app.name!r} needs {declared.consistency} reads, "
                f"but the engine {given.engine!r} gives only {given.consistency} ones",
                hint="all engines that come with Coterie give them",
            )
        if given.durability < declared.durability:
            raise Unsupported(
                f"the map {declared.name!r} of the app {app.name!r} needs writes that outlive "
                f"{declared.durability}, but those of the engine {given.engine!r} outlive only "
                f"{given.durability}",
                hint=f"engines that give it: {', '.join(KEEPERS[declared.durability])}",
            )
