"""How long the running code may still take, and what limits it further.

A deadline is an absolute time of the event loop's clock. It belongs to the running call
(`coterie.context.Call`), is inherited by all calls made within it, and crosses the wire as remaining
time, so that clocks of different machines are never compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ..context import CURRENT, Call
from ..errors import DeadlineExceeded, InvalidArgument, Outcome

__all__ = ["check_deadline", "deadline", "remaining_s"]


@contextmanager
def deadline(seconds: float) -> Iterator[float]:
    """Let the calls made within this block take at most `seconds` in all, or what was left before if less.

    Gives the absolute time of the loop's clock. It bounds calls of services, and whatever is run under a
    policy; those that would begin too late raise `DeadlineExceeded` before they begin. Code that waits
    for anything else is not interrupted: that is what `asyncio.timeout` is for.
    """
    if not 0 <= seconds < float("inf"):
        raise InvalidArgument(f"a deadline lies a finite number of seconds ahead, not {seconds!r}")
    until = asyncio.get_running_loop().time() + seconds
    here = CURRENT.get(None)
    if here is None:
        inner = Call("", {}, until)
    else:
        if here.deadline is not None and here.deadline < until:
            until = here.deadline
        inner = Call(here.node, here.bindings, until, here.metadata, here.key)
    token = CURRENT.set(inner)
    try:
        yield until
    finally:
        CURRENT.reset(token)


def remaining_s() -> float | None:
    """Return the seconds that the running call has left, at least 0, or None if it has no deadline."""
    here = CURRENT.get(None)
    if here is None or here.deadline is None:
        return None
    return max(here.deadline - asyncio.get_running_loop().time(), 0.0)


def check_deadline(what: str) -> None:
    """Raise `DeadlineExceeded`, not applied, if the running call has no time left to begin `what`."""
    left = remaining_s()
    if left is not None and left <= 0:
        raise DeadlineExceeded(f"the deadline was over before {what} began", outcome=Outcome.NOT_APPLIED)
