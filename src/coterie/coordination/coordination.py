"""What a node makes of all locks, elections and the like: where they live, and who holds what."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any
from weakref import WeakKeyDictionary

from ..context import current
from ..errors import InvalidArgument, NotRunning, Unsupported
from ..ports.clock import Clock
from ..ports.entropy import Entropy
from ..ports.guarantees import Consistency
from ..ports.store import Store
from .lease import Lease
from .queueing import Queues, QueueSpec, held
from .session import CoordinationConfig

__all__ = ["DEFAULT_WAIT_S", "Coordination", "bound"]

DEFAULT_WAIT_S = 30.0
"""How long a lock is waited for, in seconds, where nothing else is said and the call has more time."""


class Coordination:
    """The binding of every handle of this block. `release` gives back what this node holds."""

    def __init__(
        self,
        store: Store,
        app: str,
        *,
        clock: Clock,
        entropy: Entropy,
        node: str,
        config: CoordinationConfig | None = None,
    ) -> None:
        self.store = store
        self.app = app
        self.clock = clock
        self.entropy = entropy
        self.node = node
        self.config: CoordinationConfig = config or CoordinationConfig()
        self.queues: Queues = Queues(
            store, f"{app}/lock/", clock=clock, entropy=entropy, node=node, config=self.config
        )
        self.blocks: dict[tuple[str, int], Any] = {}
        """By sequence and size of blocks, what this node has of it."""
        self._id = entropy.identifier()[-6:].lower()
        self._owners = 0
        self._held: WeakKeyDictionary[asyncio.Task[object], _Held] = WeakKeyDictionary()

    def demand(self) -> None:
        """Raise `Unsupported` when the Store is no ground for locks: reads may be stale, or commits torn."""
        given = self.store.guarantees
        if given.consistency < Consistency.LINEARIZABLE or not given.multi_key_commit:
            raise Unsupported(
                f"locks, elections and schedules need linearizable commits of several keys, and the engine "
                f"{given.engine!r} does not give them",
                hint="see docs/engines.md for those that do",
            )

    async def take(self, spec: QueueSpec, wait_s: float | None = DEFAULT_WAIT_S) -> Lease:
        """Wait for one's turn in a queue, within the call's deadline and `wait_s`.

        Raises `InvalidArgument` when this task would wait for itself.
        """
        mine = self._of_this_task()
        mine.leases = [(other, lease) for other, lease in mine.leases if not lease.over]
        same = sum(other.path == spec.path and not lease.lost for other, lease in mine.leases)
        if same >= spec.places:
            raise InvalidArgument(
                f"this task holds {spec} already, so it would wait for itself for ever",
                hint="no lock can be taken twice: pass the lease on to what needs it",
            )
        lease = await self.queues.acquire(spec, wait_s=wait_s, deadline=current().deadline, owner=mine.owner)
        mine.leases.append((spec, lease))
        return lease

    async def give_back(self, spec: QueueSpec, lease: Lease) -> None:
        """Release a lease; does nothing when it is over."""
        await self.queues.release(spec, lease)

    async def enter(self, spec: QueueSpec, wait_s: float | None) -> Lease:
        """Take a lease for a body that follows in this task; `leave` ends both."""
        lease = await self.take(spec, wait_s)
        stack = AsyncExitStack()
        await stack.enter_async_context(held(self.queues, spec, lease))
        self._of_this_task().bodies.append((spec, stack))
        return lease

    def leave(self, spec: QueueSpec) -> AsyncExitStack:
        """Return what ends the latest body of this task under `spec`."""
        bodies = self._of_this_task().bodies
        for index in range(len(bodies) - 1, -1, -1):
            if bodies[index][0] == spec:
                return bodies.pop(index)[1]
        raise InvalidArgument(f"this task does not hold {spec}")

    async def release(self) -> None:
        """Give back everything, so that nobody has to wait for a lease to end."""
        await self.queues.sessions.release()

    async def close(self) -> None:
        """Stop without a word to the Store, as a crash would. Idempotent."""
        await self.queues.sessions.close()

    def _of_this_task(self) -> _Held:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        mine = self._held.get(task)
        if mine is None:
            self._owners += 1
            mine = self._held[task] = _Held(f"{self.node}:{self._id}:{self._owners}")
        return mine


class _Held:
    """What one task holds."""

    __slots__ = ("bodies", "leases", "owner")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.leases: list[tuple[QueueSpec, Lease]] = []
        self.bodies: list[tuple[QueueSpec, AsyncExitStack]] = []


def bound() -> Coordination:
    """Return what the node that the running code belongs to makes of locks and the like."""
    try:
        found: Coordination = current().bindings[Coordination]
    except KeyError:
        raise NotRunning("no node runs here that could coordinate with others") from None
    found.demand()
    return found
