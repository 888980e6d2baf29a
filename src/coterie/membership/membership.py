"""Keeps this node in the cluster, and a view of who else is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

import msgspec

from ..errors import CoterieError, LeaseLost, Unavailable
from ..ports.clock import Clock
from ..ports.entropy import Entropy
from ..ports.store import ABSENT, Check, Commit, Put, Store
from ._machine import Event, Member, MemberState, Standing, View

__all__ = ["Membership", "MembershipConfig"]

_log = logging.getLogger("coterie.membership")


@dataclass(frozen=True, kw_only=True, slots=True)
class MembershipConfig:
    """How long a silent node stays a member."""

    lease_ttl_s: float = 3.0
    """A dead node is gone from every view within this time."""
    margin_s: float = 0.25
    """How much earlier a node itself stops believing; covers the drift of clocks over one lease."""
    longest_backoff_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0.2 <= self.lease_ttl_s <= 3600:
            raise ValueError(f"lease_ttl_s must be between 0.2 and 3600 seconds, not {self.lease_ttl_s}")
        if not 0 < self.margin_s < self.lease_ttl_s:
            raise ValueError(f"margin_s must be between 0 and lease_ttl_s, not {self.margin_s}")


class Membership:
    """This node's membership and its view of the others.

    `start` begins to follow the view; `join` enters the cluster with a record that lives as long as
    the node's lease; `leave` ends it. While the store cannot be reached the last view is kept, and
    `fresh` is false.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        *,
        clock: Clock,
        entropy: Entropy,
        config: MembershipConfig | None = None,
        on_event: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self.view: View = View(prefix)
        self.me: Member | None = None
        self.fresh: bool = False
        """Whether the view follows the store now."""
        self._store = store
        self._prefix = prefix
        self._clock = clock
        self._entropy = entropy
        self._config = config or MembershipConfig()
        self._standing = Standing(self._config.lease_ttl_s, self._config.margin_s)
        self._on_event = on_event
        self._lease = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    @property
    def joined(self) -> bool:
        """Whether this node certainly is a member at this moment."""
        return self._standing.believes(self._clock.monotonic())

    async def start(self) -> None:
        """Follow the view, and return once it is known for the first time.

        Raises `Unavailable` when the store cannot be read.
        """
        first = asyncio.get_running_loop().create_future()
        self._tasks.append(asyncio.create_task(self._follow(first), name="coterie-membership-view"))
        await first

    async def join(self, member: Member) -> None:
        """Enter the cluster as `member`, and stay in it until `leave`.

        Raises `Unavailable` when the store cannot be written.
        """
        self.me = member
        await self._enter()
        self._tasks.append(asyncio.create_task(self._stay(), name="coterie-membership-lease"))

    async def announce(self, state: MemberState) -> None:
        """Tell the others that this node is now in `state`."""
        if self.me is None:
            raise LeaseLost("this node has not joined")
        self.me = msgspec.structs.replace(self.me, state=state)
        if self._lease:
            await self._record(self._lease)

    async def leave(self) -> None:
        """Leave the cluster: the record is gone when this returns, or when the lease ends at the latest."""
        await self._stop_tasks()
        self._standing.lost()
        lease, self._lease = self._lease, 0
        if lease:
            with suppress(Unavailable):  # The lease ends by itself.
                await self._store.revoke(lease)

    async def close(self) -> None:
        """Stop without leaving, as a crash would. Idempotent."""
        await self._stop_tasks()
        self._standing.lost()

    async def evict(self, member: Member) -> None:
        """Delete the record of a member that is known to be dead, without waiting for its lease."""
        await self._store.commit(Commit((), (self._prefix + member.id,)))

    async def wait_changed(self) -> None:
        """Return at the next change of the view."""
        await self._changed.wait()

    async def _enter(self) -> None:
        began = self._clock.monotonic()
        lease = await self._store.grant(self._config.lease_ttl_s)
        await self._record(lease)
        self._lease = lease
        self._standing.joined(began)

    async def _record(self, lease: int) -> None:
        assert self.me is not None  # noqa: S101 - the callers have checked it
        await self._store.commit(Commit((Put(self._prefix + self.me.id, _ENCODE(self.me), lease),)))

    async def _stay(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(
                self._standing.next_renewal_s(self._clock.monotonic()) or self._backoff(failures)
            )
            began = self._clock.monotonic()
            try:
                if self._lease:
                    await self._store.renew(self._lease)
                    self._standing.joined(began)
                    await self._restore()
                else:
                    await self._enter()
                    _log.warning("joined again after the lease was lost")
                failures = 0
            except LeaseLost:
                _log.warning("the membership lease was lost: the node was silent for too long; joining again")
                self._lease = 0
                self._standing.lost()
                failures = 0
            except Exception as error:  # noqa: BLE001 - a node that no longer tries is lost for good
                failures += 1
                trace = None if isinstance(error, CoterieError) else error
                _log.warning(
                    "could not renew the membership lease (attempt %d): %s", failures, error, exc_info=trace
                )

    async def _restore(self) -> None:
        """Write the record again if someone evicted this node although it lives, or if its news got lost."""
        if self.me is None or not self.fresh or self.view.members.get(self.me.id) == self.me:
            return
        key, record = self._prefix + self.me.id, _ENCODE(self.me)
        entry = await self._store.get(key)
        if entry is None or entry.value != record:
            check = Check(key, ABSENT if entry is None else entry.version)
            await self._store.commit(Commit((Put(key, record, self._lease),), (), (check,)))

    async def _follow(self, first: asyncio.Future[None]) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(self._store.watch(self._prefix)) as batches:
                    async for batch in batches:
                        self.fresh, failures = True, 0
                        events = self.view.apply(batch)
                        if not first.done():
                            first.set_result(None)
                        for event in events:
                            self._tell(event)
                        if events:
                            self._changed.set()
                            self._changed = asyncio.Event()
            except Exception as error:  # noqa: BLE001 - a view that stands still looks like a quiet cluster
                if not first.done():
                    first.set_exception(error)
                    return
                trace = None if isinstance(error, CoterieError) else error
                _log.warning("the view of the cluster is not up to date: %s", error, exc_info=trace)
            self.fresh = False
            failures += 1
            await asyncio.sleep(self._backoff(failures))

    def _tell(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001 - whoever listens must not stop the view
            _log.exception("what follows the members of the cluster failed at %s", event)

    def _backoff(self, failures: int) -> float:
        ceiling = min(self._config.longest_backoff_s, 0.02 * 2.0 ** min(failures, 10))
        return ceiling * (0.5 + 0.5 * self._entropy.random())

    async def _stop_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.fresh = False


_ENCODE = msgspec.msgpack.Encoder().encode
