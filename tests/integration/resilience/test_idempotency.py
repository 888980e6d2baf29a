"""One effect and the first reply for all calls with one key, whoever makes them and wherever they go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from resilience_place import calling, eventually

from coterie import (
    App,
    DeadlineExceeded,
    KeyReused,
    Outcome,
    Policy,
    Retry,
    Unavailable,
    deadline,
    idempotency_key,
    idempotent,
)
from coterie.context import current
from coterie.errors import InvalidArgument, InvalidConfiguration, TooLarge
from coterie.resilience import RetryBudgetConfig
from coterie.resilience.keys import check_key
from coterie.services import describe
from coterie.testing import Cluster

POLICY = Policy(retry=Retry(attempts=20, base_s=0.001, longest_s=0.01, budget=RetryBudgetConfig(burst=1000)))


class SoldOut(Exception):
    pass


class Bank:
    """Where the effects are."""

    def __init__(self) -> None:
        self.charged: Counter[str] = Counter()
        self.nodes: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.effect_first = False
        self.keys: set[str | None] = set()

    async def charge(self, name: str) -> int:
        here = current()
        self.keys.add(here.metadata.idempotency_key if here.metadata else None)
        self.nodes.append(here.node)
        if self.effect_first:
            self.charged[name] += 1
            await self.gate.wait()
            return self.charged[name]
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise Unavailable("the bank does not answer")
        self.charged[name] += 1
        return self.charged[name]


def an_app(bank: Bank) -> tuple[App, type]:
    app = App("shop", policy=POLICY)
    app.error(SoldOut)

    @app.service
    class Payments:
        @idempotent
        async def charge(self, name: str, options: dict[str, int] | None = None) -> int:
            return await bank.charge(name)

        @idempotent
        async def sell(self, name: str) -> None:
            await bank.charge(name)
            raise SoldOut(name)

        @idempotent
        async def print(self, size: int) -> bytes:
            await bank.charge("printed")
            return b"x" * size

        async def plain(self, name: str) -> int:
            return await bank.charge(name)

        @idempotent
        async def outer(self, name: str) -> int:
            return await client.charge(name) + await client.charge(name)

    client = app.client(Payments)
    return app, Payments


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    bank = Bank()
    yield bank
    bank.gate.set()


async def test_a_key_has_one_effect_and_the_first_reply(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=3) as cluster, calling(app, cluster):
        with idempotency_key("order-1"):
            assert [await payments.charge("ada") for _ in range(20)] == [1] * 20
        with idempotency_key("order-2"):
            assert await payments.charge("ada") == 2
        assert bank.charged["ada"] == 2
        assert bank.keys == {"order-1", "order-2"}


async def test_concurrent_duplicates_wait_for_the_first(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=3) as cluster, calling(app, cluster):
        bank.gate.clear()
        with idempotency_key("order-1"):
            calls = [asyncio.ensure_future(payments.charge("ada")) for _ in range(10)]
        await eventually(lambda: bank.nodes)
        bank.gate.set()
        assert await asyncio.gather(*calls) == [1] * 10
        assert bank.charged["ada"] == len(bank.nodes) == 1


async def test_a_key_with_other_arguments_is_refused(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        with idempotency_key("order-1"):
            await payments.charge("ada", {"a": 1, "b": 2})
            assert await payments.charge("ada", {"b": 2, "a": 1}) == 1, "the same arguments in another order"
            with pytest.raises(KeyReused, match=r"Payments\.charge was used with other arguments") as caught:
                await payments.charge("bob")
            assert caught.value.outcome is Outcome.NOT_APPLIED
            bank.gate.clear()
            first = asyncio.ensure_future(payments.print(1))
            await eventually(lambda: len(bank.nodes) == 2)
            with pytest.raises(KeyReused):
                await payments.print(2)
            bank.gate.set()
            assert await first == b"x"
        assert bank.charged == {"ada": 1, "printed": 1}


async def test_a_declared_error_is_a_reply_and_any_other_is_not(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        with idempotency_key("order-1"):
            for _ in range(3):
                with pytest.raises(SoldOut, match="tea"):
                    await payments.sell("tea")
            assert bank.charged["tea"] == 1
            bank.failures = 3
            assert await payments.charge("ada") == 1, "it is repeated until it works"
            assert len(bank.nodes) == 1 + 4


async def test_repeats_of_a_call_without_a_key_have_one_effect(bank: Bank) -> None:
    """The caller cannot know whether a lost call had its effect; the key that it made up does."""
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=3) as cluster, calling(app, cluster):
        bank.gate.clear()
        bank.effect_first = True
        call = asyncio.ensure_future(payments.charge("ada"))
        await eventually(lambda: bank.nodes)
        for node in cluster.nodes:
            cluster.network.cut("caller", node.name)  # The reply is lost, and the node does not know.
        for node in cluster.nodes:
            cluster.network.mend("caller", node.name)
        bank.gate.set()
        assert await call == 1
        assert bank.charged["ada"] == 1


async def test_when_the_first_dies_a_duplicate_runs_it_again_after_its_lease(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=2, lease_s=1.0) as cluster, calling(app, cluster):
        bank.gate.clear()
        with idempotency_key("order-1"):
            first = asyncio.ensure_future(payments.charge("ada"))
            await eventually(lambda: bank.nodes)
            dead = next(index for index, node in enumerate(cluster.nodes) if node.name == bank.nodes[0])
            await cluster.kill(dead)
            second = asyncio.ensure_future(payments.charge("ada"))
            await eventually(lambda: len(bank.nodes) == 2)
            bank.gate.set()
            assert await first == await second == 1
        assert len(set(bank.nodes)) == 2


async def test_a_caller_that_leaves_leaves_its_reply_to_the_next(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        bank.gate.clear()
        bank.effect_first = True
        with idempotency_key("order-1"):
            first = asyncio.ensure_future(payments.charge("ada"))
            await eventually(lambda: bank.nodes)
            first.cancel()
            await asyncio.wait([first])
            bank.gate.set()
            assert await payments.charge("ada") == 1
    assert first.cancelled()
    assert bank.charged["ada"] == 1


async def test_a_call_whose_time_was_over_gives_its_key_free(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=2, lease_s=30.0) as cluster, calling(app, cluster):
        bank.gate.clear()
        with idempotency_key("order-1"):
            with deadline(0.05), pytest.raises((DeadlineExceeded, Unavailable)):
                await payments.charge("ada")
            bank.gate.set()
            assert await payments.charge("ada") == 1


async def test_in_process_and_without_a_mark(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=1):
        with idempotency_key("order-1"):
            assert [await payments.charge("ada") for _ in range(3)] == [1, 1, 1]
            assert [await payments.plain("bob") for _ in range(3)] == [1, 2, 3]
            assert await payments.outer("eve") == 3, "what a call leads to has keys of its own"


async def test_a_reply_that_is_too_large_to_keep_still_has_one_effect(bank: Bank) -> None:
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        with idempotency_key("order-1"):
            assert len(await payments.print(2_000_000)) == 2_000_000
            with pytest.raises(TooLarge, match="the first reply cannot be repeated"):
                await payments.print(2_000_000)
        assert bank.charged["printed"] == 1


async def test_nothing_is_left_under_way(bank: Bank) -> None:
    """When all calls have ended only kept replies are in the store, and no lease is renewed."""
    app, cls = an_app(bank)
    payments = app.client(cls)
    async with Cluster(app, nodes=2, lease_s=1.0) as cluster, calling(app, cluster):
        await payments.charge("ada")
        with pytest.raises(SoldOut):
            await payments.sell("tea")
        bank.failures = 100
        with pytest.raises(Unavailable):
            await payments.charge("bob")
        assert cluster._engine is not None
        page = await cluster._engine.store.scan("shop/reply/")
        assert len(page.entries) == 2
        ledgers = [node._core.ledger for node in cluster.nodes]
        await eventually(
            lambda: all(each is None or each._keeper is None or each._keeper.done() for each in ledgers)
        )


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b", "line\n", 3])
def test_a_key_is_some_printable_text(key: Any) -> None:
    with pytest.raises(InvalidArgument, match="an idempotency key has 1 to 255 printable characters"):
        check_key(key)


def test_a_stream_cannot_be_idempotent() -> None:
    class Bad:
        @idempotent
        async def items(self) -> AsyncIterator[int]:
            yield 1

    with pytest.raises(InvalidConfiguration, match=r"Bad\.items is a stream"):
        describe(Bad)
