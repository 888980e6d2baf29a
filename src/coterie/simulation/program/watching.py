"""Lets a notebook know what locks and the like give to whom.

What a node makes of a grant is in its memory and passes no port, so the methods that give are replaced while
a universe runs. A process runs one universe at a time, and all of its hosts share Coterie's own modules.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from ...coordination import Lease
from ...coordination._machine import Mode
from ...coordination.queueing import Queues, QueueSpec
from ...ports.store import Batch
from .notebook import Acquired, Notebook

__all__ = ["Snapshot", "watching"]

Snapshot: TypeAlias = Callable[[str], Batch]
"""Returns all entries under a prefix as the engine itself has them at this moment."""
_Method: TypeAlias = Callable[..., Awaitable[Any]]


@contextmanager
def watching(notebook: Notebook, snapshot: Snapshot) -> Iterator[None]:
    """Note what is given to whom while the block runs."""
    with ExitStack() as stack:
        _replace(stack, Queues, "acquire", _Holders(notebook, snapshot).noting)
        yield


def _replace(stack: ExitStack, owner: type, name: str, noting: Callable[[_Method], _Method]) -> None:
    before = getattr(owner, name)
    setattr(owner, name, noting(before))
    stack.callback(setattr, owner, name, before)


class _Holders:
    """Who holds what, as far as the Store still knows of it."""

    def __init__(self, notebook: Notebook, snapshot: Snapshot) -> None:
        self._notebook = notebook
        self._snapshot = snapshot
        self._holding: dict[str, list[Acquired]] = {}

    def noting(self, acquire: _Method) -> _Method:
        book = self._notebook

        async def noted_acquire(queues: Queues, spec: QueueSpec, **limits: Any) -> Lease:
            noted = book.begin(socket.gethostname(), "acquire", spec.path)
            try:
                lease: Lease = await acquire(queues, spec, **limits)
            except BaseException as error:
                book.error(noted, error)
                raise
            book.ok(noted, lease.token)
            fence = lease.fences[0].name if lease.fences else None
            given = Acquired(noted, lease.token, spec.mode is Mode.SHARED, spec.places, fence)
            self._given(given, queues.entries(spec))
            book.add(given, book.acquired)
            return lease

        return noted_acquire

    def _given(self, given: Acquired, prefix: str) -> None:
        """Compare with the others whose entries are still there: then they hold too."""
        path = given.noted.key or ""
        alive = {change.version for change in self._snapshot(prefix).changes}
        others = [each for each in self._holding.get(path, ()) if each.token in alive]
        self._holding[path] = [*others, given]
        if given.token not in alive:
            return  # It is lost already, and its holder is about to notice.
        if given.places > 1:
            too_many = others if len(others) >= given.places else []
        else:
            too_many = [each for each in others if not (each.shared and given.shared)]
        given.beside = tuple(each.noted for each in too_many)
