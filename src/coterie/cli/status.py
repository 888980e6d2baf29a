"""`coterie status`: which nodes run, and how they are."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from ..app import App
from ..node import NodeConfig, NodeStatus, connect
from ..node.config import mask_url
from .options import Command, as_json, engine_options, epilog, load, run_async, target
from .output import echo, print_json, print_table

__all__ = ["command"]


@click.command(
    "status",
    cls=Command,
    epilog=epilog("coterie status examples/shop.py", "coterie status examples/shop.py --json | jq .nodes"),
)
@target
@engine_options
@as_json
def command(target: str, json_: bool, **options: Any) -> None:
    """Show the nodes of the app TARGET: where they are, what they do, whether they answer."""
    app, config, _ = load(target, options)
    statuses = run_async(_ask(app, config))
    if json_:
        print_json({"app": app.name, "nodes": msgspec.to_builtins(statuses)})
        return
    rows = [_row(status) for status in statuses]
    if rows:
        print_table(("node", "state", "answers", "up", "calls", "under way", "HTTP", "wire", "pid"), rows)
    else:
        echo(f"no node of {app.name} runs on {mask_url(config.store or config.engine_url(app.name))}")
        echo(click.style("try:   ", fg="cyan") + f"coterie run {target}")


async def _ask(app: App, config: NodeConfig) -> list[NodeStatus]:
    async with connect(app, config=config) as connection:
        return await connection.status()


def _row(status: NodeStatus) -> tuple[tuple[str, str] | str, ...]:
    member, facts = status.member, status.facts
    return (
        member.name,
        (str(member.state), {"serving": "green", "draining": "yellow"}.get(member.state, "")),
        ("yes", "green") if facts is not None else (f"no: {status.error}", "red"),
        _duration(time.time() - member.started),
        "" if facts is None else str(facts.calls),
        "" if facts is None else str(facts.pending),
        member.http or "off",
        member.address,
        str(member.pid),
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s"
