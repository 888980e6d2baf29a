from __future__ import annotations

import math

import pytest

from coterie.engines.memory.leases import Leases
from coterie.errors import LeaseLost


def test_a_lease_is_due_at_its_time_and_not_before() -> None:
    leases = Leases()
    first, second = leases.grant(10, 100.0), leases.grant(5, 100.0)
    assert leases.next_expiry == 105.0
    assert leases.due(104.999) == []
    assert leases.due(105.0) == [second]
    assert leases.due(200.0) == [second, first], "the oldest first"


def test_renewing_gives_the_full_time_from_now() -> None:
    leases = Leases()
    lease = leases.grant(10, 100.0)
    leases.renew(lease, 107.0)
    assert leases.due(116.9) == []
    assert leases.next_expiry == 117.0
    assert leases.due(117.0) == [lease]


def test_the_next_expiry_is_never_too_late() -> None:
    leases = Leases()
    assert leases.next_expiry == math.inf
    long = leases.grant(100, 0.0)
    short = leases.grant(1, 0.0)
    assert leases.next_expiry == 1.0
    leases.pop(short)
    assert leases.next_expiry <= 100.0
    assert leases.due(50.0) == []
    assert leases.next_expiry == 100.0
    leases.pop(long)
    leases.due(60.0)
    assert leases.next_expiry == math.inf


def test_an_ended_lease_gives_its_keys_once() -> None:
    leases = Leases()
    lease = leases.grant(10, 0.0)
    for key in ("a", "b", "c", "a"):
        leases.attach(lease, key)
    leases.detach(lease, "b")
    assert leases.pop(lease) == ("a", "c")
    assert leases.pop(lease) == ()
    assert lease not in leases
    leases.detach(lease, "a")
    with pytest.raises(LeaseLost):
        leases.renew(lease, 1.0)


def test_ids_are_never_used_again() -> None:
    leases = Leases()
    ids = []
    for _ in range(5):
        ids.append(leases.grant(1, 0.0))
        leases.pop(ids[-1])
    assert ids == [1, 2, 3, 4, 5]
    assert len(leases) == 0
