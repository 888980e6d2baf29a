"""Finds an app by what a person types: `module:attribute` or `path/to/file.py:attribute`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from ..errors import CoterieError, InvalidConfiguration
from .app import App

__all__ = ["load_app"]

_PACKAGE = Path(__file__).resolve().parents[1]


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
    is_path = where.endswith(".py") or "/" in where or where.startswith(".")
    module = _load_file(Path(where)) if is_path else _load_module(where)
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InvalidConfiguration(
                f"{where} has no attribute {attribute!r}", hint=_apps_of(module, where)
            ) from None
    if not isinstance(found, App):
        raise InvalidConfiguration(
            f"{where}:{attribute} is a {type(found).__name__}, not a coterie.App",
            hint=_apps_of(module, where),
        )
    return found


def _apps_of(module: ModuleType, where: str) -> str:
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    if len(apps) > 1:
        return f"name one of its apps: {', '.join(f'{where}:{name}' for name in apps)}"
    return f"did you mean {where}:{apps[0]}?" if apps else "create one: app = App('name')"


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        siblings = _siblings(path)
        near = difflib.get_close_matches(path.name, [p.name for p in siblings], n=1)
        if path.is_dir():
            files = sorted(p.name for p in path.glob("*.py"))
            hint = f"name a file in it: {', '.join(files[:5])}" if files else "it holds no Python file"
            raise InvalidConfiguration(f"{path} is a folder, not a program", hint=hint)
        hint = f"did you mean {path.with_name(near[0])}?" if near else f"seen from {Path.cwd()}"
        raise InvalidConfiguration(f"there is no file {path}", hint=hint)
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
    except BaseException as error:
        sys.modules.pop(name, None)
        _note_place(error)
        raise
    return module


def _note_place(error: BaseException) -> None:
    """Add to an error of ours, which a declaration raised, where in the program it stands."""
    if not isinstance(error, CoterieError):
        return
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith("<") and not Path(frame.filename).resolve().is_relative_to(_PACKAGE):
            error.add_note(f"{frame.filename}, line {frame.lineno}: {frame.line}")
            return


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
    except CoterieError as error:
        _note_place(error)
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # The program was found; something that it imports was not.
        hint = (
            f"did you mean {name}.py?"
            if Path(f"{name}.py").is_file()
            else "is it on the path? run from its folder"
        )
        raise InvalidConfiguration(f"there is no module {name!r}", hint=hint) from None
