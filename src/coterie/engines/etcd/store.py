"""`Store` on etcd."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from ...errors import Conflict, InvalidArgument, LeaseLost, Outcome, Unavailable
from ...ports.store import (
    Batch,
    Change,
    Check,
    Commit,
    Entry,
    Page,
    StoreGuarantees,
    validate_commit,
    validate_key,
    validate_prefix,
    validate_scan,
    validate_ttl,
)
from ..common.shared import fail
from .client import Client
from .fences import Fences
from .messages import (
    KeyValue,
    Txn,
    compare_mod,
    delete_op,
    first_number,
    lease_request,
    put_op,
    range_op,
    range_request,
    read_range,
    read_txn,
    ttl_of,
    txn_request,
)
from .watch import EtcdWatch

if TYPE_CHECKING:
    from .engine import EtcdEngine

__all__ = ["EtcdStore"]

_RANGE = "/etcdserverpb.KV/Range"
_TXN = "/etcdserverpb.KV/Txn"
_GRANT = "/etcdserverpb.Lease/LeaseGrant"
_REVOKE = "/etcdserverpb.Lease/LeaseRevoke"
_KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
_PAGE = 1000
_MAX_TRIES = 64
_MAX_OPS = 128
_BEYOND = 2**63


class EtcdStore:
    """Linearizable: every read asks the leader, through whichever member, how far the log is."""

    def __init__(self, engine: EtcdEngine, guarantees: StoreGuarantees) -> None:
        self.client: Client = engine.client
        self.watches: set[EtcdWatch] = set()
        self._guarantees = guarantees
        self._keys = f"{engine.config.prefix}/k/".encode()
        self._fences = Fences(f"{engine.config.prefix}/f/".encode())
        self._gets = Gets(engine.client, self._keys)
        self._closed = False

    @property
    def guarantees(self) -> StoreGuarantees:
        return self._guarantees

    async def get(self, key: str) -> Entry | None:
        validate_key(key, self._guarantees.max_key_bytes)
        self.check()
        return await self._gets.get(key)

    async def scan(self, prefix: str, *, after: str = "", limit: int = 1000) -> Page:
        validate_scan(prefix, after, limit)
        self.check()
        start, end = self.range_of(prefix)
        if after:
            start = max(start, self._keys + after.encode() + b"\0")
        if start >= end:
            start, end = self._keys, self._keys + b"\0"  # Nothing is there; only the revision is asked for.
        found = read_range(await self.client.call(_RANGE, range_request(start, end, limit=limit)))
        entries = tuple(self._entry(kv) for kv in found.kvs)
        return Page(entries, found.revision, more=found.more)

    async def commit(self, commit: Commit) -> int:
        validate_commit(commit, self._guarantees)
        _validate_numbers(commit)
        self.check()
        compares = [compare_mod(self._key(check.key), check.version) for check in commit.checks]
        writes = [put_op(self._key(put.key), put.value, put.lease) for put in commit.puts]
        writes += [delete_op(self._key(key)) for key in commit.deletes]
        # If something does not hold, the same transaction tells what.
        reads = [range_op(range_request(self._key(check.key), keys_only=True)) for check in commit.checks]
        reads += [range_op(range_request(self._fences.key(fence.name))) for fence in commit.fences]
        for _ in range(_MAX_TRIES):
            fenced, tokens = self._fences.demand(commit.fences)
            request = txn_request(compares + fenced, writes + tokens, reads)
            answer = read_txn(await self.client.call(_TXN, request, idempotent=not (writes or tokens)))
            if answer.succeeded:
                self._fences.committed(commit.fences, answer.revision)
                return answer.revision
            self._demand(commit, answer)
        raise Unavailable(
            f"others moved the fences of a commit {_MAX_TRIES} times", outcome=Outcome.NOT_APPLIED
        )

    def _demand(self, commit: Commit, answer: Txn) -> None:
        """Learn how the fences are. Raises `Conflict` if a check does not hold."""
        found = [read.kvs[0] if read.kvs else None for read in answer.ranges]
        checked, fenced = found[: len(commit.checks)], found[len(commit.checks) :]
        for fence, entry in zip(commit.fences, fenced, strict=True):
            self._fences.found(fence.name, entry)
        self._fences.demand(commit.fences)
        for check, entry in zip(commit.checks, checked, strict=True):
            _check(check, entry)

    async def grant(self, ttl_s: float) -> int:
        validate_ttl(ttl_s, self._guarantees)
        self.check()
        request = lease_request(ttl_s=math.ceil(ttl_s))
        # An unknown lease that was granted to nobody ends by itself, so asking again does no harm.
        return first_number(await self.client.call(_GRANT, request), 2)

    async def renew(self, lease: int) -> None:
        self.check()
        if not _is_lease(lease):
            raise LeaseLost(f"the lease {lease!r} has never been")
        if ttl_of(await self.client.keep_alive(_KEEP_ALIVE, lease_request(lease))) <= 0:
            raise LeaseLost(
                f"the lease {lease} has ended", hint="grant a new one and write its entries again"
            )

    async def revoke(self, lease: int) -> None:
        self.check()
        if not _is_lease(lease):
            return
        try:
            await self.client.call(_REVOKE, lease_request(lease))
        except LeaseLost:
            return

    def watch(self, prefix: str) -> EtcdWatch:
        validate_prefix(prefix)
        return EtcdWatch(self, prefix)

    async def close(self) -> None:
        self._closed = True
        for watch in list(self.watches):
            watch.interrupt()
        self.watches.clear()

    # For the watches.

    async def snapshot(self, prefix: str) -> Batch:
        """Return all entries under `prefix`, in pages of one revision."""
        start, end = self.range_of(prefix)
        revision, changes = 0, []
        while True:
            request = range_request(start, end, limit=_PAGE, revision=revision)
            found = read_range(await self.client.call(_RANGE, request))
            revision = revision or found.revision
            changes += [Change(self.key_of(kv.key), kv.value, kv.mod_revision) for kv in found.kvs]
            if not found.more:
                return Batch(revision, tuple(changes), snapshot=True)
            start = found.kvs[-1].key + b"\0"

    def range_of(self, prefix: str) -> tuple[bytes, bytes]:
        """Return the first key that may start with `prefix`, and the first beyond all that do."""
        start = self._keys + prefix.encode()
        return start, start[:-1] + bytes((start[-1] + 1,))  # UTF-8 has no byte 0xff.

    def key_of(self, key: bytes) -> str:
        """Return what etcd's `key` is called here."""
        return key[len(self._keys) :].decode()

    def check(self) -> None:
        """Raise `Unavailable` if the store is closed."""
        if self._closed:
            raise Unavailable("the store is closed", outcome=Outcome.NOT_APPLIED)

    def _key(self, key: str) -> bytes:
        return self._keys + key.encode()

    def _entry(self, kv: KeyValue) -> Entry:
        return Entry(self.key_of(kv.key), kv.value, kv.mod_revision, kv.lease)


