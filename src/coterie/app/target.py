"""Finds an app by what a person types: `module:attribute` or `path/to/file.py:attribute`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ..errors import InvalidConfiguration
from .app import App

__all__ = ["load_app"]


def load_app(target: str) -> App:
    """Return the app that `target` names; `:app` may be left out.

    Raises `InvalidConfiguration` that says which part of the target was wrong. An error in the
    program itself passes through with its own traceback.
    """
    where, _, attribute = target.partition(":")
    attribute = attribute or "app"
    if not where:
        raise InvalidConfiguration(
            f"{target!r} names no module", hint="write module:attribute or path/to/file.py:attribute"
        )
    module = _load_file(Path(where)) if where.endswith(".py") or "/" in where else _load_module(where)
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            apps = [name for name, value in vars(module).items() if isinstance(value, App)]
            hint = f"did you mean {where}:{apps[0]}?" if apps else "create one: app = App('name')"
            raise InvalidConfiguration(f"{where} has no attribute {attribute!r}", hint=hint) from None
    if not isinstance(found, App):
        raise InvalidConfiguration(f"{where}:{attribute} is a {type(found).__name__}, not a coterie.App")
    return found


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in _siblings(path)], n=1)
        raise InvalidConfiguration(
            f"there is no file {path}", hint=f"did you mean {path.with_name(near[0])}?" if near else None
        )
    # The file's folder comes first on the path, as when Python runs a script, so that it can import its own.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    if known is not None:
        name = f"_coterie_target_{name}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise InvalidConfiguration(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _siblings(path: Path) -> list[Path]:
    try:
        return sorted(path.parent.glob("*.py"))
    except OSError:
        return []


def _load_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # The program was found; something that it imports was not.
        hint = (
            f"did you mean {name}.py?"
            if Path(f"{name}.py").is_file()
            else "is it on the path? run from its folder"
        )
        raise InvalidConfiguration(f"there is no module {name!r}", hint=hint) from None
