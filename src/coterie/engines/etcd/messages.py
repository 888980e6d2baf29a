"""etcd's requests and responses, by the field numbers of its `rpc.proto` and `kv.proto`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .proto import fields, number, part, signed

__all__ = [
    "KeyValue",
    "Range",
    "Txn",
    "Watched",
    "compare_absent",
    "compare_mod",
    "compare_value",
    "credentials",
    "delete_op",
    "first_number",
    "first_text",
    "lease_request",
    "members_of",
    "put_op",
    "range_op",
    "range_request",
    "read_range",
    "read_txn",
    "read_watch",
    "term_of",
    "ttl_of",
    "txn_request",
    "watch_request",
]

_EQUAL = 0
_VERSION, _MOD, _VALUE = 0, 2, 3


@dataclass(slots=True)
class KeyValue:
    """An entry as etcd has it; `value` is empty where only keys were asked for."""

    key: bytes = b""
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


@dataclass(slots=True)
class Range:
    """What a range request found."""

    revision: int = 0
    kvs: list[KeyValue] = field(default_factory=list)
    more: bool = False


@dataclass(slots=True)
class Txn:
    """What a transaction did: `ranges` are the results of its range requests, in their order."""

    revision: int = 0
    succeeded: bool = False
    ranges: list[Range] = field(default_factory=list)


@dataclass(slots=True)
class Watched:
    """A message of a watch: changes as (is it a deletion, entry), or the end of the watch."""

    revision: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    reason: str = ""
    events: list[tuple[bool, KeyValue]] = field(default_factory=list)


# Requests


def range_request(
    key: bytes,
    end: bytes = b"",
    *,
    limit: int = 0,
    revision: int = 0,
    keys_only: bool = False,
    stale: bool = False,
) -> bytes:
    """Ask for the keys from `key` to before `end`, or for `key` alone; `stale` asks no leader."""
    out = part(1, key)
    if end:
        out += part(2, end)
    if limit:
        out += number(3, limit)
    if revision:
        out += number(4, revision)
    if stale:
        out += number(7, 1)
    if keys_only:
        out += number(8, 1)
    return out


def txn_request(compares: Iterable[bytes], success: Iterable[bytes], failure: Iterable[bytes] = ()) -> bytes:
    """Do `success` if all of `compares` hold, otherwise `failure`."""
    return b"".join(
        (
            *(part(1, compare) for compare in compares),
            *(part(2, op) for op in success),
            *(part(3, op) for op in failure),
        )
    )


def range_op(request: bytes) -> bytes:
    """Return a step of a transaction that reads."""
    return part(1, request)


def put_op(key: bytes, value: bytes, lease: int = 0) -> bytes:
    """Return a step of a transaction that writes."""
    put = part(1, key) + part(2, value)
    return part(2, put + number(3, lease) if lease else put)


def delete_op(key: bytes) -> bytes:
    """Return a step of a transaction that deletes one key."""
    return part(3, part(1, key))


def compare_mod(key: bytes, revision: int) -> bytes:
    """Demand that the last change of `key` was at `revision`; 0 demands that there is none."""
    return number(1, _EQUAL) + number(2, _MOD) + part(3, key) + number(6, revision)


def compare_absent(key: bytes) -> bytes:
    """Demand that there is no `key`."""
    return number(1, _EQUAL) + number(2, _VERSION) + part(3, key) + number(4, 0)


def compare_value(key: bytes, value: bytes) -> bytes:
    """Demand that `key` is there and has `value`."""
    return number(1, _EQUAL) + number(2, _VALUE) + part(3, key) + part(7, value)


def lease_request(lease: int = 0, *, ttl_s: int = 0) -> bytes:
    """Ask for a new lease of `ttl_s`, or name the lease to revoke or keep alive."""
    return number(1, ttl_s) if ttl_s else number(1, lease)


def watch_request(key: bytes, end: bytes, start: int) -> bytes:
    """Ask for all changes from the revision `start` on."""
    return part(1, part(1, key) + part(2, end) + number(3, start))


def credentials(user: str, password: str) -> bytes:
    """Ask for a token."""
    return part(1, user.encode()) + part(2, password.encode())


# Responses


def _revision(header: bytes) -> int:
    return first_number(header, 3)


def term_of(response: bytes) -> int:
    """Return the term that the member was in which sent a response; 0 for nothing."""
    for name, _, header in fields(response):
        if name == 1:
            return first_number(header, 4)
    return 0


def first_number(data: bytes, wanted: int) -> int:
    """Return the number in the field `wanted`, or 0."""
    for name, value, _ in fields(data):
        if name == wanted:
            return signed(value)
    return 0


def first_text(data: bytes, wanted: int) -> str:
    """Return the text in the field `wanted`, or nothing."""
    for name, _, value in fields(data):
        if name == wanted:
            return value.decode()
    return ""


def _key_value(data: bytes) -> KeyValue:
    found = KeyValue()
    for name, value, text in fields(data):
        if name == 1:
            found.key = text
        elif name == 3:
            found.mod_revision = value
        elif name == 5:
            found.value = text
        elif name == 6:
            found.lease = signed(value)
    return found


def read_range(data: bytes) -> Range:
    """Read a RangeResponse."""
    found = Range()
    for name, value, text in fields(data):
        if name == 2:
            found.kvs.append(_key_value(text))
        elif name == 1:
            found.revision = _revision(text)
        elif name == 3:
            found.more = bool(value)
    return found


def read_txn(data: bytes) -> Txn:
    """Read a TxnResponse."""
    found = Txn()
    for name, value, text in fields(data):
        if name == 1:
            found.revision = _revision(text)
        elif name == 2:
            found.succeeded = bool(value)
        elif name == 3:
            found.ranges += [read_range(inner) for kind, _, inner in fields(text) if kind == 1]
    return found


def _event(data: bytes) -> tuple[bool, KeyValue]:
    deleted, kv = False, KeyValue()
    for name, value, text in fields(data):
        if name == 1:
            deleted = value == 1
        elif name == 2:
            kv = _key_value(text)
    return deleted, kv


def read_watch(data: bytes) -> Watched:
    """Read a WatchResponse."""
    found = Watched()
    for name, value, text in fields(data):
        if name == 11:
            found.events.append(_event(text))
        elif name == 1:
            found.revision = _revision(text)
        elif name == 3:
            found.created = bool(value)
        elif name == 4:
            found.canceled = bool(value)
        elif name == 5:
            found.compact_revision = value
        elif name == 6:
            found.reason = text.decode()
    return found


def ttl_of(data: bytes) -> int:
    """Return the seconds that a response about a lease names; 0 or less when it has ended."""
    return first_number(data, 3)


def members_of(data: bytes) -> int:
    """Return how many voting members a MemberListResponse names."""
    return sum(name == 2 and not first_number(text, 5) for name, _, text in fields(data))
