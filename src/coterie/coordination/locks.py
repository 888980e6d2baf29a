"""Locks, read-write locks and semaphores: fenced, fair, and never waited for without an end."""

from __future__ import annotations

from types import TracebackType

from ..errors import InvalidArgument
from ._machine import Mode
from ._names import checked_name
from .coordination import DEFAULT_WAIT_S, bound
from .lease import Lease
from .queueing import QueueSpec

__all__ = ["Lock", "Lockable", "ReadWriteLock", "Semaphore"]

_MOST_PLACES = 500


class Lockable:
    """Something that is held by `async with`, under which the body is cancelled when the lease is lost."""

    def __init__(self, spec: QueueSpec, wait_s: float | None) -> None:
        if wait_s is not None and not wait_s >= 0:
            raise InvalidArgument(f"wait_s must be at least 0, or None for any time, not {wait_s}")
        self._spec = spec
        self._wait_s = wait_s

    @property
    def name(self) -> str:
        return self._spec.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    async def __aenter__(self) -> Lease:
        return await bound().enter(self._spec, self._wait_s)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await bound().leave(self._spec).__aexit__(exc_type, exc, tb)

    async def acquire(self) -> Lease:
        """Wait for one's turn and return the lease, without a body to cancel: look at `lease.lost`.

        Raises as `async with` does. Give it back with `release(lease)`.
        """
        return await bound().take(self._spec, self._wait_s)

    async def release(self, lease: Lease) -> None:
        """Give back what `acquire` returned. Does nothing when it is over."""
        await bound().give_back(self._spec, lease)


class Lock(Lockable):
    """A lock that one task in the cluster holds, in the order of asking.

        async with app.lock("restock") as lease:
            await stock.put("tea", 10, fence=lease)

    It is waited for until the call's deadline and at most `wait_s` seconds (None: any time), then raises
    `DeadlineExceeded`. If the lease is lost the body is cancelled, and `LeaseLost` raised after it. A task
    that holds the lock and asks for it again gets `InvalidArgument`.

    Not promised: that nobody else holds it while the body runs. A process can be paused until its lease is
    over; `fence=lease` is what keeps it from writing then.
    """

    def __init__(self, name: str, *, wait_s: float | None = DEFAULT_WAIT_S) -> None:
        super().__init__(QueueSpec("lock", checked_name("a lock", name)), wait_s)


class ReadWriteLock:
    """A lock that many hold for reading, or one for writing; in the order of asking.

    A reader waits for the writers before it, a writer for all before it. So a steady stream of readers
    does not keep a writer away, and neither can be upgraded to the other.
    """

    def __init__(self, name: str, *, wait_s: float | None = DEFAULT_WAIT_S) -> None:
        self.name: str = checked_name("a read-write lock", name)
        self.read: Lockable = Lockable(QueueSpec("rwlock", name, Mode.SHARED, mixed=True), wait_s)
        """`async with lock.read as lease:`, beside other readers."""
        self.write: Lockable = Lockable(QueueSpec("rwlock", name, Mode.EXCLUSIVE, mixed=True), wait_s)
        """`async with lock.write as lease:`, alone."""

    def __repr__(self) -> str:
        return f"ReadWriteLock({self.name!r})"


class Semaphore(Lockable):
    """A lock that up to `places` tasks in the cluster hold at once, in the order of asking.

    Its leases carry no fence, since the later of two holders does not end the earlier: a write with
    `fence=lease` demands only that the lease is still held.
    """

    def __init__(self, name: str, places: int, *, wait_s: float | None = DEFAULT_WAIT_S) -> None:
        if type(places) is not int or not 1 <= places <= _MOST_PLACES:
            raise InvalidArgument(f"a semaphore has 1 to {_MOST_PLACES} places, not {places!r}")
        self.places: int = places
        spec = QueueSpec("semaphore", checked_name("a semaphore", name), Mode.EXCLUSIVE, places, mixed=True)
        super().__init__(spec, wait_s)
