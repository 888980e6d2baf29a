"""`coterie call`: one call to a service of a running cluster."""

from __future__ import annotations

import difflib
from typing import Any

import click

from ..app import App
from ..errors import NotFound
from ..node import NodeConfig, connect
from ..services import MethodSpec, make_client
from .options import as_json, engine_options, epilog, load, run_async, target
from .output import declared, print_line

__all__ = ["command"]


@click.command(
    "call",
    epilog=epilog(
        """coterie call examples/shop.py Shop.available '{"sku": "tea"}'""",
        """coterie call examples/shop.py Shop.restock '{"sku": "tea", "quantity": 10}'""",
        """coterie call examples/shop.py Shop.follow '{"sku": "tea"}'      # streams until Ctrl-C""",
    ),
)
@target
@click.argument("method")
@click.argument("arguments", default="{}")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0, 86400, min_open=True), help="Seconds to wait."
)
@engine_options
@as_json
def command(
    target: str, method: str, arguments: str, timeout_s: float | None, json_: bool, **options: Any
) -> None:
    """Call METHOD (Service.method) of the app TARGET with ARGUMENTS, a JSON object by parameter name.

    Prints the result as JSON; the items of a stream as they come, one a line.
    """
    app, config, _ = load(target, options)
    spec = find_method(app, method)
    try:
        values = spec.decode_named(arguments)
        run_async(_call(app, config, spec, values, timeout_s))
    except Exception as error:
        told = declared(app, error)
        if told is None:
            raise
        raise told from error


def find_method(app: App, name: str) -> MethodSpec:
    """Return the method called `name`; raise `NotFound` that names the closest ones."""
    specs = {**app.clients, **app.services}
    methods = {method.target: method for spec in specs.values() for method in spec.methods.values()}
    if name not in methods:
        near = difflib.get_close_matches(name, methods, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(methods)) or 'none'}"
        raise NotFound(f"the app {app.name!r} has no method {name!r}", hint=hint)
    return methods[name]


async def _call(
    app: App, config: NodeConfig, method: MethodSpec, arguments: Any, timeout_s: float | None
) -> None:
    service = {**app.clients, **app.services}[method.service]
    app.clients.setdefault(service.name, service)
    values = {parameter.name: getattr(arguments, parameter.name) for parameter in method.parameters}
    async with connect(app, config=config, timeout_s=timeout_s):
        bound = getattr(make_client(service), method.name)
        if method.streaming:
            async for item in bound(**values):
                print_line(method.result.encode_json(item))
        else:
            print_line(method.result.encode_json(await bound(**values)))
