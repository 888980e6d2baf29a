"""What the simulated loop schedules: handles, and tasks that hash the same in every run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .scope import Scope

__all__ = [
    "ARGS",
    "CALLBACK",
    "CONTEXT",
    "LOOP",
    "ORDER",
    "SCOPE_OF",
    "WHEN",
    "Handle",
    "SimulatedTask",
    "TimerHandle",
]

T = TypeVar("T")


# Where the parts of a handle lie.
WHEN, ORDER, CALLBACK, ARGS, CONTEXT, SCOPE_OF, LOOP = range(7)


class Handle(list[Any]):
    """A callback that will run in the scope (the host's process) that scheduled it.

    A list in disguise: `[when_s, order, callback, args, context, scope]`. Made of a list display it
    costs half of an object with attributes, there are several for each event, and timers compare
    in C, by time and then by order. `order` counts up over all handles of a loop and names this one
    in the trace; `callback` is None once it is cancelled.
    """

    __slots__ = ("__weakref__",)

    # As with asyncio's own, each is only itself. (Two with the same order do not exist.)
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self[CALLBACK]!r} in {self[SCOPE_OF].name}>"

    @property
    def scope(self) -> Scope:
        scope: Scope = self[SCOPE_OF]
        return scope

    def cancel(self) -> None:
        """Never run it. Idempotent."""
        self[CALLBACK] = None
        self[ARGS] = ()

    def cancelled(self) -> bool:
        return self[CALLBACK] is None


class TimerHandle(Handle):
    """A callback that runs at a time of the loop's clock; it holds its loop as well."""

    __slots__ = ()

    def when(self) -> float:
        when_s: float = self[WHEN]
        return when_s

    def cancel(self) -> None:
        if self[CALLBACK] is not None:
            self[CALLBACK] = None
            self[ARGS] = ()
            self[LOOP].timer_cancelled()


class SimulatedTask(asyncio.Task[T]):
    """A task that knows the scope it runs in, and hashes by the order of first use.

    So a set of tasks, as `asyncio.wait` returns, iterates the same in every run. Futures are
    asyncio's own: those it awaits by a quicker path, and they are seldom put into sets.
    """

    __slots__ = ("_order", "scope")

    scope: Scope
    _order: int

    def __hash__(self) -> int:
        try:
            order = self._order
        except AttributeError:
            loop: Any = self.get_loop()
            order = self._order = loop.next_order()
        return order
