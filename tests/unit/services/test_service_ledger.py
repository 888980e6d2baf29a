"""Nobody has a reply that the store may not have: else a duplicate could have another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from coterie.context import CURRENT, Call
from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import CoterieError, LeaseLost, Outcome, Unavailable
from coterie.ports.store import Commit
from coterie.services import describe
from coterie.services.ledger import ReplyLedger
from coterie.services.policies import idempotent
from coterie.services.registry import ErrorRegistry


class Bank:
    @idempotent
    async def charge(self, name: str) -> int:
        raise NotImplementedError


class Declared(Exception):
    pass


CHARGE = describe(Bank).methods["charge"]


class Place:
    """A memory store, and ledgers of several nodes on it, of which the store may refuse to take replies."""

    def __init__(self) -> None:
        self.store = MemoryStore(clock=SystemClock())
        self.ledgers: list[ReplyLedger] = []
        self.failing: CoterieError | None = None
        self.runs = 0
        self._commit = self.store.commit
        self.store.commit = self.commit  # type: ignore[method-assign]

    async def commit(self, commit: Commit) -> int:
        if self.failing is not None and commit.puts and commit.checks[0].version:
            raise self.failing  # It ends a claim: claims themselves check that there is none.
        return await self._commit(commit)

    def ledger(self) -> ReplyLedger:
        errors = ErrorRegistry()
        errors.register(Declared)
        self.ledgers.append(
            ReplyLedger(self.store, "bank/reply/", errors=errors, entropy=SystemEntropy(), claim_s=0.2)
        )
        return self.ledgers[-1]

    def charge(self, ledger: ReplyLedger, work: Callable[[], Awaitable[bytes]] | None = None) -> Any:
        return ledger.run(CHARGE, "order-1", ("ada",), work or self.work)  # type: ignore[arg-type]

    async def work(self) -> bytes:
        self.runs += 1
        return b"receipt %d" % self.runs


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    token = CURRENT.set(Call("node", {}))
    found = Place()
    yield found
    for ledger in found.ledgers:
        await ledger.close()
    await found.store.close()
    CURRENT.reset(token)


async def test_a_reply_that_the_store_did_not_take_is_given_to_nobody_yet(place: Place) -> None:
    ledger = place.ledger()
    place.failing = Unavailable("no answer", outcome=Outcome.UNKNOWN)
    with pytest.raises(Unavailable, match=r"Bank\.charge has run, but the store did not take") as raised:
        await place.charge(ledger)
    assert raised.value.outcome is Outcome.UNKNOWN
    place.failing = None
    # It waits for the claim to end, which the node goes on to see to.
    assert await place.charge(place.ledger()) == b"receipt 1"
    assert await place.charge(ledger) == b"receipt 1"
    assert place.runs == 1


async def test_all_have_the_reply_of_the_run_that_was_kept(place: Place) -> None:
    first, second = place.ledger(), place.ledger()

    async def takes_too_long() -> bytes:
        await place.store.revoke(first._claim_lease)
        assert await place.charge(second) == b"receipt 1"
        return b"another"

    with pytest.raises(Unavailable) as raised:
        await place.charge(first, takes_too_long)
    assert raised.value.outcome is Outcome.UNKNOWN
    assert await place.charge(first) == await place.charge(second) == b"receipt 1"


async def test_a_declared_error_is_a_reply_in_this_as_well(place: Place) -> None:
    async def declared() -> bytes:
        raise Declared("no")

    place.failing = Unavailable("no answer", outcome=Outcome.NOT_APPLIED)
    with pytest.raises(Unavailable) as raised:
        await place.charge(place.ledger(), declared)
    assert isinstance(raised.value.__cause__, Declared)
    place.failing = None
    with pytest.raises(Declared):
        await place.charge(place.ledger())
    assert place.runs == 0


async def test_a_lost_lease_of_kept_replies_is_replaced(place: Place) -> None:
    place.failing = LeaseLost("the lease has ended", outcome=Outcome.NOT_APPLIED)
    with pytest.raises(Unavailable):
        await place.charge(place.ledger())
    place.failing = None
    assert await place.charge(place.ledger()) == b"receipt 1"
