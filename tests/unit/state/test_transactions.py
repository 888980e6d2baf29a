"""Transactions: isolation, retries, and what is not retried. Mutants lose one safeguard each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from coterie.engines.memory import MemoryStore
from coterie.errors import Conflict, Fenced, InvalidArgument, Outcome, Unavailable
from coterie.ports.store import Check, Commit, Entry, Fence
from coterie.state import StrongMap, Transaction, Transactional


@pytest.fixture
def accounts(home: Any) -> StrongMap[int]:
    return home.add(StrongMap("accounts", int))


def transfer_in(accounts: StrongMap[int]) -> Transactional[[str, str, int], None]:
    async def transfer(txn: Transaction, source: str, target: str, amount: int) -> None:
        left = await txn.get(accounts, source, 0) - amount
        await asyncio.sleep(0)  # Somebody else gets a turn between the reads.
        if left < 0:
            raise ValueError(f"{source} is overdrawn")
        txn.put(accounts, source, left)
        txn.put(accounts, target, await txn.get(accounts, target, 0) + amount)

    return Transactional(transfer)


async def run_bank(accounts: StrongMap[int]) -> int:
    """Transfer among four accounts at once and return the total, which was 400."""
    for name in "abcd":
        await accounts.put(name, 100)
    transfer = transfer_in(accounts)
    pairs = [(a, b, n) for n in range(1, 9) for a in "abcd" for b in "abcd" if a != b]
    await asyncio.gather(*(transfer(*pair) for pair in pairs), return_exceptions=True)
    return sum([item.value async for item in accounts.scan()])


async def test_money_is_neither_made_nor_lost(accounts: StrongMap[int]) -> None:
    assert await run_bank(accounts) == 400


async def test_the_bank_notices_a_commit_that_checks_nothing(
    accounts: StrongMap[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transaction, "_checks", lambda _self: ())
    assert await run_bank(accounts) != 400


async def test_a_transaction_sees_its_own_writes_and_one_value_of_others(accounts: StrongMap[int]) -> None:
    await accounts.put("a", 1)

    @Transactional
    async def look(txn: Transaction) -> list[int | None]:
        seen = [await txn.get(accounts, "a")]
        if len(attempts) == 0:
            await accounts.put("a", 2)
        attempts.append(1)
        seen.append(await txn.get(accounts, "a"))
        txn.put(accounts, "a", 5)
        seen.append(await txn.get(accounts, "a"))
        txn.delete(accounts, "a")
        seen.append(await txn.get(accounts, "a"))
        txn.put(accounts, "b", 1)
        return seen

    attempts: list[int] = []
    assert await look() == [2, 2, 5, None]
    assert len(attempts) == 2
    assert await accounts.get("a") is None


async def test_reads_of_one_key_at_once_see_one_value_and_the_commit_checks_it(
    accounts: StrongMap[int], store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accounts.put("a", 1)
    both, get, reads, results = asyncio.Barrier(2), store.get, 0, []

    async def slow_second(key: str) -> Entry | None:
        nonlocal reads
        reads += 1
        first = reads == 1
        if reads <= 2:  # Both are asked for before either has its answer.
            await both.wait()
            if not first:
                await accounts.put("a", 2)
        return await get(key)

    monkeypatch.setattr(store, "get", slow_second)

    @Transactional
    async def double(txn: Transaction) -> None:
        seen = await asyncio.gather(txn.get(accounts, "a", 0), txn.get(accounts, "a", 0))
        results.append(seen)
        txn.put(accounts, "a", 10 * seen[0])

    await double()
    assert results == [[1, 1], [2, 2]]
    assert await accounts.get("a") == 20


async def test_nothing_is_visible_before_the_commit(accounts: StrongMap[int]) -> None:
    @Transactional
    async def write(txn: Transaction) -> None:
        txn.put(accounts, "a", 1)
        assert await accounts.get("a") is None

    await write()
    assert await accounts.get("a") == 1


async def test_a_task_left_behind_cannot_add_to_a_transaction_that_is_over(accounts: StrongMap[int]) -> None:
    released = asyncio.Event()
    left: list[asyncio.Task[None]] = []

    @Transactional
    async def pay(txn: Transaction) -> None:
        async def later() -> None:
            await released.wait()
            txn.put(accounts, "a", 2)

        txn.put(accounts, "a", 1)
        left.append(asyncio.create_task(later()))

    await pay()
    released.set()
    with pytest.raises(InvalidArgument, match="the transaction is over"):
        await left[0]
    assert await accounts.get("a") == 1


async def test_an_error_writes_nothing(accounts: StrongMap[int]) -> None:
    @Transactional
    async def fail(txn: Transaction) -> None:
        txn.put(accounts, "a", 1)
        raise KeyError("no")

    with pytest.raises(KeyError):
        await fail()
    assert await accounts.get("a") is None


def torn_reader(accounts: StrongMap[int]) -> Transactional[[], int]:
    """A function that complains when `a` and `b` differ, while somebody else always changes both."""
    turns = iter([1])

    async def read(txn: Transaction) -> int:
        a = await txn.get(accounts, "a", 0)
        for _ in turns:
            await accounts.put("a", 1)
            await accounts.put("b", 1)
        b = await txn.get(accounts, "b", 0)
        if a != b:
            raise AssertionError(f"{a} and {b} were never there together")
        return a

    return Transactional(read)


async def test_an_error_decided_on_two_states_is_not_raised(accounts: StrongMap[int]) -> None:
    assert await torn_reader(accounts)() == 1


async def test_without_the_check_of_what_was_seen_it_would_be(
    accounts: StrongMap[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def anything(_self: Transaction) -> bool:
        return True

    monkeypatch.setattr(Transaction, "_saw_one_state", anything)
    with pytest.raises(AssertionError, match="never there together"):
        await torn_reader(accounts)()


async def test_an_unknown_outcome_is_raised_and_not_retried(accounts: StrongMap[int], home: Any) -> None:
    store = home.store
    commits = []

    class Unsure:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def commit(self, commit: Commit) -> int:
            commits.append(commit)
            await store.commit(commit)
            raise Unavailable("the answer was lost", outcome=Outcome.UNKNOWN)

    home.use(Unsure())

    @Transactional
    async def add(txn: Transaction) -> None:
        txn.put(accounts, "a", await txn.get(accounts, "a", 0) + 1)

    with pytest.raises(Unavailable):
        await add()
    assert len(commits) == 1
    assert await accounts.get("a") == 1


async def test_what_was_certainly_refused_is_not_unknown_because_nobody_can_tell_why(
    accounts: StrongMap[int], home: Any
) -> None:
    class Mute:
        """A store that refuses what is demanded, and then says nothing more."""

        async def get(self, _key: str) -> Entry | None:
            if self.refused:
                raise Unavailable("no answer", outcome=Outcome.UNKNOWN)
            return None

        async def commit(self, commit: Commit) -> int:
            self.refused = True
            if not commit.puts and not commit.deletes:
                raise Unavailable("no answer", outcome=Outcome.UNKNOWN)
            raise Conflict("not so")

        refused = False

    @Transactional
    async def decide(txn: Transaction) -> None:
        await txn.get(accounts, "a")
        await txn.get(accounts, "b")
        raise LookupError("neither is there")

    lease = Lease(checks=(Check("lock", 3),), fences=())
    for write in (accounts.put("a", 1, fence=lease), accounts.delete("a", fence=lease), decide()):
        home.use(Mute())
        with pytest.raises((Unavailable, Conflict)) as raised:
            await write
        assert raised.value.outcome is Outcome.NOT_APPLIED


@dataclass
class Lease:
    checks: tuple[Check, ...]
    fences: tuple[Fence, ...]


async def test_a_fenced_transaction_is_not_retried(accounts: StrongMap[int]) -> None:
    attempts = []

    @Transactional
    async def write(txn: Transaction, token: int) -> None:
        attempts.append(token)
        txn.fence(Fence("lock", token))
        txn.put(accounts, "a", token)

    await write(5)
    with pytest.raises(Fenced):
        await write(4)
    assert attempts == [5, 4]
    assert await accounts.get("a") == 5


async def test_a_race_that_is_never_won_ends(accounts: StrongMap[int], home: Any) -> None:
    store = home.store

    class Busy:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def commit(self, commit: Commit) -> int:
            return int(await store.commit(Commit(checks=(Check("app/map/accounts/a", 99),))))

    home.use(Busy())

    @Transactional
    async def add(txn: Transaction) -> None:
        txn.put(accounts, "a", await txn.get(accounts, "a", 0) + 1)

    add._contention = type(add._contention)(attempts=5, first_wait_s=0, longest_wait_s=0)
    with pytest.raises(Conflict, match="lost each of 5 races"):
        await add()


async def test_the_wrapper_keeps_the_name_and_the_arguments(accounts: StrongMap[int]) -> None:
    transfer = transfer_in(accounts)
    assert "transfer" in repr(transfer)
    await accounts.put("a", 3)
    await transfer("a", "b", amount=2)
    assert (await accounts.get("a"), await accounts.get("b")) == (1, 2)
