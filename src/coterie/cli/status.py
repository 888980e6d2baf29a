"""`coterie status`: which nodes run, and how they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from ..app import App
from ..node import NodeConfig, NodeStatus, connect
from .options import Command, as_json, engine_options, epilog, load, no_node, run_async, target
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
    rows = [_row(status, _suspicion(status, statuses)) for status in statuses]
    if rows:
        print_table(
            ("node", "state", "answers", "up", "calls", "under way", "suspicion", "HTTP", "wire", "pid"), rows
        )
    else:
        told = no_node(app, config, target)
        echo(told.message)
        echo(click.style("try:   ", fg="cyan") + str(told.hint))


async def _ask(app: App, config: NodeConfig) -> list[NodeStatus]:
    async with connect(app, config=config) as connection:
        return await connection.status()


def _row(status: NodeStatus, suspicion: tuple[str, str]) -> tuple[tuple[str, str] | str, ...]:
    member, facts = status.member, status.facts
    return (
        member.name,
        (str(member.state), {"serving": "green", "draining": "yellow"}.get(member.state, "")),
        ("yes", "green") if facts is not None else (f"no: {status.error}", "red"),
        _duration(time.time() - member.started),
        "" if facts is None else str(facts.calls),
        "" if facts is None else str(facts.pending),
        suspicion,
        member.http or "off",
        member.address,
        str(member.pid),
    )


def _suspicion(status: NodeStatus, statuses: Sequence[NodeStatus]) -> tuple[str, str]:
    """Return what the others think of a node, and how surprising its silence is, if at all."""
    heard = [other.facts.gossip for other in statuses if other.facts is not None and other is not status]
    others = [gossip for gossip in heard if gossip is not None]
    id_ = status.member.id
    said = [gossip.suspects[id_] for gossip in others if id_ in gossip.suspects]
    phis = [gossip.phis[id_] for gossip in others if id_ in gossip.phis]
    health = 0 if status.facts is None or status.facts.gossip is None else status.facts.gossip.health
    text = f"{max(said, key=said.count)} to {len(said)} of {len(others)}" if said else "none"
    if max(phis, default=0.0) >= 1:
        text += f", φ {max(phis):.1f}"
    if health:
        text += f", health {health}"
    return text, "red" if said else "yellow" if health else ""


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s"
