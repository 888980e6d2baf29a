"""`coterie call`: one call to a service of a running cluster."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import click

from ..app import App
from ..codec import type_name
from ..errors import InvalidArgument, Outcome, Unavailable
from ..node import NodeConfig, connect
from ..services import MethodSpec, make_client
from .options import Command, as_json, engine_options, epilog, load, no_node, read_json, run_async, target
from .output import declared, echo, print_json, print_line, print_table

__all__ = ["command"]


@click.command(
    "call",
    cls=Command,
    epilog=epilog(
        """coterie call examples/shop.py                                    # lists the methods""",
        """coterie call examples/shop.py Shop.available '{"sku": "tea"}'""",
        """coterie call examples/shop.py Shop.restock '{"sku": "tea", "quantity": 10}'""",
        """coterie call examples/shop.py Shop.follow '{"sku": "tea"}'        # streams until Ctrl-C""",
        """coterie call examples/shop.py Shop.buy - < order.json""",
    ),
)
@target
@click.argument("method", required=False)
@click.argument("arguments", default="{}")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 86400, min_open=True),
    metavar="SECONDS",
    help="How long to wait at most.  [default: 5 for a result, no end for a stream]",
)
@engine_options
@as_json
def command(
    target: str, method: str | None, arguments: str, timeout_s: float | None, json_: bool, **options: Any
) -> None:
    """Call METHOD (Service.method) of the app TARGET with ARGUMENTS, a JSON object by parameter name.

    Prints the result as JSON; the items of a stream as they come, one a line. ARGUMENTS are read from
    standard input when they are `-`. Without METHOD it lists what can be called.
    """
    app, config, _ = load(target, options)
    if method is None:
        _list(app, as_json=json_)
        return
    spec = find_method(app, method)
    text = read_json(arguments, "ARGUMENTS", f"for instance '{_sample(spec)}', in quotes for the shell")
    try:
        values = spec.decode_named(text)
        run_async(_call(app, config, target, spec, values, timeout_s))
    except Exception as error:
        told = declared(app, error)
        if told is None:
            raise
        raise told from error


def methods_of(app: App) -> dict[str, MethodSpec]:
    """Return what can be called, by its full name."""
    specs = {**app.clients, **app.services}
    return {method.target: method for spec in specs.values() for method in spec.methods.values()}


def find_method(app: App, name: str) -> MethodSpec:
    """Return the method called `name`; raise `InvalidArgument` that names the closest ones."""
    methods = methods_of(app)
    if name not in methods:
        # A service is easily left out; then the method's own name decides.
        same = [target for target in methods if target.partition(".")[2] == name]
        near = same or difflib.get_close_matches(name, methods, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(methods)) or 'none'}"
        raise InvalidArgument(f"the app {app.name!r} has no method {name!r}", hint=hint)
    return methods[name]


def _list(app: App, *, as_json: bool) -> None:
    found = [(name, _signature(spec), spec.doc) for name, spec in sorted(methods_of(app).items())]
    if as_json:
        facts = [{"method": name, "signature": signature, "doc": doc} for name, signature, doc in found]
        print_json({"app": app.name, "methods": facts})
    elif not found:
        echo(f"the app {app.name!r} has no service")
    else:
        rows = [(name + signature, (doc.splitlines() or [""])[0]) for name, signature, doc in found]
        print_table(("method", ""), rows)


def _signature(spec: MethodSpec) -> str:
    shown = []
    for parameter in spec.parameters:
        default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
        shown.append(f"{parameter.name}: {type_name(parameter.type)}{default}")
    stream = "stream of " if spec.streaming else ""
    return f"({', '.join(shown)}) -> {stream}{type_name(spec.returns)}"


def _sample(spec: MethodSpec) -> str:
    names = ", ".join(f'"{parameter.name}": ...' for parameter in spec.parameters)
    return f"{{{names}}}"


async def _call(
    app: App, config: NodeConfig, target: str, method: MethodSpec, arguments: Any, timeout_s: float | None
) -> None:
    service = {**app.clients, **app.services}[method.service]
    app.clients.setdefault(service.name, service)
    values = {parameter.name: getattr(arguments, parameter.name) for parameter in method.parameters}
    async with connect(app, config=config, timeout_s=timeout_s) as connection:
        bound = getattr(make_client(service), method.name)
        try:
            if method.streaming:
                async for item in bound(**values):
                    print_line(method.result.encode_json(item))
            else:
                print_line(method.result.encode_json(await bound(**values)))
        except Unavailable as error:
            if error.outcome is Outcome.NOT_APPLIED and not await connection.status():
                raise no_node(app, config, target) from error
            raise
