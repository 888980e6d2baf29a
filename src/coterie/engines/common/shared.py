"""Errors of an operation for which several wait, or nobody any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, TypeVar

from ...errors import CoterieError

__all__ = ["copy_of", "fail", "heard"]

E = TypeVar("E", bound=Exception)


def copy_of(error: E) -> E:
    """Return an error of its own for each that waits: a raised one collects tracebacks. Only of ours."""
    if not isinstance(error, CoterieError):
        return error
    copy = type(error)(error.message, hint=error.hint, outcome=error.outcome)
    copy.__cause__ = error.__cause__
    return copy


def fail(waiting: Iterable[asyncio.Future[Any]], error: Exception) -> None:
    """End those that are not done, each with an error of its own."""
    for future in waiting:
        if not future.done():
            future.set_exception(copy_of(error))


def heard(future: asyncio.Future[Any]) -> None:
    """Take note of how a future ended for which perhaps nobody waits any more."""
    if not future.cancelled():
        future.exception()
