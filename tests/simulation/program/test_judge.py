"""The judge knows right histories from wrong ones, each seen through recorded ports."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from coterie import App, Transaction
from coterie.context import CURRENT, Call
from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import Conflict, Fenced, Outcome, Unavailable
from coterie.ports.store import Check, Commit, Entry, Fence, Put
from coterie.simulation.program.judge import Broken, judge
from coterie.simulation.program.notebook import Notebook
from coterie.simulation.program.recording import RecordedStore, watch_transactions
from coterie.state import MapBinding, Transactional, TransactionBinding

PREFIX = "shop/map/stock/"
A, B = PREFIX + "a", PREFIX + "b"


class Lab:
    """A recorded store in front of one that can be made to lie."""

    def __init__(self) -> None:
        ticks = itertools.count()
        self.book = Notebook("shop", lambda: next(ticks))
        self.inner = MemoryStore(clock=SystemClock())
        self.store = RecordedStore(self.inner, self.book, "node-1", None)

    async def put(self, key: str, value: bytes, *checks: Check) -> int:
        return await self.store.commit(Commit((Put(key, value),), (), checks))

    def verdict(self) -> Broken | None:
        return judge(self.book)


@pytest.fixture
async def lab() -> Any:
    found = Lab()
    yield found
    await found.inner.close()


async def test_what_is_right_is_not_accused_and_values_come_back_as_they_were(lab: Lab) -> None:
    assert await lab.store.get(A) is None
    version = await lab.put(A, b"\x01")
    entry = await lab.store.get(A)
    assert entry == Entry(A, b"\x01", version)
    await lab.put(A, b"\x02", Check(A, version))
    with pytest.raises(Conflict):
        await lab.put(A, b"\x03", Check(A, version))
    await lab.store.commit(Commit((Put(B, b"\x01"),), (A,), (Check(B, 0),)))
    assert await lab.store.get(A) is None
    await lab.put(A, b"\x05")
    page = await lab.store.scan(PREFIX)
    assert [(each.key, each.value) for each in page.entries] == [(A, b"\x05"), (B, b"\x01")]
    async with lab.store.watch(PREFIX) as batches:
        first = await anext(batches)
        assert [change.value for change in first.changes] == [b"\x05", b"\x01"]
    assert lab.verdict() is None
    assert {noted.outcome for noted in lab.book.operations} == {"ok", "fail"}


async def test_keys_that_are_no_map_are_left_alone(lab: Lab) -> None:
    await lab.store.commit(Commit((Put("shop/member/1", b"x"),)))
    found = await lab.inner.get("shop/member/1")
    assert found is not None
    assert found.value == b"x"
    assert lab.book.operations == []


async def test_a_stale_read_is_found(lab: Lab) -> None:
    await lab.put(A, b"\x01")
    old = await lab.inner.get(A)
    await lab.put(A, b"\x02")

    async def stale(key: str) -> Entry | None:
        return old

    lab.inner.get = stale  # type: ignore[method-assign]
    await lab.store.get(A)
    broken = lab.verdict()
    assert broken is not None
    assert broken.promise == "map stock"
    assert "the map 'stock' is not linearizable" in broken.sentence
    assert "(write 1)" in broken.text()


async def test_an_unknown_write_may_be_seen_or_not(lab: Lab) -> None:
    inner = lab.inner.commit

    async def unanswered(commit: Commit) -> int:
        await inner(commit)
        raise Unavailable("no answer", outcome=Outcome.UNKNOWN)

    lab.inner.commit = unanswered  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await lab.put(A, b"\x01")
    assert lab.verdict() is None
    await lab.store.get(A)
    assert lab.verdict() is None


async def test_a_failed_write_that_took_effect_is_found(lab: Lab) -> None:
    inner = lab.inner.commit

    async def lies(commit: Commit) -> int:
        await inner(commit)
        raise Unavailable("not done", outcome=Outcome.NOT_APPLIED)

    lab.inner.commit = lies  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await lab.put(A, b"\x01")
    await lab.store.get(A)
    broken = lab.verdict()
    assert broken is not None
    assert "did not happen" in broken.sentence


async def test_a_write_that_takes_effect_twice_is_found(lab: Lab) -> None:
    await lab.put(A, b"\x01")
    entry = await lab.inner.get(A)
    assert entry is not None
    await lab.inner.commit(Commit((Put(A, entry.value),)))
    await lab.store.get(A)
    broken = lab.verdict()
    assert broken is not None
    assert broken.promise == "one effect"
    assert "took effect twice" in broken.sentence


async def test_a_version_that_changes_is_found(lab: Lab) -> None:
    version = await lab.put(A, b"\x01")
    await lab.store.get(A)
    lab.book.learn(A, version, 99)
    broken = lab.verdict()
    assert broken is not None
    assert broken.promise == "versions"


async def test_a_torn_transaction_is_found(lab: Lab) -> None:
    inner = lab.inner.commit

    async def torn(commit: Commit) -> int:
        """Write one key at a time: who looks in between sees half of it."""
        revision = await inner(Commit(commit.puts[:1], (), commit.checks))
        await lab.store.get(A)
        await lab.store.get(B)
        await inner(Commit(commit.puts[1:]))
        return revision

    lab.inner.commit = torn  # type: ignore[method-assign]
    await lab.store.commit(Commit((Put(A, b"\x01"), Put(B, b"\x01"))))
    # Both keys by themselves are linearizable: it takes the transaction to see what is wrong.
    broken = lab.verdict()
    assert broken is not None
    assert broken.promise == "transactions"


def app_on(lab: Lab) -> tuple[App, Any, Transactional[[], None], Call]:
    app = App("shop")
    stock = app.map("stock", int)

    @app.transactional
    async def move(txn: Transaction) -> None:
        one, other = await txn.get(stock, "a", 0), await txn.get(stock, "b", 0)
        for step in interleaved:
            await step()
        interleaved.clear()
        txn.put(stock, "a", one + other + 1)

    interleaved: list[Callable[[], Any]] = []
    watch_transactions(app, lab.book)
    watch_transactions(app, lab.book)  # once is enough
    entropy = SystemEntropy()
    bindings = {
        stock: MapBinding(store=lab.store, prefix=PREFIX, entropy=entropy),
        Transactional: TransactionBinding(store=lab.store, entropy=entropy),
    }
    call = Call("node-1", bindings)
    CURRENT.set(call)
    interleaved.append(lambda: stock.put("b", 7))
    return app, stock, move, call


async def test_a_transaction_that_runs_again_after_a_conflict_is_right(lab: Lab) -> None:
    _, stock, move, _ = app_on(lab)
    await move()
    assert await stock.get("a") == 8
    assert lab.verdict() is None


async def test_a_transaction_whose_commit_checks_nothing_is_found(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transaction, "_checks", lambda self: ())
    _, stock, move, _ = app_on(lab)
    await move()
    assert await stock.get("a") == 1
    await stock.get("b")
    broken = lab.verdict()
    assert broken is not None
    assert broken.promise == "transactions"


def test_calls_reach_their_handler_at_most_once_and_not_when_they_are_refused() -> None:
    def verdict(*handlers: str, outcome: str = "ok", refused: bool = False) -> str | None:
        ticks = itertools.count()
        book = Notebook("shop", lambda: next(ticks))
        call = book.call("buyer-1", "Shop.buy", "node-1", quiet=False)
        for host in handlers:
            ran = book.begin(host, "handle", call.key)
            call.handled.append(ran)
            book.ok(ran)
        if outcome == "ok":
            book.ok(call)
        call.refused = refused
        broken = judge(book)
        return None if broken is None else broken.sentence

    assert verdict("node-1") is None
    assert verdict(outcome="unknown") is None
    assert verdict("node-1", outcome="unknown") is None
    assert verdict(outcome="unknown", refused=True) is None
    assert "reached its handler twice: on node-1, node-2" in str(verdict("node-1", "node-2"))
    assert "was told that its call of Shop.buy reached nobody, but node-1 ran it" in str(
        verdict("node-1", outcome="unknown", refused=True)
    )
    assert "got an answer to Shop.buy that no handler gave" in str(verdict())


def test_a_full_notebook_is_inconclusive() -> None:
    book = Notebook("shop", lambda: 0, limit=1)
    for _ in range(3):
        book.keep(book.begin("node-1", "get", "stock/a"))
    broken = judge(book)
    assert broken is not None
    assert broken.inconclusive


@pytest.mark.parametrize("ends_late", [False, True])
def test_what_saw_more_than_is_recorded_is_not_blamed(ends_late: bool) -> None:
    """A read that is under way when the notebook is full may see a write that began later."""
    ticks = itertools.count()
    book = Notebook("shop", lambda: next(ticks), limit=1)
    read = book.begin("node-1", "get", "stock/a")
    book.keep(read)
    if not ends_late:
        book.ok(read, "1 (write 1)")
    book.keep(book.begin("node-2", "put", "stock/a", "1 (write 1)"))
    if ends_late:
        book.ok(read, "1 (write 1)")
    broken = judge(book)
    assert broken is not None
    assert broken.promise == "map stock"
    assert broken.inconclusive is ends_late


async def test_a_write_that_a_fence_should_have_refused_is_found(lab: Lab) -> None:
    async def fenced(name: str, token: int, key: str) -> None:
        await lab.store.commit(Commit((Put(key, b"\x01"),), fences=(Fence(name, token),)))

    await fenced("lock", 3, A)
    await fenced("other", 1, A)
    await fenced("lock", 7, A)
    await fenced("lock", 7, B)
    with pytest.raises(Fenced):
        await fenced("lock", 3, A)
    assert lab.verdict() is None
    inner = lab.inner.commit
    lab.inner.commit = lambda commit: inner(Commit(commit.puts))  # type: ignore[method-assign]
    await fenced("lock", 3, A)
    broken = lab.verdict()
    assert broken is not None
    assert broken.promise == "fences"
    assert "wrote with the token 3 after node-1 had with the later token 7 of 'lock'" in broken.sentence


class Till:
    """Calls of one idempotent method, and its runs, as a notebook has them."""

    def __init__(self) -> None:
        ticks = itertools.count()
        self.book = Notebook("shop", lambda: next(ticks))

    def run(self, host: str, key: str = "k") -> Callable[[], None]:
        ran = self.book.begin(host, "run", "Till.spend", key)
        self.book.under("Till.spend", key).runs.append(ran)
        return lambda: self.book.ok(ran)

    def call(self, host: str, key: str = "k") -> Callable[[bytes], None]:
        call = self.book.call(host, "Till.spend", "node-1", quiet=False)
        call.handled.append(self.book.begin("node-1", "handle", "Till.spend"))

        def end(reply: bytes) -> None:
            self.book.ok(call)
            self.book.under("Till.spend", key).replies.append((call, reply))

        return end

    def verdict(self) -> Broken | None:
        return judge(self.book)


def test_a_method_that_ran_again_for_want_of_a_reply_is_not_accused() -> None:
    till = Till()
    till.call("a")  # It never hears of it: its node dies.
    till.run("node-1")
    till.run("node-2")()
    for host in ("a", "b"):
        till.call(host)(b"receipt")
    till.run("node-2", "other")()
    till.call("a", "other")(b"another")
    assert till.verdict() is None


def test_different_replies_to_one_key_are_found() -> None:
    till = Till()
    first, second = till.call("a"), till.call("b")
    till.run("node-1")()
    till.run("node-2")()
    first(b"receipt")
    second(b"another")
    broken = till.verdict()
    assert broken is not None
    assert broken.promise == "idempotent"
    assert broken.sentence == "a and b had different replies to one key of Till.spend: 'k'"
    assert len(broken.witness) == 4


def test_a_method_that_runs_again_after_the_reply_was_given_is_found() -> None:
    till = Till()
    first = till.call("a")
    till.run("node-1")()
    first(b"receipt")
    second = till.call("b")
    till.run("node-2")()
    second(b"receipt")
    broken = till.verdict()
    assert broken is not None
    assert broken.sentence == "Till.spend ran again on node-2, after a had the reply to its key 'k'"
