"""Through the ports: the promises that programs on Coterie stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ...errors import Conflict, Outcome, Unavailable
from ...ports import Log, Store
from ...ports.log import Record
from ...ports.store import ABSENT, Check, Commit, Entry, Fence, Put
from ..target import Holding, MicroOperation
from ..workloads.bank import ACCOUNTS, OPENING
from ..workloads.logs import PARTITIONS
from .common import again, harmless

__all__ = ["PortTarget"]

_PAGE = 10_000
_CLEAR = 100
_STORE = frozenset({"register", "set", "lock", "bank", "append"})


@dataclass(frozen=True, slots=True)
class _Held:
    token: int
    lease: int


class PortTarget:
    """`Target` on a Store and, where there is one, a Log. Everything lies under `prefix`."""

    def __init__(self, store: Store, log: Log | None, prefix: str) -> None:
        self._store = store
        self._log = log
        self._prefix = prefix
        self.offers: frozenset[str] = _STORE | ({"log"} if log is not None else set())

    def _key(self, kind: str, key: str) -> str:
        return f"{self._prefix}/{kind}/{key}"

    async def prepare(self) -> None:
        names = [self._key("bank", account) for account in ACCOUNTS]
        await self._store.commit(Commit(puts=tuple(Put(name, _number(OPENING)) for name in names)))
        if self._log is not None:
            await self._log.create(self._topic, len(PARTITIONS))

    # register

    async def read(self, key: str) -> int | None:
        entry = await harmless(self._store.get(self._key("register", key)))
        return None if entry is None else int(entry.value)

    async def write(self, key: str, value: int) -> None:
        await self._store.commit(Commit(puts=(Put(self._key("register", key), _number(value)),)))

    async def swap(self, key: str, old: int | None, new: int) -> None:
        name = self._key("register", key)
        entry = await harmless(self._store.get(name))
        if (None if entry is None else int(entry.value)) != old:
            raise Conflict(f"{name} is not {old}")
        check = Check(name, _version(entry))
        await self._store.commit(Commit(puts=(Put(name, _number(new)),), checks=(check,)))

    # set

    async def add(self, key: str, element: int) -> None:
        name = self._key("set", f"{key}/{element:012}")
        await self._store.commit(Commit(puts=(Put(name, b""),), checks=(Check(name, ABSENT),)))

    async def members(self, key: str) -> list[int]:
        prefix = self._key("set", f"{key}/")
        page = await harmless(self._store.scan(prefix, limit=_PAGE))
        return [int(entry.key.removeprefix(prefix)) for entry in page.entries]

    # log

    async def append(self, key: str, value: int) -> int:
        return await self._the_log.append(self._topic, int(key), [Record(_number(value))])

    async def records(self, key: str, offset: int) -> list[tuple[int, int]]:
        segment = await harmless(self._the_log.read(self._topic, int(key), offset))
        return [(stored.offset, int(stored.record.value)) for stored in segment.records]

    @property
    def _the_log(self) -> Log:
        if self._log is None:
            raise Unavailable("there is no log", outcome=Outcome.NOT_APPLIED)
        return self._log

    @property
    def _topic(self) -> str:
        return self._prefix.replace("/", "-")

    # lock

    async def acquire(self, key: str, owner: str, ttl_s: float) -> Holding:
        lease = await harmless(self._store.grant(max(ttl_s, self._store.guarantees.min_lease_s)))
        name = self._key("lock", key)
        put = Put(name, owner.encode(), lease)
        token = await self._store.commit(Commit(puts=(put,), checks=(Check(name, ABSENT),)))
        return _Held(token, lease)

    async def guarded_write(self, key: str, holding: Holding) -> None:
        fence = Fence(self._key("lock", key), holding.token)
        put = Put(self._key("guarded", key), _number(holding.token))
        await self._store.commit(Commit(puts=(put,), fences=(fence,)))

    async def release(self, key: str, holding: Holding) -> None:
        if isinstance(holding, _Held):
            await self._store.revoke(holding.lease)

    # bank

    async def transfer(self, source: str, target: str, amount: int) -> None:
        names = self._key("bank", source), self._key("bank", target)

        async def attempt() -> None:
            one, other = [await harmless(self._store.get(name)) for name in names]
            if one is None or other is None:
                raise Unavailable(
                    f"an account of {names} is gone", hint="it was lost", outcome=Outcome.NOT_APPLIED
                )
            if int(one.value) < amount:
                raise Conflict(f"{source} has less than {amount}")
            after = int(one.value) - amount, int(other.value) + amount
            await self._store.commit(
                Commit(
                    puts=tuple(Put(name, _number(n)) for name, n in zip(names, after, strict=True)),
                    checks=(Check(names[0], one.version), Check(names[1], other.version)),
                )
            )

        await again(attempt)

    async def balances(self) -> dict[str, int]:
        prefix = self._key("bank", "")
        page = await harmless(self._store.scan(prefix))
        return {entry.key.removeprefix(prefix): int(entry.value) for entry in page.entries}

    # append

    async def transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        return await again(lambda: self._transact(steps))

    async def _transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        lists: dict[str, list[int]] = {}
        checks: dict[str, Check] = {}
        done: list[MicroOperation] = []
        for f, key, element in steps:
            name = self._key("append", key)
            if key not in lists:
                entry = await harmless(self._store.get(name))
                lists[key] = [] if entry is None else msgspec.json.decode(entry.value, type=list[int])
                checks[key] = Check(name, _version(entry))
            if f == "append":
                lists[key] = [*lists[key], element]
                done.append((f, key, element))
            else:
                done.append((f, key, lists[key]))
        written = {key for f, key, _ in steps if f == "append"}
        puts = (Put(self._key("append", key), msgspec.json.encode(lists[key])) for key in sorted(written))
        await self._store.commit(Commit(puts=tuple(puts), checks=tuple(checks.values())))
        return done

    async def clear(self) -> None:
        store = self._store
        while entries := (await store.scan(f"{self._prefix}/", limit=_CLEAR)).entries:
            await store.commit(Commit(deletes=tuple(entry.key for entry in entries)))
        if self._log is not None:
            await self._log.delete(self._topic)


def _version(entry: Entry | None) -> int:
    return ABSENT if entry is None else entry.version


def _number(value: int) -> bytes:
    return str(value).encode()
