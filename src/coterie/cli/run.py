"""`coterie run`: one node, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import click

from ..app import App
from ..errors import InvalidConfiguration
from ..node import Node, NodeConfig
from .options import Command, as_json, epilog, load, node_options, run_async, target
from .output import echo, forget_reader, json_line

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
@click.option("--until-eof", is_flag=True, help="Stop when standard input ends, as with its parent process.")
@node_options
@as_json
def command(target: str, until_eof: bool, json_: bool, **options: Any) -> None:
    """Run one node of the app TARGET.

    SIGTERM or Ctrl-C drains it: it finishes what it accepted, then leaves. A second one hurries.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    app, config, _ = load(target, options)
    run_async(_serve(app, config, until_eof=until_eof, as_json=json_))


async def _serve(app: App, config: NodeConfig, *, until_eof: bool, as_json: bool) -> None:
    node = Node(app, config)
    drain, hurry = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (hurry if drain.is_set() else drain).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    if until_eof:
        _watch_input(loop, drain.set)
    left = 0
    try:
        # What starts is let start: a client that knows the address may have been accepted already.
        if not await _unless(hurry, node.start()):
            return
        if not drain.is_set():
            _report(node, "ready", as_json=as_json, http=node.http_address, wire=node.wire_address)
        await drain.wait()
        _report(node, "draining", as_json=as_json, pending=node.pending)
        await _unless(hurry, node.drain(config.drain_s))
        left = node.pending
    finally:
        await node.close()
    _report(node, "stopped", as_json=as_json, unfinished=left)


async def _unless(hurry: asyncio.Event, work: Awaitable[object]) -> bool:
    """Await `work` until there is a hurry, and return whether it was done."""
    working = asyncio.ensure_future(work)
    hurried = asyncio.create_task(hurry.wait())
    try:
        await asyncio.wait({working, hurried}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working  # Raises what it raised.
            return True
        return False
    finally:
        for task in (working, hurried):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(working, hurried, return_exceptions=True)


def _watch_input(loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
    """Call `ended` when standard input ends. A pipe's other end closes even when its holder is killed."""

    def read() -> None:
        try:
            data = os.read(descriptor, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(descriptor)
            ended()

    try:
        descriptor = sys.stdin.fileno()
        loop.add_reader(descriptor, read)
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidConfiguration(
            "--until-eof needs a pipe as standard input", hint="start it with one, or leave the option out"
        ) from error


def _report(node: Node, event: str, *, as_json: bool, **facts: Any) -> None:
    try:
        if as_json:
            echo(json_line({"event": event, "node": node.name, "id": node.id, "pid": os.getpid(), **facts}))
        else:
            echo(_sentence(node, event, facts))
    except OSError:
        # Whoever read this is gone, perhaps killed. What was accepted is finished all the same.
        forget_reader()


def _sentence(node: Node, event: str, facts: dict[str, Any]) -> str:
    if event == "ready":
        name = click.style(node.name, bold=True)
        where = click.style(facts["http"], fg="cyan") if facts["http"] else "no HTTP"
        return f"{name} is ready: {where}  (other nodes: {facts['wire']}, pid {os.getpid()})"
    if event == "draining":
        return f"{node.name} finishes what it accepted ({facts['pending']} under way); once more to hurry"
    left = facts["unfinished"]
    cut_off = f"; {left} call{'' if left == 1 else 's'} cut off" if left else ""
    return f"{node.name} has left{cut_off}"
