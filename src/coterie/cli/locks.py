"""`coterie locks`: who holds what, who waits for whom, and for how long."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..coordination import Coordination
from ..coordination.observe import (
    KINDS,
    Deadlock,
    Queue,
    deadlocks,
    force_release,
    scan_queues,
    who,
)
from ..errors import InvalidArgument
from .options import Command, as_json, engine_options, epilog, load, run_async, target, with_coordination
from .output import echo, print_json, print_table

__all__ = ["command"]


class _Locks(click.Group):
    """`coterie locks TARGET` is `coterie locks list TARGET`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("locks", cls=_Locks, invoke_without_command=False)
def command() -> None:
    """Show who holds and waits for locks, and take one away by force.

    `coterie locks TARGET` lists them.
    """


@command.command(
    "list",
    cls=Command,
    epilog=epilog("coterie locks examples/shop.py", "coterie locks examples/shop.py --json"),
)
@target
@engine_options
@as_json
def list_(target: str, json_: bool, **options: Any) -> None:
    """List locks, elections, read-write locks and semaphores: holders, tokens, waiters and ages.

    Tasks that wait for each other for ever are named below; then the exit code is 1.
    """
    app, config, _ = load(target, options)
    stuck: list[Deadlock] = []

    async def body(here: Coordination) -> None:
        queues = await scan_queues(here.store, here.app)
        stuck.extend(deadlocks(queues))
        now = here.clock.time()
        if json_:
            print_json(_facts(queues, stuck, now))
        else:
            _show(queues, stuck, now)

    run_async(with_coordination(app, config, body))
    if stuck:
        sys.exit(1)


def _facts(queues: list[Queue], stuck: list[Deadlock], now: float) -> dict[str, Any]:
    locks = []
    for queue in queues:
        holders = {place.id for place in queue.holders}
        rows = [
            {
                "node": place.ticket.node,
                "task": place.ticket.task,
                "token": place.version,
                "mode": place.ticket.mode.value,
                "age_s": round(max(0.0, now - place.ticket.since), 3),
                "waits_for": [other.version for other in queue.ahead(place)],
            }
            for place in queue.places
        ]
        held = [row for row, place in zip(rows, queue.places, strict=True) if place.id in holders]
        waiting = [row for row, place in zip(rows, queue.places, strict=True) if place.id not in holders]
        locks.append({"kind": queue.kind, "name": queue.name, "holders": held, "waiters": waiting})
    return {"locks": locks, "deadlocks": [str(each) for each in stuck]}


def _show(queues: list[Queue], stuck: list[Deadlock], now: float) -> None:
    if not queues:
        echo("Nothing is held.")
        return
    rows: list[tuple[tuple[str, str] | str, ...]] = []
    for queue in queues:
        holders = {place.id for place in queue.holders}
        for place in queue.places:
            holds = place.id in holders
            ahead = queue.ahead(place)
            nearest = [other for other in ahead if other.id in holders] or ahead
            state = ("holds", "green") if holds else ("waits", "yellow")
            rows.append(
                (
                    queue.kind,
                    queue.name,
                    state,
                    str(place.version),
                    place.ticket.node,
                    place.ticket.task,
                    _age(now - place.ticket.since),
                    "; ".join(who(other) for other in nearest),
                )
            )
    print_table(("kind", "name", "", "token", "node", "task", "since", "waits for"), rows)
    for each in stuck:
        echo(click.style("deadlock: ", fg="red", bold=True) + str(each))
    if stuck:
        echo("They end when a wait's time is over; or end one: coterie locks release TARGET NAME --force")


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0.0, seconds):.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@command.command(
    "release",
    cls=Command,
    epilog=epilog(
        "coterie locks release examples/shop.py restock --force",
        "coterie locks release examples/shop.py restock --token 4711 --force   # one place in the queue",
        "coterie locks release examples/shop.py billing --kind election --force",
    ),
)
@target
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="lock", show_default=True, help="What it is.")
@click.option("--token", type=click.IntRange(1), help="Only the place with this token, held or waiting.")
@click.option("--force", is_flag=True, help="Really: its holder may be at work.")
@engine_options
@as_json
def release(
    target: str, name: str, kind: str, token: int | None, force: bool, json_: bool, **options: Any
) -> None:
    """Take the lock NAME away from whoever holds it."""
    app, config, _ = load(target, options)
    if not force:
        raise InvalidArgument(
            f"whoever holds the {kind} {name!r} may be at work, and two at once is what it is there against",
            hint="a dead node's locks are free when its lease is over; if you are sure, add --force",
        )

    async def body(here: Coordination) -> None:
        taken = await force_release(here.store, here.app, kind, name, token)
        if json_:
            print_json(
                {
                    "released": [
                        {"node": p.ticket.node, "task": p.ticket.task, "token": p.version} for p in taken
                    ]
                }
            )
            return
        for place in taken:
            echo(f"The {kind} {name!r} was taken from {who(place)} (token {place.version}).")
        echo(
            click.style("warning: ", fg="yellow", bold=True)
            + "it hears of that within a third of its lease, and may be at work until then. What it writes "
            "with fence=lease is refused from now on; nothing else is.",
            err=True,
        )

    run_async(with_coordination(app, config, body))
