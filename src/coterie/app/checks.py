"""What is wrong with a declaration, said where it is declared and not when it first runs."""

from __future__ import annotations

import inspect
import re
from typing import Any

from ..errors import InvalidConfiguration

__all__ = ["checked_function", "checked_name", "checked_service"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def checked_name(what: str, name: str) -> str:
    """Return `name`; raise `InvalidConfiguration` unless it can be part of a key in every engine."""
    if type(name) is not str or not _NAME.fullmatch(name):
        raise InvalidConfiguration(
            f"the name of {what} must be a letter followed by up to 63 letters, digits, _ or -, not {name!r}"
        )
    return name


def checked_function(what: str, function: Any, first: str = "") -> None:
    """Raise `InvalidConfiguration` unless `function` is `async`, and takes `first`, which it is given."""
    # An object may be one as well: a scheduled transaction, for instance.
    called = type(function).__call__ if callable(function) else None
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)):
        raise InvalidConfiguration(f"{what} must be an `async def` function, not {function!r}")
    if not first:
        return
    try:
        inspect.signature(function).bind_partial(None)
    except TypeError:
        raise InvalidConfiguration(
            f"{what} must take its {first} as the first argument",
            hint=f"async def {getattr(function, '__name__', 'f')}({first}, ...)",
        ) from None


def checked_service(cls: type[Any]) -> None:
    """Raise `InvalidConfiguration` unless a node can make an instance of a service by itself."""
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise InvalidConfiguration(f"the service {cls.__name__} is abstract: it lacks {missing}")
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise InvalidConfiguration(
            f"the service {cls.__name__} is made without arguments, and cannot be: {error}",
            hint="give them defaults; what it needs to open, it can open in __aenter__",
        ) from None
    except ValueError:
        return  # Nothing is known about it. Making it will tell.
