"""`coterie map`: read and write strong maps from the shell."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Coroutine
from typing import Any

import click

from ..app import App
from ..errors import InvalidArgument, NotFound
from ..node import NodeConfig, connect
from ..state import StrongMap
from .options import Command, Group, as_json, engine_options, epilog, load, read_json, run_async, target
from .output import print_json, print_table

__all__ = ["command"]


@click.group("map", cls=Group)
def command() -> None:
    """Read and write the strong maps of an app.

    Values are JSON of the map's type.
    """


def _with_map(
    target: str,
    name: str,
    options: dict[str, Any],
    body: Callable[[StrongMap[Any]], Coroutine[Any, Any, None]],
) -> None:
    app, config, _ = load(target, options)
    run_async(_connected(app, config, find_map(app, name), body))


async def _connected(
    app: App,
    config: NodeConfig,
    found: StrongMap[Any],
    body: Callable[[StrongMap[Any]], Coroutine[Any, Any, None]],
) -> None:
    async with connect(app, config=config):
        await body(found)


def find_map(app: App, name: str) -> StrongMap[Any]:
    """Return the map called `name`; raise `InvalidArgument` that names the closest one."""
    if name not in app.maps:
        near = difflib.get_close_matches(name, app.maps, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(app.maps)) or 'none'}"
        raise InvalidArgument(f"the app {app.name!r} has no map {name!r}", hint=hint)
    return app.maps[name]


def _plain(found: StrongMap[Any], value: Any) -> Any:
    import json

    return json.loads(found.codec.encode_json(value))


@command.command("get", cls=Command, epilog=epilog("coterie map get examples/shop.py stock tea"))
@target
@click.argument("name")
@click.argument("key")
@engine_options
@as_json
def get(target: str, name: str, key: str, json_: bool, **options: Any) -> None:
    """Print the value of KEY in the map NAME; exit with 1 if it is absent."""

    async def body(found: StrongMap[Any]) -> None:
        item = await found.get_item(key)
        if item is None:
            raise NotFound(f"{name}[{key!r}] is absent")
        value = _plain(found, item.value)
        print_json({"key": key, "value": value, "version": item.version} if json_ else value)

    _with_map(target, name, options, body)


@command.command(
    "put",
    cls=Command,
    epilog=epilog(
        "coterie map put examples/shop.py stock tea 10",
        "coterie map put examples/shop.py stock tea 9 --expect 41    # only if it is at version 41",
        "coterie map put examples/shop.py stock new 1 --expect 0     # only if it is absent",
    ),
)
@target
@click.argument("name")
@click.argument("key")
@click.argument("value")
@click.option(
    "--expect", type=click.IntRange(0), help="Write only if the entry is at this version; 0: absent."
)
@engine_options
@as_json
def put(
    target: str, name: str, key: str, value: str, expect: int | None, json_: bool, **options: Any
) -> None:
    """Write VALUE (JSON; `-` reads it from standard input) under KEY in the map NAME, print its version."""
    app, config, _ = load(target, options)
    found = find_map(app, name)
    text = read_json(value, "VALUE", """text takes quotes of its own: '"like this"'""")
    try:
        new = found.codec.decode_json(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"{name}: {error.message}") from error

    async def body(found: StrongMap[Any]) -> None:
        version = await found.put(key, new, expect=expect)
        print_json({"key": key, "version": version} if json_ else version)

    run_async(_connected(app, config, found, body))


@command.command("delete", cls=Command, epilog=epilog("coterie map delete examples/shop.py stock tea"))
@target
@click.argument("name")
@click.argument("key")
@click.option("--expect", type=click.IntRange(1), help="Delete only if the entry is at this version.")
@engine_options
@as_json
def delete(target: str, name: str, key: str, expect: int | None, json_: bool, **options: Any) -> None:
    """Remove KEY from the map NAME, if it is there."""

    async def body(found: StrongMap[Any]) -> None:
        await found.delete(key, expect=expect)
        if json_:
            print_json({"key": key, "absent": True})

    _with_map(target, name, options, body)


@command.command(
    "scan",
    cls=Command,
    epilog=epilog(
        "coterie map scan examples/shop.py stock",
        "coterie map scan examples/shop.py sales --prefix 2026- --limit 20 --json",
    ),
)
@target
@click.argument("name")
@click.option("--prefix", default="", help="Only keys that start with this.")
@click.option("--limit", type=click.IntRange(1), help="At most so many entries.")
@engine_options
@as_json
def scan(target: str, name: str, prefix: str, limit: int | None, json_: bool, **options: Any) -> None:
    """List the entries of the map NAME in the order of their keys; with --json one object a line."""

    async def body(found: StrongMap[Any]) -> None:
        rows = []
        async for item in found.scan(prefix, limit=limit):
            value = _plain(found, item.value)
            if json_:
                print_json({"key": item.key, "value": value, "version": item.version})
            else:
                rows.append((item.key, found.codec.encode_json(item.value).decode(), str(item.version)))
        if not json_:
            print_table(("key", "value", "version"), rows)

    _with_map(target, name, options, body)
