"""What the simulated loop schedules: handles, and futures and tasks that sort the same in every run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .loop import VirtualLoop
    from .scope import Scope

__all__ = ["Handle", "SimulatedFuture", "SimulatedTask", "TimerHandle"]

T = TypeVar("T")


class Handle:
    """A callback that will run in the scope (the host's process) that scheduled it."""

    __slots__ = ("__weakref__", "args", "callback", "context", "order", "scope")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        scope: Scope,
        order: int,
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        """None once it is cancelled."""
        self.args = args
        self.context = context
        self.scope = scope
        self.order = order
        """Counts up over all handles of a loop: names this one in the trace."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.callback!r} in {self.scope.name}>"

    def cancel(self) -> None:
        """Never run it. Idempotent."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None


class TimerHandle(Handle):
    """A callback that runs at a time of the loop's clock."""

    __slots__ = ("loop", "when_s")

    def __init__(  # noqa: PLR0917 - keywords would cost a tenth of a timer
        self,
        when_s: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        scope: Scope,
        order: int,
        loop: VirtualLoop,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.scope = scope
        self.order = order
        self.when_s = when_s
        self.loop = loop

    def when(self) -> float:
        return self.when_s

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self.args = ()
            self.loop.timer_cancelled()


class SimulatedFuture(asyncio.Future[T]):
    """A future that hashes by the order of first use, so that sets iterate the same in every run."""

    __slots__ = ("_order",)

    def __hash__(self) -> int:
        try:
            return self._order
        except AttributeError:
            self._order: int = _next_order(self)
            return self._order


class SimulatedTask(asyncio.Task[T]):
    """A task that knows the scope it runs in, and hashes as `SimulatedFuture` does."""

    __slots__ = ("_order", "scope")

    scope: Scope

    def __hash__(self) -> int:
        try:
            return self._order
        except AttributeError:
            self._order: int = _next_order(self)
            return self._order


def _next_order(future: asyncio.Future[Any]) -> int:
    loop: Any = future.get_loop()
    order: int = loop.next_order()
    return order
