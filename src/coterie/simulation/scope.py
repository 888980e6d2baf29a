"""A scope: whose code a callback is. One for each process of a host, one for the world itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .handles import Handle
    from .network.stack import Stack

__all__ = ["SCOPE", "Scope", "drop", "hold"]

SCOPE: ContextVar[Scope] = ContextVar("coterie_scope")
"""The scope that a context belongs to: the contexts of tasks carry it, whoever wakes them."""


class Scope:
    """Tags callbacks. While `gate` is set, the loop hands a callback to it instead of running it."""

    __slots__ = ("backlog", "gate", "name", "number", "owner", "stack")

    def __init__(self, name: str, number: int, owner: object = None) -> None:
        self.name: str = name
        self.number: int = number
        """Names the scope in the trace; the same in every run of a universe."""
        self.owner: object = owner
        """The process that this is the scope of, or None for the world."""
        self.stack: Stack | None = None
        """The network stack that its code uses."""
        self.gate: Callable[[Scope, Handle], None] | None = None
        self.backlog: deque[Handle] = deque()

    def __repr__(self) -> str:
        return f"Scope({self.name!r}, {self.number})"


def drop(scope: Scope, handle: Handle) -> None:
    """The gate of a killed process: its callbacks never run."""


def hold(scope: Scope, handle: Handle) -> None:
    """The gate of a paused process: its callbacks wait, in order, until it goes on."""
    scope.backlog.append(handle)
