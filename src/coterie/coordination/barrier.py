"""Barriers: a number of tasks that go on together, as soon as all of them are there."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing, suppress

import msgspec

from ..codec import record_decoder
from ..context import current, note_failure
from ..errors import (
    Conflict,
    CoterieError,
    DeadlineExceeded,
    InvalidArgument,
    LeaseLost,
    Outcome,
    Unavailable,
)
from ..ports.store import ABSENT, Batch, Check, Commit, Entry, Put
from ._names import checked_name, quoted
from .coordination import DEFAULT_WAIT_S, Coordination, bound

__all__ = ["Barrier"]

_MOST_PARTIES = 60
"""Twice as many, and two more, fit into one commit on every engine."""
_ARRIVED = 0
_encode = msgspec.msgpack.Encoder().encode
_decode = record_decoder(int, "a barrier")


class Barrier:
    """A point that `parties` tasks of the cluster pass together, again and again.

        round = await app.barrier("loaded", 3).wait()

    Each party has an entry under its node's lease: it says that the party has arrived, or in which round it
    may go on. The commit that lets them go demands that all of their entries are there, so at that moment all
    were alive and waited. A party that gave up or died before is not counted.
    """

    def __init__(self, name: str, parties: int, *, wait_s: float | None = DEFAULT_WAIT_S) -> None:
        if type(parties) is not int or not 1 <= parties <= _MOST_PARTIES:
            raise InvalidArgument(f"a barrier is for 1 to {_MOST_PARTIES} parties, not {parties!r}")
        self.name: str = checked_name("a barrier", name)
        self.parties: int = parties
        self._wait_s = wait_s

    def __repr__(self) -> str:
        return f"Barrier({self.name!r}, {self.parties})"

    async def wait(self) -> int:
        """Wait until all parties are there, and return the number of the round, from 1 on.

        Raises `DeadlineExceeded` when they do not come within `wait_s` and the call's deadline, `LeaseLost`
        when this node was silent for too long. Then this party is not counted. Raises `Unavailable` when the
        time is over and the Store does not say whether it was.
        """
        here = bound()
        loop = asyncio.get_running_loop()
        limit = math.inf if self._wait_s is None else loop.time() + self._wait_s
        limit = min(limit, math.inf if (deadline := current().deadline) is None else deadline)
        scope = asyncio.timeout_at(None if limit == math.inf else limit)
        try:
            async with scope:
                return await self._wait(here, scope)
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded(
                    f"not all {self.parties} parties of the barrier {self.name!r} came in time",
                    outcome=Outcome.NOT_APPLIED,
                ) from None
            raise

    async def _wait(self, here: Coordination, scope: asyncio.Timeout) -> int:
        session = await here.queues.sessions.current()
        prefix = f"{here.app}/barrier/{quoted(self.name)}/"
        mine = f"{prefix}at/{here.entropy.identifier()}"
        try:
            arrived = await here.store.commit(Commit((Put(mine, _encode(_ARRIVED), session.lease),)))
        except BaseException as error:
            if not isinstance(error, CoterieError) or error.outcome is Outcome.UNKNOWN:
                session.orphan(mine, stray=True)
            note_failure(error)
            raise
        current().acted = True
        lost = False

        def on_lost(_reason: str) -> None:
            nonlocal lost
            lost = True
            if not scope.expired():
                scope.reschedule(asyncio.get_running_loop().time())

        session.attach(mine, on_lost)
        try:
            while True:
                try:
                    return await self._pass(here, prefix, mine)
                except Unavailable:
                    await asyncio.sleep(0.1 + 0.1 * here.entropy.random())
        except asyncio.CancelledError:
            if lost:
                raise LeaseLost(f"the lease was lost while waiting at the barrier {self.name!r}") from None
            if not scope.expired():
                raise  # Somebody else cancels the task.
            gone_on = await self._give_up(here, mine, arrived)
            if gone_on is None:
                raise
            return gone_on
        finally:
            session.orphan(mine, stray=False)

    async def _pass(self, here: Coordination, prefix: str, mine: str) -> int:
        there: dict[str, tuple[int, int]] = {}
        async with aclosing(here.store.watch(prefix + "at/")) as batches:
            async for batch in batches:
                _apply(batch, there)
                if mine not in there:
                    raise LeaseLost(f"the place at the barrier {self.name!r} was lost")
                if there[mine][0] != _ARRIVED:
                    return there[mine][0]
                waiting = sorted((version, key) for key, (state, version) in there.items() if not state)
                # One of them lets all go: the one that makes them complete.
                if len(waiting) >= self.parties and waiting[self.parties - 1][1] == mine:
                    await self._let_go(here, prefix, [key for _, key in waiting[: self.parties]])
        raise Unavailable(f"nobody follows the barrier {self.name!r} any more", outcome=Outcome.NOT_APPLIED)

    async def _let_go(self, here: Coordination, prefix: str, keys: list[str]) -> None:
        """Try to let the parties with these keys go on; what is in the way shows in the next batch."""
        last = await here.store.get(prefix + "round")
        entries = [await here.store.get(key) for key in keys]
        present = [entry for entry in entries if entry is not None and _decode(entry.value) == _ARRIVED]
        if len(present) < len(keys):
            return
        number = 1 if last is None else _decode(last.value) + 1
        puts = [Put(entry.key, _encode(number), entry.lease) for entry in present]
        checks = [Check(entry.key, entry.version) for entry in present]
        checks.append(Check(prefix + "round", ABSENT if last is None else last.version))
        with suppress(Conflict, LeaseLost):
            await here.store.commit(
                Commit((*puts, Put(prefix + "round", _encode(number))), (), tuple(checks))
            )

    async def _give_up(self, here: Coordination, mine: str, arrived: int) -> int | None:
        """Leave, unless all could go on meanwhile: then return the round.

        Raises `Unavailable` (outcome unknown) when the Store does not say: this party may be counted.
        """
        try:
            await here.store.commit(Commit((), (mine,), (Check(mine, arrived),)))
        except CoterieError as refused:
            try:
                entry: Entry | None = await here.store.get(mine)
            except CoterieError as error:
                raise self._doubtful() from error
            if entry is None:
                return None
            number: int = _decode(entry.value)
            if number == _ARRIVED:
                raise self._doubtful() from refused
            return number
        return None

    def _doubtful(self) -> Unavailable:
        return Unavailable(
            f"nobody knows whether this party passed the barrier {self.name!r}: its time is over"
        )


def _apply(batch: Batch, there: dict[str, tuple[int, int]]) -> None:
    """Bring `there`, state and version by key, up to date."""
    if batch.snapshot:
        there.clear()
    for change in batch.changes:
        if change.value is None:
            there.pop(change.key, None)
        else:
            there[change.key] = (_decode(change.value), change.version)