class Gets:
    """Reads of single keys: those that come while one question is under way share the next."""

    def __init__(self, client: Client, space: bytes) -> None:
        self._client = client
        self._space = space
        self._waiting: list[tuple[str, asyncio.Future[Entry | None]]] = []
        self._worker: asyncio.Task[None] | None = None

    def get(self, key: str) -> asyncio.Future[Entry | None]:
        """Return the future of the entry."""
        future: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="coterie-etcd-gets")
        return future

    async def _work(self) -> None:
        try:
            while self._waiting:
                asked, self._waiting = self._waiting[:_MAX_OPS], self._waiting[_MAX_OPS:]
                # What is asked for from here on must not see less than what is committed by then.
                keys = list(dict.fromkeys(key for key, future in asked if not future.done()))
                try:
                    found = dict(zip(keys, await self._ask(keys), strict=True)) if keys else {}
                except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits
                    fail((future for _, future in asked), error)
                    continue
                for key, future in asked:
                    if not future.done():
                        kv = found[key]
                        entry = None if kv is None else Entry(key, kv.value, kv.mod_revision, kv.lease)
                        future.set_result(entry)
        finally:
            self._worker = None

    async def _ask(self, keys: list[str]) -> list[KeyValue | None]:
        requests = [range_request(self._space + key.encode()) for key in keys]
        if len(requests) == 1:
            ranges = [read_range(await self._client.call(_RANGE, requests[0]))]
        else:
            request = txn_request((), [range_op(request) for request in requests])
            ranges = read_txn(await self._client.call(_TXN, request)).ranges
        return [found.kvs[0] if found.kvs else None for found in ranges]


def _check(check: Check, entry: KeyValue | None) -> None:
    version = 0 if entry is None else entry.mod_revision
    if version != check.version:
        raise Conflict(f"{check.key!r} is at version {version}, not {check.version}")


def _is_lease(lease: object) -> bool:
    return type(lease) is int and 0 < lease < _BEYOND


def _validate_numbers(commit: Commit) -> None:
    """Raise `InvalidArgument` for numbers that etcd cannot hold."""
    for put in commit.puts:
        if put.lease and not _is_lease(put.lease):
            raise InvalidArgument(f"a lease is an id that grant returned, not {put.lease!r}")
    for check in commit.checks:
        if type(check.version) is not int or not -_BEYOND <= check.version < _BEYOND:
            raise InvalidArgument(f"a version is an int of 64 bits, not {check.version!r}")
    for fence in commit.fences:
        if type(fence.token) is not int or not -_BEYOND <= fence.token < _BEYOND:
            raise InvalidArgument(f"a fencing token is an int of 64 bits, not {fence.token!r}")
