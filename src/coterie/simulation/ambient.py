"""What programs ask the interpreter for, answered by the simulation: time, randomness, names, sockets.

`installed()` puts dispatchers in the place of such functions. A dispatcher answers from the
`Environment` of the code that runs now, and as ever when that is not in a simulation, so that the
test's own process is undisturbed. Names that modules have imported (`from time import monotonic`)
are exchanged as well. `datetime` is changed in place, since a substitute class would not be what
annotations and `type(...) is datetime` mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import datetime as dt
import gc
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

from .environment import Environment
from .network.calls import SimulationLoop

__all__ = ["Substitutes", "current_environment", "current_loop", "installed"]


_MARK = "__coterie_simulated__"
"""What tells the substitute of `time.sleep`, and so all of them, from the original."""


def current_loop() -> SimulationLoop | None:
    """Return the simulated loop that runs this code, if one does."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - quicker than the function that raises
    return loop if type(loop) is SimulationLoop else None


def current_environment() -> Environment | None:
    """Return the machine that this code runs on, or None outside of any simulation."""
    loop = asyncio._get_running_loop()  # noqa: SLF001
    if type(loop) is not SimulationLoop:
        return None
    owner = loop.scope.owner
    return owner if isinstance(owner, Environment) else None


class Substitutes:
    """Functions and what to put in their place. `install` exchanges them everywhere, `remove` undoes it."""

    def __init__(self) -> None:
        self._wanted: list[tuple[Any, str, Any]] = []
        self._done: list[tuple[dict[str, Any], str, Any]] = []
        self._attributes: list[tuple[Any, str, Any]] = []
        self._types: list[tuple[type, str, Any]] = []

    def replace(self, owner: Any, name: str, substitute: Callable[[Any], Any]) -> None:
        """Exchange `owner.name`, where there is one, for what `substitute` makes of the original."""
        original = getattr(owner, name, None)
        if original is not None:
            self._wanted.append((owner, name, (original, substitute(original))))

    def replace_attribute(self, owner: Any, name: str, substitute: Callable[[Any], Any]) -> None:
        """As `replace`, for an attribute of a class, which no module imports by itself."""
        original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        self._attributes.append((owner, name, original))
        setattr(owner, name, substitute(original))

    def replace_in_type(self, owner: type, name: str, value: Any) -> None:
        """Exchange an attribute of a type that is written in C and takes no assignment."""
        table = gc.get_referents(owner.__dict__)[0]
        self._types.append((owner, name, table[name]))
        table[name] = value
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))

    def install(self) -> None:
        """Exchange all, in every module that is loaded."""
        by_identity = {id(original): substitute for _, _, (original, substitute) in self._wanted}
        for owner, name, (original, substitute) in self._wanted:
            self._attributes.append((owner, name, original))
            setattr(owner, name, substitute)
        own = __name__.rpartition(".")[0]
        for module_name, module in list(sys.modules.items()):
            names = getattr(module, "__dict__", None)
            if type(names) is not dict or module_name.startswith(own):
                continue
            for name, value in list(names.items()):
                substitute = by_identity.get(id(value))
                if substitute is not None:
                    self._done.append((names, name, value))
                    names[name] = substitute

    def remove(self) -> None:
        """Put everything back."""
        for owner, name, value in reversed(self._types):
            gc.get_referents(owner.__dict__)[0][name] = value
            ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))
        for owner, name, value in reversed(self._attributes):
            setattr(owner, name, value)
        for names, name, value in reversed(self._done):
            names[name] = value
        for done in (self._types, self._attributes, self._done):
            done.clear()


def _datetimes(substitutes: Substitutes) -> None:
    real = dt.datetime
    now, utcnow, today, date_today = real.now, real.utcnow, real.today, dt.date.today

    def virtual_now(cls: Any, tz: Any = None) -> Any:
        machine = current_environment()
        return now(tz) if machine is None else cls.fromtimestamp(machine.clock.wall(), tz)

    def virtual_utcnow(cls: Any) -> Any:
        machine = current_environment()
        if machine is None:
            return utcnow()
        return cls.fromtimestamp(machine.clock.wall(), dt.UTC).replace(tzinfo=None)

    def virtual_today(cls: Any) -> Any:
        machine = current_environment()
        if machine is None:
            return today() if issubclass(cls, real) else date_today()
        return cls.fromtimestamp(machine.clock.wall())

    substitutes.replace_in_type(real, "now", classmethod(virtual_now))
    substitutes.replace_in_type(real, "utcnow", classmethod(virtual_utcnow))
    substitutes.replace_in_type(dt.date, "today", classmethod(virtual_today))


@contextlib.contextmanager
def installed() -> Generator[None, None, None]:
    """Let simulated code see its own machine, for as long as the block runs. Nothing else changes.

    Nothing is done in a block within another.
    """
    from . import ambient_files, ambient_os, ambient_time

    if getattr(time.sleep, _MARK, False):
        yield
        return
    substitutes = Substitutes()
    ambient_time.substitute(substitutes)
    ambient_os.substitute(substitutes)
    ambient_files.substitute(substitutes)
    substitutes.install()
    setattr(time.sleep, _MARK, True)
    _datetimes(substitutes)
    try:
        yield
    finally:
        substitutes.remove()
