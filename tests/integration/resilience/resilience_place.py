"""A caller that hosts nothing, beside the nodes of a cluster in this process: all its calls use the wire."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from coterie import App
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.node import Connection, NodeConfig, Ports, connect
from coterie.testing import Cluster

__all__ = ["calling", "counted", "eventually"]


@asynccontextmanager
async def calling(
    app: App, cluster: Cluster, overrides: Mapping[str, Any] | None = None, *, zone: str = ""
) -> AsyncIterator[Connection]:
    """Let the handles of `app` work as in `app.connect()`."""
    engine = cluster._engine
    assert engine is not None
    wire = cluster.network.wire("caller")
    ports = Ports(
        clock=SystemClock(),
        entropy=SystemEntropy(),
        store=engine.store,
        log=engine.log,
        wire=wire,
        engines=(engine,),
    )
    config = NodeConfig(lease_s=1.0, zone=zone, policy=overrides or {})
    try:
        async with connect(app, config=config, ports=ports) as connection:
            yield connection
    finally:
        await wire.close()


def counted(connection: Connection) -> Counter[str]:
    """Return how often policies of the caller did what."""
    found: Counter[str] = Counter()
    for sample in connection._core.policy_events.family().samples:
        assert isinstance(sample.value, int | float)
        found[sample.labels[1]] += int(sample.value)
    return found


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)
