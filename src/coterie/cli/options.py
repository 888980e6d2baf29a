"""The options and arguments that commands share."""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import click

from ..app import App, load_app
from ..context import current
from ..coordination import Coordination
from ..errors import CoterieError, InvalidArgument, InvalidConfiguration, Outcome, Unavailable
from ..node import NodeConfig, connect
from ..node.config import Setting, mask_url, resolve
from .program import program_error

__all__ = [
    "Command",
    "Group",
    "as_json",
    "engine_options",
    "epilog",
    "load",
    "no_node",
    "node_options",
    "read_json",
    "run_async",
    "seconds",
    "target",
    "with_coordination",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

target: Callable[[F], F] = click.argument("target")
as_json: Callable[[F], F] = click.option("--json", "json_", is_flag=True, help="Print JSON, for machines.")

_ENGINE = (
    click.option("--engine", metavar="URL", help="The engine; by default sqlite:///.coterie/<app>.db."),
    click.option("--store", metavar="URL", help="The engine for state, if another than --engine."),
    click.option("--log", metavar="URL", help="The engine for events, if another than --engine."),
    click.option("--wire", metavar="URL", help="NATS servers that carry the calls between nodes."),
    click.option("--data", metavar="DIR", help="Where the embedded engine keeps its files."),
    click.option(
        "--cluster-key", metavar="KEY", help="The secret that the nodes share (better: COTERIE_CLUSTER_KEY)."
    ),
)
_NODE = (
    click.option("--listen", metavar="HOST:PORT", help="Where other nodes reach this one; or unix:/path."),
    click.option("--http", metavar="HOST:PORT|off", help="Where the HTTP gateway listens."),
    click.option(
        "--http-token", metavar="TOKEN", help="What HTTP clients must send (better: COTERIE_HTTP_TOKEN)."
    ),
    click.option("--lease-s", type=float, metavar="SECONDS", help="How long a silent node stays a member."),
    click.option(
        "--gossip-s", type=float, metavar="SECONDS", help="How often nodes ask whether others live; 0: never."
    ),
    click.option("--drain-s", type=float, metavar="SECONDS", help="How long to finish what was accepted."),
    click.option(
        "--replies-s", type=float, metavar="SECONDS", help="How long replies of idempotent calls are kept."
    ),
    click.option("--zone", metavar="NAME", help="Where the node is, for callers that prefer what is near."),
    click.option("--weight", type=float, metavar="NUMBER", help="Its share of the calls beside the others'."),
)


def engine_options(function: F) -> F:
    """Add the options that say where the cluster lives."""
    for option in reversed(_ENGINE):
        function = option(function)
    return function


def node_options(function: F) -> F:
    """Add the options of a command that runs nodes."""
    for option in reversed(_NODE):
        function = option(function)
    return engine_options(function)


def epilog(*examples: str) -> str:
    """Return the examples as a part of a command's help."""
    return "Examples:\n" + "\n".join(f"  {example}" for example in examples)


class Command(click.Command):
    """A command whose examples are shown as they were written, neither indented nor wrapped."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


class Group(click.Group):
    """A group of commands that knows what a mistyped one may have been."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}."
            raise click.UsageError(f"No such command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


def load(target: str, options: dict[str, Any]) -> tuple[App, NodeConfig, list[Setting]]:
    """Return the app, its configuration, and each setting's source.

    Raises `InvalidConfiguration` for what is wrong with these, `ProgramError` when the program fails
    while it is loaded.
    """
    config, settings = resolve(options, os.environ)
    where = target.partition(":")[0]
    try:
        return load_app(target), config, settings
    except CoterieError:
        raise
    except SystemExit as error:
        raise InvalidConfiguration(
            f"{where} ended itself while it was loaded: sys.exit({error.code!r})",
            hint='keep what runs it under: if __name__ == "__main__":',
        ) from error
    except Exception as error:
        told = program_error(error, f"{where} cannot be loaded", loading=True)
        if told is None:
            raise
        raise told from error


def no_node(app: App, config: NodeConfig, target: str) -> Unavailable:
    """Return the error of a command that finds nobody where it looks: the place may be the wrong one."""
    place = mask_url(config.store or config.engine_url(app.name))
    return Unavailable(
        f"no node of {app.name} runs on {place}",
        hint=f"coterie run {target}, or name the engine of the nodes that run: --engine or COTERIE_ENGINE",
        outcome=Outcome.NOT_APPLIED,
    )


def read_json(text: str, what: str, hint: str) -> str:
    """Return JSON `text`, or standard input for `-`; raise `InvalidArgument` when it is not JSON.

    Whether it has the right type is left to who knows the type.
    """
    if text == "-":
        text = sys.stdin.read()
    try:
        json.loads(text)
    except ValueError as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise InvalidArgument(f"{what} is not JSON: {reason}", hint=hint) from None
    return text


def seconds(_: click.Context, __: click.Parameter, text: str) -> float:
    """Return the seconds that an option such as 60s, 5m or 1h stands for, as a callback of click."""
    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    number = text.rstrip("smh")
    try:
        found_s = float(number) * units[text[len(number) :] or "s"]
    except (KeyError, ValueError):
        found_s = 0.0
    if not 1.0 <= found_s <= 86400.0:
        raise click.BadParameter(f"{text!r} is no time from 1s to 24h; write it as 60s, 5m or 1h")
    return found_s


async def with_coordination(
    app: App, config: NodeConfig, body: Callable[[Coordination], Awaitable[None]]
) -> None:
    """Run `body` with what the Store says of the app's locks and schedules; no node need be there."""
    async with connect(app, config=config):
        here: Coordination = current().bindings[Coordination]
        await body(here)


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on uvloop where it is present."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
