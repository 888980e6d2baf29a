"""Transactions over strong maps, with optimistic concurrency control.

Kung and Robinson, "On Optimistic Methods for Concurrency Control" (1981): read what is needed and
remember the versions, buffer the writes, and commit only if all that was read is unchanged. The
store checks and writes in one atomic commit, so committed transactions are strictly serializable.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ..context import current
from ..errors import Conflict, InvalidArgument, NotRunning, Outcome, Unavailable
from ..ports.entropy import Entropy
from ..ports.store import ABSENT, Check, Commit, Entry, Fence, Put, Store
from ._fenced import Fencing, commit_fenced, demands
from ._retry import Contention
from .maps import MapBinding, StrongMap, pause

__all__ = ["Transaction", "TransactionBinding", "Transactional"]

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")
D = TypeVar("D")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionBinding:
    """What a node makes of a transactional function: the store that commits it."""

    store: Store
    entropy: Entropy


@dataclass(frozen=True, slots=True)
class _Several:
    """Several leases as one."""

    checks: tuple[Check, ...]
    fences: tuple[Fence, ...]


class Transaction:
    """What a transactional function reads and writes through.

    It sees its own writes, and the same value for a key however often it reads it. Nothing that it
    writes is visible to others before the commit. It ends with the run of the function: whoever still
    holds it then, a task that was left behind for example, is refused.
    """

    __slots__ = ("_deletes", "_ended", "_fences", "_puts", "_reads", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reads: dict[str, Entry | None] = {}
        self._puts: dict[str, bytes] = {}
        self._deletes: set[str] = set()
        self._fences: list[Fencing] = []
        self._ended = False

    @overload
    async def get(self, mapping: StrongMap[V], key: str) -> V | None: ...
    @overload
    async def get(self, mapping: StrongMap[V], key: str, default: V) -> V: ...
    @overload
    async def get(self, mapping: StrongMap[V], key: str, default: D) -> V | D: ...
    async def get(self, mapping: StrongMap[Any], key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`. The commit fails if it changes before then."""
        stored = self._stored(mapping, key)
        if stored in self._puts:
            return mapping.codec.decode(self._puts[stored])
        if stored in self._deletes:
            return default
        if stored not in self._reads:
            read = await self._store.get(stored)
            # Of several reads at once the first counts: what it returned must be what the commit checks.
            self._reads.setdefault(stored, read)
        entry = self._reads[stored]
        return default if entry is None else mapping._decode(entry)

    def put(self, mapping: StrongMap[V], key: str, value: V) -> None:
        """Write `value` under `key` at the commit. Without a `get` before it, whatever is there."""
        stored = self._stored(mapping, key)
        self._puts[stored] = mapping._encoded(mapping.codec.validate(value))
        self._deletes.discard(stored)

    def delete(self, mapping: StrongMap[Any], key: str) -> None:
        """Remove the entry of `key` at the commit, if there is one."""
        stored = self._stored(mapping, key)
        self._puts.pop(stored, None)
        self._deletes.add(stored)

    def fence(self, fence: Fencing) -> None:
        """Commit only if the lease is still held and no later holder has committed; otherwise `Fenced`."""
        self._demand_open()
        self._fences.append(fence)

    def _demand_open(self) -> None:
        if self._ended:
            raise InvalidArgument(
                "the transaction is over: its function has ended, so nothing can be added to its commit",
                hint="await all that uses `txn` before the function returns",
            )

    def _stored(self, mapping: StrongMap[Any], key: str) -> str:
        self._demand_open()
        bound: MapBinding = mapping._bound()
        if bound.store is not self._store:
            raise InvalidArgument(f"the map {mapping.name!r} lives in another store than this transaction")
        return bound.prefix + mapping._checked(key)

    def _checks(self) -> tuple[Check, ...]:
        return tuple(
            Check(key, ABSENT if entry is None else entry.version) for key, entry in self._reads.items()
        )

    async def _commit(self) -> None:
        puts = tuple(Put(key, value) for key, value in self._puts.items())
        if not puts and not self._deletes and not self._fences and len(self._reads) < 2:
            return  # One linearizable read needs no check: it was true when it was read.
        commit = Commit(puts, tuple(sorted(self._deletes)), self._checks())
        await commit_fenced(self._store, commit, self._all_fences())

    def _all_fences(self) -> Fencing | None:
        if len(self._fences) < 2:
            return self._fences[0] if self._fences else None
        every = [demands(fence) for fence in self._fences]
        return _Several(
            tuple(check for checks, _ in every for check in checks),
            tuple(fence for _, fences in every for fence in fences),
        )

    async def _saw_one_state(self) -> bool:
        """Return whether all that was read was true at one moment."""
        if len(self._reads) < 2:
            return True
        try:
            await self._store.commit(Commit((), (), self._checks()))
        except Conflict:
            return False
        except Unavailable as unsure:
            unsure.outcome = Outcome.NOT_APPLIED  # It would have written nothing.
            raise
        return True


class Transactional(Generic[P, R]):
    """An `async def fn(txn, ...)` that runs again until it commits; call it without the transaction.

    It runs until a commit finds all that it read unchanged, so it must have no effect but through
    `txn`. It commits at most once; when the store cannot say whether it did, `Unavailable` with the
    outcome `unknown` is raised and it is not run again.
    """

    def __init__(
        self,
        function: Callable[Concatenate[Transaction, P], Awaitable[R]],
        *,
        contention: Contention | None = None,
    ) -> None:
        self.function = function
        self._contention = contention or Contention()
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<transactional {getattr(self.function, '__qualname__', self.function)!s}>"

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound: TransactionBinding = current().bindings[Transactional]
        except KeyError:
            raise NotRunning("no node runs here that could commit a transaction") from None
        for attempt in range(self._contention.attempts):
            txn = Transaction(bound.store)
            try:
                try:
                    result = await self.function(txn, *args, **kwargs)
                finally:
                    txn._ended = True
            except Exception:
                # An error decided on a mix of two states would be a lie (Guerraoui and Kapałka, "On the
                # Correctness of Transactional Memory", 2008): it counts only if the state was real.
                if await txn._saw_one_state():
                    raise
            else:
                try:
                    await txn._commit()
                except Conflict as error:
                    if error.code != Conflict.code:
                        raise  # Fenced: no later attempt can succeed.
                else:
                    return result
            await pause(self._contention.wait_s(attempt, bound.entropy.random()))
        raise Conflict(
            f"{self!r} lost each of {self._contention.attempts} races for what it reads",
            hint="read fewer shared keys, or spread the writes over several keys",
        )
