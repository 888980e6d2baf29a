"""`coterie run`: one node, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Any

import click

from ..app import App
from ..node import Node, NodeConfig
from .options import Command, as_json, epilog, load, node_options, run_async, target
from .output import print_json

__all__ = ["command"]


@click.command(
    "run",
    cls=Command,
    epilog=epilog(
        "coterie run examples/shop.py",
        "coterie run shop:app --http 127.0.0.1:8080 --name alpha",
        "coterie run shop:app --engine sqlite:////var/lib/shop/shop.db --http off",
    ),
)
@target
@click.option("--name", metavar="NAME", help="The node's name; made up if not given.")
@node_options
@as_json
def command(target: str, json_: bool, **options: Any) -> None:
    """Run one node of the app TARGET.

    SIGTERM or Ctrl-C drains it: it finishes what it accepted, then leaves. A second one hurries.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    app, config, _ = load(target, options)
    run_async(_serve(app, config, as_json=json_))


async def _serve(app: App, config: NodeConfig, *, as_json: bool) -> None:
    node = Node(app, config)
    drain, hurry = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (hurry if drain.is_set() else drain).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await node.start()
    try:
        _report_ready(node, as_json=as_json)
        await drain.wait()
        _report(node, "draining", as_json=as_json)
        left = await _drain(node, config.drain_s, hurry)
    finally:
        await node.close()
    _report(node, "stopped", as_json=as_json, unfinished=left)


async def _drain(node: Node, timeout_s: float, hurry: asyncio.Event) -> int:
    draining = asyncio.create_task(node.drain(timeout_s))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        draining.cancel()
    hurried.cancel()
    await asyncio.gather(draining, hurried, return_exceptions=True)
    return node.pending if draining.cancelled() else draining.result()


def _report_ready(node: Node, *, as_json: bool) -> None:
    if as_json:
        _report(node, "ready", as_json=True, http=node.http_address, wire=node.wire_address)
        return
    name = click.style(node.name, bold=True)
    where = click.style(node.http_address, fg="cyan") if node.http_address else "no HTTP"
    click.echo(f"{name} is ready: {where}  (other nodes: {node.wire_address}, pid {os.getpid()})")


def _report(node: Node, event: str, *, as_json: bool, **facts: Any) -> None:
    if as_json:
        print_json({"event": event, "node": node.name, "id": node.id, "pid": os.getpid(), **facts})
    elif event == "draining":
        click.echo(f"{node.name} finishes what it accepted ({node.pending} under way); once more to hurry")
    elif event == "stopped":
        left = facts["unfinished"]
        click.echo(f"{node.name} has left" + (f"; {left} calls were cut off" if left else ""))
