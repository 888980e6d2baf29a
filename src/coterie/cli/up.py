"""`coterie up`: several nodes of an app on this machine, watched and restarted."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from typing import Any

import click

from ..app import App
from ..errors import InvalidConfiguration, Outcome, Unavailable
from ..node import NodeConfig, open_engine
from ..node.config import OPTIONS, mask_url
from ..ports import Scope
from .board import Board
from .options import Command, as_json, epilog, load, node_options, run_async, target
from .supervisor import Child, Supervisor, node_arguments

__all__ = ["command"]


@click.command(
    "up",
    cls=Command,
    epilog=epilog(
        "coterie up examples/shop.py --nodes 3                     # http://127.0.0.1:8000, :8001, :8002",
        "coterie up shop:app --nodes 2 --http 127.0.0.1:0          # any free ports",
        "coterie up shop:app --json | jq -c 'select(.event == \"ready\")'",
    ),
)
@target
@click.option("--nodes", type=click.IntRange(1, 64), default=3, show_default=True, help="How many nodes.")
@click.option("--restart/--no-restart", default=True, show_default=True, help="Start a node that died again.")
@node_options
@as_json
def command(target: str, nodes: int, restart: bool, json_: bool, **options: Any) -> None:
    """Run several nodes of the app TARGET on this machine until Ctrl-C.

    The nodes are processes of their own: kill one and see what happens. Each gets the next port after
    that of --http, and of --listen. They end with this command, however it ends.
    """
    app, config, _ = load(target, options)
    configs = [node_config(app.name, config, index) for index in range(nodes)]
    # By environment, where other users of the machine do not see the secrets.
    environment = {
        OPTIONS[name].environment: str(value) for name, value in options.items() if value is not None
    }
    children = [
        Child(
            name=each.name,
            arguments=node_arguments(target, each.name, each.http, each.listen),
            environment=environment,
        )
        for each in configs
    ]
    lost = run_async(_supervise(app, config, children, restart=restart, as_json=json_))
    if lost:
        raise Unavailable(
            f"{len(lost)} of {nodes} nodes did not stay up: {', '.join(child.name for child in lost)}",
            hint=f"run one alone to see more: coterie run {target}",
            outcome=Outcome.NOT_APPLIED,
        )


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


async def _supervise(
    app: App, config: NodeConfig, children: list[Child], *, restart: bool, as_json: bool
) -> list[Child]:
    url = config.store or config.engine_url(app.name)
    await _check_engine(url, len(children))
    board = Board(f"{len(children)} nodes of {app.name} on {mask_url(url)}", children, as_json=as_json)
    try:
        supervisor = Supervisor(children, restart=restart, show=board.show, note=board.note)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, supervisor.stop)
        return await supervisor.run()
    finally:
        board.close()


async def _check_engine(url: str, nodes: int) -> None:
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
    finally:
        await engine.close()
