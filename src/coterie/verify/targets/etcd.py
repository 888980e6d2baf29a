"""etcd through grpc, as a thin client would use it; a lock is a key with a lease, and no fence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
import msgspec

from ...engines.etcd.messages import (
    Range,
    Txn,
    compare_absent,
    compare_mod,
    compare_value,
    delete_op,
    first_number,
    lease_request,
    put_op,
    range_op,
    range_request,
    read_range,
    read_txn,
    txn_request,
)
from ...errors import Conflict, Outcome, Unavailable
from ...ports import Durability
from ..session import Opened
from ..target import Holding, MicroOperation
from ..terms import Terms
from ..workloads.bank import ACCOUNTS, OPENING
from .common import UNFENCED, PartialTarget, RawHolding, again, harmless

__all__ = ["open_target"]

_RANGE, _TXN = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn"
_GRANT, _REVOKE = "/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseRevoke"
_LIMIT_S = 5.0


class EtcdTarget(PartialTarget):
    """`Target` on one channel a member; it turns to the next member when one fails."""

    offers: frozenset[str] = frozenset({"register", "set", "lock", "bank", "append"})

    def __init__(self, endpoints: Sequence[str], prefix: str) -> None:
        self._channels = [grpc.aio.insecure_channel(endpoint, _OPTIONS) for endpoint in endpoints]
        self._turns = itertools.cycle(range(len(endpoints)))
        self._current = next(self._turns)
        self._prefix = prefix

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def _call(self, method: str, request: bytes) -> bytes:
        member = self._current
        call: Any = self._channels[member].unary_unary(method)
        try:
            response: bytes = await call(request, timeout=_LIMIT_S)
        except grpc.aio.AioRpcError as error:
            if member == self._current:
                self._current = next(self._turns)
            raise Unavailable(f"{error.code().name}: {error.details()}") from error
        except (grpc.aio.UsageError, grpc.aio.InternalError) as error:
            raise Unavailable(f"{error}") from error
        return response

    def _key(self, kind: str, key: str) -> bytes:
        return f"{self._prefix}/{kind}/{key}".encode()

    async def _get(self, name: bytes) -> tuple[bytes | None, int]:
        """Return the value, and the revision of its last change, 0 if there is none."""
        found = read_range(await harmless(self._call(_RANGE, range_request(name))))
        return (found.kvs[0].value, found.kvs[0].mod_revision) if found.kvs else (None, 0)

    async def _all(self, prefix: bytes) -> Range:
        end = prefix[:-1] + bytes([prefix[-1] + 1])
        return read_range(await harmless(self._call(_RANGE, range_request(prefix, end))))

    async def _txn(self, compares: Sequence[bytes], success: Sequence[bytes]) -> Txn:
        found = read_txn(await self._call(_TXN, txn_request(compares, success)))
        if not found.succeeded:
            raise Conflict("a comparison of the transaction does not hold")
        return found

    async def prepare(self) -> None:
        puts = [put_op(self._key("bank", account), str(OPENING).encode()) for account in ACCOUNTS]
        await self._txn((), puts)

    # register

    async def read(self, key: str) -> int | None:
        value, _ = await self._get(self._key("register", key))
        return None if value is None else int(value)

    async def write(self, key: str, value: int) -> None:
        await self._txn((), [put_op(self._key("register", key), str(value).encode())])

    async def swap(self, key: str, old: int | None, new: int) -> None:
        name = self._key("register", key)
        compare = compare_absent(name) if old is None else compare_value(name, str(old).encode())
        await self._txn([compare], [put_op(name, str(new).encode())])

    # set

    async def add(self, key: str, element: int) -> None:
        await self._txn((), [put_op(self._key("set", f"{key}/{element:012}"), b"")])

    async def members(self, key: str) -> list[int]:
        found = await self._all(self._key("set", f"{key}/"))
        return [int(kv.key.rpartition(b"/")[2]) for kv in found.kvs]

    # lock

    async def acquire(self, key: str, owner: str, ttl_s: float) -> Holding:
        granting = self._call(_GRANT, lease_request(ttl_s=max(1, round(ttl_s))))
        lease = first_number(await harmless(granting), 2)
        name = self._key("lock", key)
        taken = await self._txn([compare_absent(name)], [put_op(name, owner.encode(), lease)])
        return RawHolding(taken.revision, owner, lease)

    async def guarded_write(self, key: str, holding: Holding) -> None:
        await self._txn((), [put_op(self._key("guarded", key), str(holding.token).encode())])

    async def release(self, key: str, holding: Holding) -> None:
        if isinstance(holding, RawHolding):
            await self._call(_REVOKE, lease_request(holding.lease))

    # bank

    async def transfer(self, source: str, target: str, amount: int) -> None:
        names = self._key("bank", source), self._key("bank", target)

        async def attempt() -> None:
            (one, at), (other, at_other) = await self._get(names[0]), await self._get(names[1])
            if one is None or other is None or int(one) < amount:
                raise Conflict(f"{source} has less than {amount}")
            compares = [compare_mod(names[0], at), compare_mod(names[1], at_other)]
            after = int(one) - amount, int(other) + amount
            await self._txn(
                compares, [put_op(name, str(n).encode()) for name, n in zip(names, after, strict=True)]
            )

        await again(attempt)

    async def balances(self) -> dict[str, int]:
        found = await self._all(self._key("bank", ""))
        return {kv.key.rpartition(b"/")[2].decode(): int(kv.value) for kv in found.kvs}

    # append

    async def transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        return await again(lambda: self._transact(steps))

    async def _transact(self, steps: Sequence[MicroOperation]) -> list[MicroOperation]:
        names = {key: self._key("append", key) for _, key, _ in steps}
        reads = [range_op(range_request(name)) for name in names.values()]
        found = await harmless(self._txn((), reads))
        lists: dict[str, list[int]] = {}
        compares = []
        for (key, name), at in zip(names.items(), found.ranges, strict=True):
            lists[key] = msgspec.json.decode(at.kvs[0].value, type=list[int]) if at.kvs else []
            compares.append(compare_mod(name, at.kvs[0].mod_revision if at.kvs else 0))
        done: list[MicroOperation] = []
        for f, key, element in steps:
            if f == "append":
                lists[key] = [*lists[key], element]
            done.append((f, key, element if f == "append" else lists[key]))
        written = sorted({key for f, key, _ in steps if f == "append"})
        if written:
            await self._txn(
                compares, [put_op(names[key], msgspec.json.encode(lists[key])) for key in written]
            )
        return done

    async def clear(self) -> None:
        found = await self._all(f"{self._prefix}/".encode())
        for start in range(0, len(found.kvs), 100):
            await self._txn((), [delete_op(kv.key) for kv in found.kvs[start : start + 100]])


_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


async def open_target(url: str, prefix: str, isolation: str) -> Opened:
    """Connect to the members that `url` names, without TLS and login."""
    del isolation
    target = EtcdTarget(urlsplit(url).netloc.rpartition("@")[2].split(","), prefix)
    try:
        await target.read("")
    except Unavailable as error:
        await target.close()
        error.outcome = Outcome.NOT_APPLIED
        raise
    terms = Terms(
        store_durability=Durability.MACHINE_LOSS,
        log_durability=Durability.MACHINE_LOSS,
        exceptions=UNFENCED,
    )
    return Opened(target, terms, target.close)
