"""What is verified: something that clients can open, and perhaps members that faults can be done to."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from ...ports import Engine

__all__ = ["System", "Victim"]


class Victim(Protocol):
    """The members of a system, by index, for whoever does faults to them.

    Each method returns when its effect is there, and raises an error of Coterie when it did not come about.
    """

    @property
    def size(self) -> int: ...

    async def leader(self) -> int:
        """Return who leads, or writes, now. Waits a moment for one."""
        ...

    def running(self, member: int) -> bool: ...

    async def kill(self, member: int) -> None: ...

    async def stop(self, member: int) -> None: ...

    async def start(self, member: int) -> None:
        """Start a member again on its data, and wait until it serves."""
        ...

    async def pause(self, member: int) -> None: ...

    async def resume(self, member: int) -> None: ...

    async def cut(self, member: int, how: str) -> None:
        """Cut a member off, in one of the ways that `plan` names."""
        ...

    async def heal(self) -> None:
        """Let everything through, and everything run, again; wait until all members serve."""
        ...

    async def promote(self, member: int) -> None:
        """Make a replica the primary and send the clients there."""
        ...


class System(abc.ABC):
    """A system under test, as an asynchronous context manager: it runs inside of it."""

    faults: frozenset[str] = frozenset()
    """The classes of faults that can be done to it."""

    name: str
    version: str = ""
    origin: str = ""
    """Where its program comes from."""
    settings: Mapping[str, str]
    victim: Victim | None = None
    generation: int = 0
    """Rises when clients must open it anew."""
    lasting: bool = False
    """Whether it goes on after the run, so that what the run wrote must be deleted."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where clients reach it now."""

    @abc.abstractmethod
    async def open(self, client: int) -> Engine:
        """Open the system for one client. Raises as engines do."""
