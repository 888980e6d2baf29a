"""Reports of the loop: exceptions that nobody caught, and tasks that wait for ever."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import VirtualLoop

__all__ = ["describe_task", "describe_waiting", "pending_tasks", "report"]

_log = logging.getLogger("coterie.simulation")

# Taken now, since within hosts `asyncio.all_tasks` tells of those of the host only.
_all_tasks = asyncio.all_tasks


def report(loop: VirtualLoop, context: dict[str, Any]) -> None:
    """Keep what nobody caught, so that the universe can tell of it, and log it as asyncio does."""
    loop.unhandled.append({**context, "scope": loop.scope.name, "time_s": loop.time()})
    message = context.get("message") or "Unhandled exception in event loop"
    error = context.get("exception")
    _log.error("%s: %s", loop.scope.name, message, exc_info=error if error is not None else False)


def pending_tasks(loop: VirtualLoop) -> list[asyncio.Task[Any]]:
    """Return the tasks that have not ended, in an order that is the same in every run."""
    return sorted(_all_tasks(loop), key=hash)


def describe_task(task: asyncio.Task[Any]) -> str:
    """Return one line: where the task runs, its name, and the line on which it waits."""
    scope = getattr(task, "scope", None)
    frames = task.get_stack(limit=1)
    where = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "not begun"
    coroutine = task.get_coro()
    what = getattr(coroutine, "__qualname__", repr(coroutine))
    return f"  {scope.name if scope is not None else '?'}: {task.get_name()} {what} at {where}"


def describe_waiting(loop: VirtualLoop) -> str:
    """Return a line for each task that waits and is not frozen."""
    lines = [
        describe_task(task)
        for task in pending_tasks(loop)
        if getattr(getattr(task, "scope", None), "gate", None) is None
    ]
    return "\n".join(lines[:50]) or "  none but the one that runs the loop"
