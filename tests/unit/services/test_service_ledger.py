"""Nobody has a reply that the store may not have: else a duplicate could have another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from coterie.context import CURRENT, Call
from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import CoterieError, LeaseLost, Outcome, Unavailable
from coterie.ports.store import Commit, Entry
from coterie.services import describe
from coterie.services.ledger import MAX_ENDINGS, ReplyLedger
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

    def charge(
        self, ledger: ReplyLedger, work: Callable[[], Awaitable[bytes]] | None = None, key: str = "order-1"
    ) -> Any:
        return ledger.run(CHARGE, key, ("ada",), work or self.work)  # type: ignore[arg-type]

    async def keep_busy(self, ledger: ReplyLedger) -> asyncio.Task[bytes]:
        """Claim something else. As long as anything is claimed, the one lease of all claims is renewed."""
        working = asyncio.Event()

        async def works_on() -> bytes:
            working.set()
            await asyncio.Event().wait()
            return b""

        task: asyncio.Task[bytes] = asyncio.create_task(self.charge(ledger, works_on, "another"))
        await working.wait()
        return task

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


async def test_a_claim_whose_caller_left_is_given_up_though_others_keep_its_lease(place: Place) -> None:
    ledger, late, asked = place.ledger(), asyncio.Event(), asyncio.Event()
    commit, straggling = place.store.commit, list[asyncio.Task[int]]()

    async def loses_its_caller(put: Commit) -> int:
        place.store.commit = commit  # type: ignore[method-assign]

        async def later() -> int:
            await late.wait()
            return await commit(put)

        straggling.append(asyncio.create_task(later()))
        asked.set()
        return await asyncio.shield(straggling[0])

    other = await place.keep_busy(ledger)
    place.store.commit = loses_its_caller  # type: ignore[method-assign]
    leaving = asyncio.create_task(place.charge(ledger))
    await asked.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    late.set()  # The store takes the claim after all, when nobody waits for it.
    await straggling[0]
    async with asyncio.timeout(10):
        assert await place.charge(place.ledger()) == b"receipt 1"
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def test_a_claim_that_comes_late_is_given_up_as_well(place: Place) -> None:
    ledger, claims, looked = place.ledger(), list[Commit](), asyncio.Event()
    commit, get = place.store.commit, place.store.get

    async def looks(key: str) -> Entry | None:
        found = await get(key)
        assert found is None or looked.is_set()
        asyncio.get_running_loop().call_soon(looked.set)
        return found

    async def gives_no_answer(put: Commit) -> int:
        place.store.commit = commit  # type: ignore[method-assign]
        claims.append(put)
        raise Unavailable("no answer", outcome=Outcome.UNKNOWN)

    other = await place.keep_busy(ledger)
    place.store.commit = gives_no_answer  # type: ignore[method-assign]
    place.store.get = looks  # type: ignore[method-assign]
    with pytest.raises(Unavailable) as raised:
        await place.charge(ledger)
    assert raised.value.outcome is Outcome.NOT_APPLIED
    await looked.wait()
    await commit(claims[0])
    async with asyncio.timeout(10):
        assert await place.charge(place.ledger()) == b"receipt 1"
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def test_what_waits_for_a_store_that_does_not_answer_is_bounded(place: Place) -> None:
    ledger = place.ledger()

    async def gives_no_answer(_put: Commit) -> int:
        raise Unavailable("no answer", outcome=Outcome.UNKNOWN)

    place.store.commit = gives_no_answer  # type: ignore[method-assign]
    for number in range(MAX_ENDINGS + 10):
        with pytest.raises(Unavailable) as raised:
            await place.charge(ledger, key=f"order-{number}")
        assert raised.value.outcome is Outcome.NOT_APPLIED
    assert ledger.pending == MAX_ENDINGS


async def test_a_duplicate_does_not_read_the_replies_to_keys_that_begin_alike(place: Place) -> None:
    ledger, seen, watch = place.ledger(), list[str](), place.store.watch
    for key in ("1", "12", "1/2"):
        await place.charge(ledger, key=key)

    def noted(prefix: str) -> Any:
        seen.append(prefix)
        return watch(prefix)

    place.store.watch = noted  # type: ignore[method-assign]
    assert await place.charge(ledger, key="1") == b"receipt 1"
    (prefix,) = seen
    assert len((await place.store.scan(prefix)).entries) == 1


async def test_the_method_that_ran_is_named_whatever_the_key_looks_like(place: Place) -> None:
    place.failing = Unavailable("no answer", outcome=Outcome.UNKNOWN)
    with pytest.raises(Unavailable, match=r"^Bank\.charge has run"):
        await place.charge(place.ledger(), key="2026/11/21")
