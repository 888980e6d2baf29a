from __future__ import annotations

import math
from dataclasses import replace

import pytest

from coterie.errors import InvalidArgument, Outcome, TooLarge
from coterie.ports import Consistency, Durability, Scope, StoreGuarantees
from coterie.ports.store import (
    Check,
    Commit,
    Fence,
    Put,
    validate_commit,
    validate_key,
    validate_prefix,
    validate_scan,
    validate_ttl,
)

GIVEN = StoreGuarantees(
    engine="test",
    consistency=Consistency.LINEARIZABLE,
    durability=Durability.NONE,
    scope=Scope.PROCESS,
    max_key_bytes=8,
    max_value_bytes=8,
    max_commit_keys=4,
    min_lease_s=1.0,
)


@pytest.mark.parametrize("key", ["k", "k" * 8, "éééé", "\U0010ffff", " ", "\n", "\x01"])
def test_good_keys(key: str) -> None:
    validate_key(key, 8)


@pytest.mark.parametrize("key", ["", "a\0", "\ud800", b"bytes", 1, None])
def test_bad_keys(key: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        validate_key(key, 8)  # type: ignore[arg-type]
    assert not isinstance(caught.value, TooLarge)
    assert caught.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("key", ["k" * 9, "ééééé", "字字字"])
def test_long_keys(key: str) -> None:
    with pytest.raises(TooLarge, match="the limit is 8"):
        validate_key(key, 8)


@pytest.mark.parametrize(
    "commit",
    [
        Commit(),
        Commit((Put("a", b"x" * 8),)),
        Commit((Put("a", b""), Put("b", b"")), ("c",), (Check("a", 0),)),
        Commit((Put("a", b""),), (), (Check("a", 0), Check("a", 0)), (Fence("a", 1),)),
    ],
)
def test_good_commits(commit: Commit) -> None:
    validate_commit(commit, GIVEN)


@pytest.mark.parametrize(
    ("commit", "error", "message"),
    [
        (Commit((Put("", b""),)), InvalidArgument, "non-empty"),
        (Commit((Put("a", "text"),)), InvalidArgument, "must be bytes, not str"),  # type: ignore[arg-type]
        (Commit((Put("a", b"x" * 9),)), TooLarge, "9 bytes; the limit is 8"),
        (Commit((Put("a", b""), Put("a", b""))), InvalidArgument, "twice"),
        (Commit((Put("a", b""),), ("a",)), InvalidArgument, "twice"),
        (Commit((), ("a", "a")), InvalidArgument, "twice"),
        (Commit((), ("\0",)), InvalidArgument, "NUL"),
        (Commit(checks=(Check("", 0),)), InvalidArgument, "non-empty"),
        (Commit(fences=(Fence("x" * 9, 0),)), TooLarge, "the limit is 8"),
        (
            Commit((Put("a", b""),), ("b",), (Check("c", 0),), (Fence("d", 0), Fence("e", 0))),
            TooLarge,
            "5 keys",
        ),
    ],
)
def test_bad_commits(commit: Commit, error: type[InvalidArgument], message: str) -> None:
    with pytest.raises(error, match=message):
        validate_commit(commit, GIVEN)


def test_one_key_a_commit() -> None:
    single = replace(GIVEN, multi_key_commit=False)
    validate_commit(Commit((Put("a", b""),), (), (Check("b", 0),)), single)
    with pytest.raises(InvalidArgument, match="one key a commit"):
        validate_commit(Commit((Put("a", b""),), ("b",)), single)


@pytest.mark.parametrize("prefix", ["", "\0", "x" * 100, "é"])
def test_good_prefixes(prefix: str) -> None:
    validate_prefix(prefix)


@pytest.mark.parametrize("prefix", ["\udfff", b"", None])
def test_bad_prefixes(prefix: object) -> None:
    with pytest.raises(InvalidArgument):
        validate_prefix(prefix)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, 10_001, True, 1.0, None])
def test_bad_limits(limit: object) -> None:
    with pytest.raises(InvalidArgument, match=r"between 1 and 10,000"):
        validate_scan("", "", limit)  # type: ignore[arg-type]


def test_lease_times() -> None:
    for ttl_s in (1, 1.0, 3600.0, 1e9):
        validate_ttl(ttl_s, GIVEN)
    for ttl_s in (0.999, 0, -1, math.nan, math.inf, -math.inf):
        with pytest.raises(InvalidArgument, match="at least 1"):
            validate_ttl(ttl_s, GIVEN)
