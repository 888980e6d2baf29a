"""What an app says about itself for `coterie sim`: who uses it, and what must hold while they do.

Nothing of it runs in a normal run of the app.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidConfiguration

__all__ = ["Promise", "Workload", "promise", "workload"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """A client of the app: `function` runs again and again, on `clients` hosts, each by itself.

    `pause_s` is the mean of the pause between two runs, in seconds.
    """

    name: str
    function: Callable[..., Any]
    clients: int
    pause_s: float
    numbered: bool
    """Whether the function takes the client's number, from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """Something that must hold: `function` returns false, or asserts, when it does not.

    For `app.eventually`, `within_s` is how long after the last fault it may take to become true.
    """

    name: str
    function: Callable[[], Any]
    within_s: float


def workload(function: Callable[..., Any], *, clients: int, pause_s: float) -> Workload:
    """Return `function` as a workload; raise `InvalidConfiguration` if it cannot be one."""
    name = _name(function)
    if not inspect.iscoroutinefunction(function):
        raise InvalidConfiguration(f"the workload {name!r} must be an `async def` function")
    if type(clients) is not int or not 1 <= clients <= 100:
        raise InvalidConfiguration(f"the workload {name!r} must have 1 to 100 clients, not {clients!r}")
    if not 0 <= pause_s <= 3600:
        raise InvalidConfiguration(f"the workload {name!r} must pause for 0 to 3,600 s, not {pause_s!r}")
    required = _required(function)
    if required > 1:
        raise InvalidConfiguration(
            f"the workload {name!r} takes {required} arguments",
            hint="it gets none, or one: the number of the client, from 0",
        )
    parameters = inspect.signature(function).parameters
    return Workload(name=name, function=function, clients=clients, pause_s=pause_s, numbered=bool(parameters))


def promise(kind: str, function: Any, *, within_s: float = 0.0) -> Promise:
    """Return `function` as a promise; raise `InvalidConfiguration` if it cannot be one."""
    name = _name(function)
    if not callable(function) or _required(function):
        raise InvalidConfiguration(f"{name!r} of app.{kind} must be a function without arguments")
    if not 0 <= within_s <= 3600:
        raise InvalidConfiguration(
            f"{name!r} of app.{kind} must become true within 0 to 3,600 s, not {within_s!r}"
        )
    return Promise(name=name, function=function, within_s=within_s)


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))


def _required(function: Callable[..., Any]) -> int:
    found = inspect.signature(function).parameters.values()
    return sum(
        each.default is each.empty and each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
        for each in found
    )
