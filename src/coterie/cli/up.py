"""`coterie up`: several nodes of an app on this machine, watched and restarted."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from ..app import App
from ..errors import CoterieError, InvalidConfiguration, Outcome, Unavailable
from ..node import NodeConfig, check_guarantees, open_engine
from ..node.config import OPTIONS, mask_url
from ..ports import Scope
from .board import Board
from .options import Command, as_json, epilog, load, node_options, run_async, target
from .supervisor import Child, Supervisor, node_arguments

if TYPE_CHECKING:
    from ..lab import Cluster

__all__ = ["command"]

_NAMING = ("engine", "store", "log", "wire")
"""The options that may name an engine in place of a URL."""

Urls = dict[str, Any]
"""The URLs of engines that were started here, by the option that named them."""


@click.command(
    "up",
    cls=Command,
    epilog=epilog(
        "coterie up examples/shop.py --nodes 3                     # http://127.0.0.1:8000, :8001, :8002",
        "coterie up shop:app --nodes 2 --http 127.0.0.1:0          # any free ports",
        "coterie up examples/shop.py --engine etcd                 # starts three members of etcd as well",
        "coterie up examples/shop.py --engine postgres             # or nats, redis, valkey",
        "coterie up examples/shop.py --engine nats --wire nats     # calls between nodes go over NATS, too",
        "coterie up shop:app --json | jq -c 'select(.event == \"ready\")'",
    ),
)
@target
@click.option("--nodes", type=click.IntRange(1, 64), default=3, show_default=True, help="How many nodes.")
@click.option("--restart/--no-restart", default=True, show_default=True, help="Start a node that died again.")
@click.option(
    "--members",
    type=click.Choice(["1", "3"]),
    help="How many members of an engine that is started here; by default 3 of nats and etcd, else 1.",
)
@node_options
@as_json
def command(target: str, nodes: int, restart: bool, members: str | None, json_: bool, **options: Any) -> None:
    """Run several nodes of the app TARGET on this machine until Ctrl-C.

    The nodes are processes of their own: kill one and see what happens. Each gets the next port after
    that of --http, and of --listen. They end with this command, however it ends.

    --engine, --store and --log take a URL or the name of an engine: nats, etcd, postgres, redis, valkey.
    One that is named is started as well, empty, and ends with this command, with all that it holds.
    --wire nats lets the same servers carry the calls between nodes, or starts some for that alone.
    """
    clusters = _clusters(options, members)
    app, config, _ = load(target, {**options, **dict.fromkeys(clusters)})
    configs = [node_config(app.name, config, index) for index in range(nodes)]

    def children(urls: Urls) -> list[Child]:
        # By environment, where other users of the machine do not see the secrets.
        environment = {
            OPTIONS[name].environment: str(value)
            for name, value in {**options, **urls}.items()
            if value is not None
        }
        return [
            Child(
                name=each.name,
                arguments=node_arguments(target, each.name, each.http, each.listen),
                environment=environment,
            )
            for each in configs
        ]

    up = Up(app, config, children, restart=restart, as_json=json_)
    lost = run_async(up.run(clusters))
    if lost:
        raise Unavailable(
            f"{len(lost)} of {nodes} nodes did not stay up: {', '.join(child.name for child in lost)}",
            hint=f"run one alone to see more: coterie run {target}",
            outcome=Outcome.NOT_APPLIED,
        )


def _clusters(options: dict[str, Any], members: str | None) -> dict[str, Cluster]:
    if members is None and all(":" in (options[name] or ":") for name in _NAMING):
        return {}  # The laboratory need not even be imported.
    from .engines import find_clusters

    return find_clusters(options, int(members) if members is not None else None)


def node_config(app: str, config: NodeConfig, index: int) -> NodeConfig:
    """Return the configuration of the node at `index`: a name and addresses of its own.

    Raises `InvalidConfiguration` when the ports do not suffice.
    """
    return dataclasses.replace(
        config,
        name=f"{config.name or app}-{index + 1}",
        http=_address(config.http, index),
        listen=_address(config.listen, index),
    )


def _address(address: str, index: int) -> str:
    if address == "off" or address.startswith("memory:") or index == 0:
        return address
    if address.startswith("unix:"):
        return f"{address}-{index + 1}"
    host, _, port = address.rpartition(":")
    return address if port == "0" else f"{host}:{int(port) + index}"


class Up:
    """One `coterie up`: the engines that it starts, and the nodes on them."""

    def __init__(
        self,
        app: App,
        config: NodeConfig,
        children: Callable[[Urls], list[Child]],
        *,
        restart: bool,
        as_json: bool,
    ) -> None:
        self._app = app
        self._config = config
        self._children = children
        self._restart = restart
        self._as_json = as_json

    async def run(self, clusters: dict[str, Cluster]) -> list[Child]:
        """Run until told to stop; return the nodes that did not stay up."""
        if not clusters:
            return await self._run({}, [])
        from .engines import running

        async with running(clusters) as urls:
            return await self._run(urls, list(dict.fromkeys(clusters.values())))

    async def _run(self, urls: Urls, clusters: list[Cluster]) -> list[Child]:
        children = self._children(urls)
        config = dataclasses.replace(self._config, **urls)
        url = config.store or config.engine_url(self._app.name)
        await _check_engine(self._app, url, len(children))
        title = f"{len(children)} nodes of {self._app.name} on {mask_url(url)}"
        if urls:
            named = (f"{OPTIONS[name].environment}={shlex.quote(url)}" for name, url in urls.items())
            title += f"\nfor other commands: export {' '.join(named)}"
        board = Board(title, children, as_json=self._as_json)
        try:
            supervisor = Supervisor(
                children,
                restart=self._restart,
                show=board.show,
                note=board.note,
                drain_s=config.drain_s,
            )
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(number, supervisor.stop)
            return await self._supervise(supervisor, board, clusters)
        finally:
            board.close()

    async def _supervise(self, supervisor: Supervisor, board: Board, clusters: list[Cluster]) -> list[Child]:
        def tell(event: str, text: str, **facts: Any) -> None:
            with suppress(OSError):  # Nobody reads it any more; the nodes have more to say soon.
                board.tell(event, text, **facts)

        async def keep_engine(cluster: Cluster) -> None:
            from .engines import keep

            try:
                await keep(cluster, restart=self._restart, tell=tell)
            except* CoterieError:
                supervisor.stop()  # It cannot be started again, and without it there is nothing to do.
                raise

        keeping = [asyncio.create_task(keep_engine(cluster)) for cluster in clusters]
        try:
            return await supervisor.run()
        finally:
            for task in keeping:
                task.cancel()
            for told in await asyncio.gather(*keeping, return_exceptions=True):
                if isinstance(told, ExceptionGroup):
                    raise told.exceptions[0]


async def _check_engine(app: App, url: str, nodes: int) -> None:
    """Open the engine once, so that what is wrong with it is said once and not by every node."""
    from ..engines.system import SystemClock, SystemEntropy

    engine = await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
    try:
        store = engine.store
        if nodes > 1 and store is not None and store.guarantees.scope < Scope.MACHINE:
            raise InvalidConfiguration(
                f"the engine {engine.name!r} lives within one process, so {nodes} nodes cannot share it",
                hint="leave --engine out for SQLite, or use --nodes 1",
            )
        if store is not None:
            check_guarantees(app, store)
    finally:
        await engine.close()
