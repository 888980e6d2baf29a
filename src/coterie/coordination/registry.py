"""Where the instances of a service are, now and at each change."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..context import current
from ..errors import NotRunning

__all__ = ["Instance", "InstanceDirectory", "Instances"]


@dataclass(frozen=True, slots=True)
class Instance:
    """A node that takes calls to a service."""

    id: str
    """New at each start of the node."""
    node: str
    address: str
    """Where its wire listens."""
    http: str = ""
    """The base URL of its HTTP gateway, or empty."""


class InstanceDirectory(Protocol):
    """What a node knows of the members, for `Instances`."""

    def instances(self, service: str) -> Sequence[Instance]: ...

    async def wait_changed(self) -> None: ...


class Instances:
    """The nodes that take calls to one service, as this node sees them. From `app.instances(Service)`.

    The view follows the Store; while the Store is away it stays as it was last.
    """

    def __init__(self, service: str) -> None:
        self.service: str = service

    def __repr__(self) -> str:
        return f"Instances({self.service!r})"

    def now(self) -> Sequence[Instance]:
        """Return the instances, ordered by id."""
        return _directory().instances(self.service)

    async def watch(self) -> AsyncGenerator[Sequence[Instance], None]:
        """Yield the instances now, then after each change. Endless; states in between may be missed."""
        directory = _directory()
        last: Sequence[Instance] | None = None
        while True:
            found = directory.instances(self.service)
            if found != last:
                last = found
                yield found
            else:
                await directory.wait_changed()


def _directory() -> InstanceDirectory:
    try:
        found: InstanceDirectory = current().bindings[Instances]
    except KeyError:
        raise NotRunning("no node runs here that knows the members") from None
    return found
