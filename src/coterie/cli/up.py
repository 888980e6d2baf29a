"""`coterie up`: several nodes of an app on this machine, watched and restarted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import click

from ..app import App
from ..errors import InvalidConfiguration, Unavailable
from ..node import NodeConfig, open_engine
from ..node.config import OPTIONS
from ..ports import Scope
from .options import Command, as_json, epilog, load, node_options, run_async, target
from .output import console, print_json

__all__ = ["command"]

_RESTARTS = 5
_RESTARTS_WITHIN_S = 60.0


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

    The nodes are processes of their own: kill one and see what happens.
    """
    app, config, _ = load(target, options)
    environment = {
        OPTIONS[name].environment: str(value) for name, value in options.items() if value is not None
    }
    children = [
        _Child(
            name=f"{app.name}-{index + 1}",
            target=target,
            http=_http(config.http, index),
            environment=environment,
        )
        for index in range(nodes)
    ]
    failed = run_async(_supervise(app, config, children, restart=restart, as_json=json_))
    if failed:
        raise Unavailable(f"{len(failed)} of {nodes} nodes did not stay up: {', '.join(failed)}")


def _http(address: str, index: int) -> str:
    host, _, port = address.rpartition(":")
    return address if address == "off" or port == "0" else f"{host}:{int(port) + index}"


@dataclass(kw_only=True)
class _Child:
    """One node process, as far as its parent knows."""

    name: str
    target: str
    http: str
    environment: dict[str, str]
    state: str = "starting"
    pid: int = 0
    url: str = ""
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=_RESTARTS))
    problem: str = ""
    process: asyncio.subprocess.Process | None = None

    def arguments(self) -> Sequence[str]:
        return (
            sys.executable,
            "-m",
            "coterie",
            "run",
            self.target,
            "--name",
            self.name,
            "--http",
            self.http,
            "--json",
        )

    def may_restart(self, now: float) -> bool:
        """Return whether it has not died too often lately."""
        return len(self.starts) < _RESTARTS or now - self.starts[0] > _RESTARTS_WITHIN_S


async def _supervise(
    app: App, config: NodeConfig, children: list[_Child], *, restart: bool, as_json: bool
) -> list[str]:
    await _check_engine(app, config, len(children))
    stop = asyncio.Event()
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        stop.set()
        for child in children:
            if child.process is not None and child.process.returncode is None:
                child.process.send_signal(signal.SIGTERM)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with AsyncExitStack() as stack:
        board = _Board(children, as_json=as_json)
        stack.callback(board.close)
        tasks = [asyncio.create_task(_keep(child, board, stop, restart=restart)) for child in children]
        try:
            await asyncio.gather(*tasks)
        finally:
            await _end(children)
    return [child.name for child in children if child.problem]


async def _check_engine(app: App, config: NodeConfig, nodes: int) -> None:
    """Open the engine once, so that what is wrong with it is said once and not by every node."""
    from ..engines.system import SystemClock, SystemEntropy

    url = config.store or config.engine_url(app.name)
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


async def _keep(child: _Child, board: _Board, stop: asyncio.Event, *, restart: bool) -> None:
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        child.starts.append(loop.time())
        code = await _run_once(child, board)
        if stop.is_set():
            child.state = "stopped"
            board.show(child, "stopped", code=code)
            return
        child.state = "dead"
        board.show(child, "died", code=code)
        if not restart or not child.may_restart(loop.time()):
            child.problem = child.problem or f"ended with {code}"
            board.show(child, "given up", problem=child.problem)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.2 * len(child.starts))


async def _run_once(child: _Child, board: _Board) -> int:
    child.state, child.url, child.problem = "starting", "", ""
    # A session of its own: Ctrl-C in the terminal reaches the parent only, which drains the nodes in order.
    child.process = await asyncio.create_subprocess_exec(
        *child.arguments(),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **child.environment},
        start_new_session=True,
    )
    child.pid = child.process.pid
    board.show(child, "starting")
    assert child.process.stdout is not None  # noqa: S101 - it was asked for
    async for line in child.process.stdout:
        _take(child, line, board)
    return await child.process.wait()


def _take(child: _Child, line: bytes, board: _Board) -> None:
    try:
        event = json.loads(line)
        kind = event.get("event", "")
    except (ValueError, AttributeError):
        board.note(child, line.decode(errors="replace").rstrip())  # What the program itself prints.
        return
    if "error" in event:
        child.problem = event["error"]["message"]
        board.show(child, "error", **event["error"])
    elif kind:
        child.state = kind
        child.url = event.get("http", child.url)
        board.show(child, kind, **{key: event[key] for key in ("http", "wire") if key in event})


async def _end(children: list[_Child]) -> None:
    for child in children:
        if child.process is not None and child.process.returncode is None:
            child.process.kill()
            await child.process.wait()


class _Board:
    """What `up` shows: a live table on a terminal, lines elsewhere, JSON lines on request."""

    def __init__(self, children: list[_Child], *, as_json: bool) -> None:
        self._children = children
        self._as_json = as_json
        self._live: Any = None
        if not as_json and sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(self._table(), console=console(), refresh_per_second=8)
            self._live.start()

    def show(self, child: _Child, event: str, **facts: Any) -> None:
        if self._as_json:
            print_json({"event": event, "node": child.name, "pid": child.pid, **facts})
        elif self._live is not None:
            self._live.update(self._table())
        else:
            more = "  ".join(str(value) for value in facts.values() if value is not None)
            click.echo(f"{child.name} (pid {child.pid}) {event}  {more}".rstrip())

    def note(self, child: _Child, text: str) -> None:
        if self._as_json:
            print_json({"event": "output", "node": child.name, "text": text})
        elif self._live is not None:
            self._live.console.print(f"[dim]{child.name}:[/] {text}")
        else:
            click.echo(f"{child.name}: {text}")

    def close(self) -> None:
        if self._live is not None:
            self._live.update(self._table())
            self._live.stop()

    def _table(self) -> Any:
        from rich import box
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        colors = {"ready": "green", "dead": "red", "draining": "yellow"}
        table = Table("node", "state", "HTTP", "pid", "starts", "", box=box.SIMPLE_HEAD, pad_edge=False)
        for child in self._children:
            waiting = child.state in {"starting", "draining"}
            state = (
                Spinner("dots", child.state, style="yellow")
                if waiting
                else Text(child.state, style=colors.get(child.state, ""))
            )
            table.add_row(
                child.name, state, child.url, str(child.pid or ""), str(len(child.starts)), child.problem
            )
        table.caption = "Ctrl-C drains them all; twice hurries"
        return table
