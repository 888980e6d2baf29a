"""Finds the app that is to be tried, and names what it lacks."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from ...app import App, load_app
from ...errors import InvalidConfiguration

__all__ = ["find_app", "importable"]

_EXAMPLE = """add what its users do, and what must hold, to the program:

    @app.workload
    async def buyer() -> None:
        await shop.buy(Order(...))

    @app.always
    async def nothing_is_sold_twice() -> bool:
        return (await shop.books()).balanced
"""


def importable(target: str) -> tuple[str, str]:
    """Return the app of a TARGET as `module:attribute`, and the folder that must be on the path.

    Raises `InvalidConfiguration` when there is no app, or none that can be tried.
    """
    where, _, attribute = target.partition(":")
    attribute = attribute or "app"
    is_path = where.endswith(".py") or "/" in where or where.startswith(".")
    app = load_app(target)
    _check(app, target)
    if not is_path:
        return f"{where}:{attribute}", str(Path.cwd())
    path = Path(where).resolve()
    if path.stem in sys.stdlib_module_names or not path.stem.isidentifier():
        raise InvalidConfiguration(
            f"{where} cannot be imported by its name, {path.stem!r}",
            hint="each host imports the program for itself; give the file the name of a module",
        )
    return f"{path.stem}:{attribute}", str(path.parent)


def find_app(name: str) -> App:
    """Return the app called `module:attribute`."""
    module, _, attribute = name.partition(":")
    found: object = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not isinstance(found, App):
        raise InvalidConfiguration(f"{name} is a {type(found).__name__}, not a coterie.App")
    _check(found, name)
    return found


def _check(app: App, target: str) -> None:
    if not app.workloads:
        raise InvalidConfiguration(
            f"the app {app.name!r} of {target} has no workload, so nothing would happen in its universes",
            hint=_EXAMPLE,
        )
