"""`coterie config`: each setting, and where it came from."""

from __future__ import annotations

import difflib
import os
from typing import Any

import click

from ..node.config import OPTIONS, Option, mask_url
from .options import Command, as_json, epilog, load, node_options, target
from .output import echo, print_json, print_table

__all__ = ["command"]


@click.command(
    "config",
    cls=Command,
    epilog=epilog("coterie config examples/shop.py", "COTERIE_LEASE_S=5 coterie config shop:app --json"),
)
@target
@click.option("--name", metavar="NAME", help="The node's name.")
@node_options
@as_json
def command(target: str, json_: bool, **options: Any) -> None:
    """Show each setting of a node of TARGET and where it came from.

    First the command line counts, then the environment, then coterie.toml, then the default.
    """
    app, config, settings = load(target, options)
    rows = []
    for setting in settings:
        option, value = setting.option, setting.value
        if option.name == "engine" and not value:
            value = config.engine_url(app.name)
        rows.append((option, _shown(option, value), setting.source))
    if json_:
        print_json({option.name: {"value": value, "source": source} for option, value, source in rows})
    else:
        columns = ("setting", "value", "from", "environment variable")
        print_table(
            columns, [(option.name, str(value), source, option.environment) for option, value, source in rows]
        )
    for name, near in _strangers():
        echo(click.style("note:  ", fg="yellow") + f"{name} is no setting; {near}", err=True)


def _shown(option: Option, value: Any) -> Any:
    if option.secret and value:
        return "(secret)"
    return mask_url(value) if isinstance(value, str) else value


def _strangers() -> list[tuple[str, str]]:
    """Return the environment variables that look like settings and are none, each with advice."""
    known = [option.environment for option in OPTIONS.values()]
    found = []
    for name in sorted(os.environ):
        if name.startswith("COTERIE_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            found.append((name, f"did you mean {near[0]}?" if near else "it has no effect"))
    return found
