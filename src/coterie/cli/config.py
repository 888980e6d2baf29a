"""`coterie config`: each setting, and where it came from."""

from __future__ import annotations

from typing import Any

import click

from .options import as_json, epilog, load, node_options, target
from .output import print_json, print_table

__all__ = ["command"]


@click.command(
    "config",
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
        shown = "(secret)" if option.secret and value else str(value)
        rows.append((option.name, shown, setting.source, option.environment))
    if json_:
        print_json({name: {"value": value, "source": source} for name, value, source, _ in rows})
    else:
        print_table(("setting", "value", "from", "environment variable"), rows)
