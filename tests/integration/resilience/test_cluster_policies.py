"""Policies at work between the nodes of a cluster: fail-over, repeats, ejection, hedges, deadlines."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
from resilience_place import calling, counted, eventually

from coterie import (
    App,
    Hedge,
    Outcome,
    Overloaded,
    Policy,
    RateLimited,
    Retry,
    Unavailable,
    deadline,
    idempotent,
    policy,
)
from coterie.context import current
from coterie.errors import DeadlineExceeded, InvalidConfiguration, RemoteError
from coterie.resilience import (
    BreakerConfig,
    ConsistentHash,
    PolicyEvent,
    QueueConfig,
    Rate,
    RetryBudgetConfig,
    RoundRobin,
)
from coterie.testing import Cluster

QUICK = Retry(base_s=0.001, longest_s=0.002)
GENEROUS = Retry(attempts=6, base_s=0.001, longest_s=0.002, budget=RetryBudgetConfig(ratio=5, burst=1000))


class Faults:
    """What each node does with calls, by the number in its name."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.slow: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.retries: list[int] = []
        self.release = asyncio.Event()
        self.on_call: Callable[[], None] = lambda: None

    async def work(self) -> str:
        here = current()
        name = here.node[-1]
        self.calls[name] += 1
        self.retries.append(here.metadata.retry if here.metadata else 0)
        self.on_call()
        if name in self.failing:
            raise Unavailable(f"{name} is broken")
        if name in self.slow:
            await self.release.wait()
        return name


def an_app(faults: Faults, app_policy: Policy | None = None) -> tuple[App, type]:
    app = App("shop", policy=app_policy)

    @app.service
    class Work:
        async def once(self) -> str:
            return await faults.work()

        @idempotent(by_nature=True)
        async def again(self, key: str = "") -> str:
            return await faults.work()

        @idempotent(by_nature=True)
        @policy(Policy(hedge=Hedge(min_calls=5), retry=GENEROUS))
        async def hedged(self) -> str:
            return await faults.work()

        @idempotent(by_nature=True)
        async def bug(self) -> str:
            await faults.work()
            raise ZeroDivisionError("a bug")

    return app, Work


@pytest.fixture
async def faults() -> AsyncIterator[Faults]:
    faults = Faults()
    yield faults
    faults.release.set()


async def test_an_idempotent_call_is_repeated_elsewhere(faults: Faults) -> None:
    app, cls = an_app(faults, Policy(retry=GENEROUS))
    work = app.client(cls)
    async with Cluster(app, nodes=3) as cluster, calling(app, cluster):
        faults.failing = {"1", "2"}
        assert {await work.again() for _ in range(10)} == {"3"}
        assert max(faults.retries) > 0, "the metadata tell the attempt"
        failed = faults.calls["1"] + faults.calls["2"]
        assert failed > 0
        assert faults.calls["3"] == 10


async def test_what_is_not_idempotent_is_not_repeated(faults: Faults) -> None:
    app, cls = an_app(faults)
    work = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        faults.failing = {"1", "2"}
        with pytest.raises(Unavailable) as caught:
            await work.once()
        assert caught.value.outcome is Outcome.UNKNOWN
        assert faults.calls.total() == 1


async def test_repeats_stay_within_the_budget(faults: Faults) -> None:
    budget = RetryBudgetConfig(ratio=0.1, floor_per_s=0, burst=5)
    app, cls = an_app(faults, Policy(retry=Retry(base_s=0, longest_s=0, budget=budget)))
    work = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        faults.failing = {"1", "2"}
        for _ in range(100):
            with pytest.raises(Unavailable):
                await work.again()
    assert faults.calls.total() <= 100 + 5 + 10


async def test_a_failing_node_is_left_out_and_others_are_not(faults: Faults) -> None:
    breaker = BreakerConfig(min_calls=4, open_s=30.0)
    app, cls = an_app(faults, Policy(retry=None, breaker=breaker))
    work = app.client(cls, balancer=RoundRobin())
    async with Cluster(app, nodes=3) as cluster, calling(app, cluster):
        faults.failing = {"2"}
        for _ in range(30):
            with suppress(Unavailable):
                await work.again()
        assert faults.calls["2"] == 4, "as many as it takes to be sure"
        faults.failing = {"1", "2", "3"}
        for _ in range(2):
            faults.calls.clear()
            for _ in range(30):
                with pytest.raises(Unavailable):
                    await work.again()
        assert len(faults.calls) >= 2, "never more than half are left out"


async def test_bugs_count_against_a_node_and_declared_errors_do_not(faults: Faults) -> None:
    app, cls = an_app(faults, Policy(breaker=BreakerConfig(min_calls=4, open_s=30.0)))
    work = app.client(cls, balancer=RoundRobin())
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster) as connection:
        for _ in range(20):
            with pytest.raises(RemoteError):
                await work.bug()
        assert counted(connection)["open"] == 2


async def test_a_slow_call_gets_company(faults: Faults) -> None:
    app, cls = an_app(faults)
    work = app.client(cls)
    async with Cluster(app, nodes=3) as cluster, calling(app, cluster):
        for _ in range(20):
            await work.hedged()
        faults.slow = {"1"}
        assert {await work.hedged() for _ in range(20)} <= {"2", "3"}
        assert faults.calls["1"] > 0


async def test_the_deadline_bounds_all_attempts(faults: Faults) -> None:
    patient = Retry(attempts=100, base_s=0.01, longest_s=0.01, budget=RetryBudgetConfig(burst=1000))
    app, cls = an_app(faults, Policy(retry=patient))
    work = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        faults.failing = {"1", "2"}
        until = asyncio.get_running_loop().time() + 0.1
        with deadline(0.1), pytest.raises((Unavailable, DeadlineExceeded)) as caught:
            await work.again()
        assert caught.value.outcome is Outcome.UNKNOWN, "also if the last attempt never began"
        assert asyncio.get_running_loop().time() < until + 0.1
        with deadline(0.0), pytest.raises(DeadlineExceeded) as late:
            await work.again()
        assert late.value.outcome is Outcome.NOT_APPLIED


async def test_an_error_is_of_all_attempts(faults: Faults) -> None:
    """The first attempt may have had its effect; that the second reached nobody does not change that."""
    app, cls = an_app(faults)
    work = app.client(cls)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster):
        faults.failing = {"1"}
        faults.on_call = lambda: cluster.network.cut("caller", cluster.nodes[0].name)
        with deadline(0.3), pytest.raises((Unavailable, DeadlineExceeded)) as caught:
            await work.again()
        assert caught.value.outcome is Outcome.UNKNOWN
        assert faults.calls.total() == 1


async def test_an_attempt_that_takes_too_long_is_repeated_elsewhere(faults: Faults) -> None:
    app, cls = an_app(faults, Policy(attempt_timeout_s=0.05, retry=GENEROUS))
    work = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        faults.slow = {"1"}
        assert {await work.again() for _ in range(3)} == {"2"}


async def test_a_key_stays_with_its_node(faults: Faults) -> None:
    app, cls = an_app(faults)
    work = app.client(cls, balancer=ConsistentHash(), key="key")
    async with Cluster(app, nodes=3) as cluster, calling(app, cluster):
        for key in "abcdefgh":
            assert len({await work.again(key) for _ in range(5)}) == 1
        assert len(faults.calls) > 1


async def test_nodes_that_die_are_not_noticed_by_callers(faults: Faults) -> None:
    app, cls = an_app(faults)
    work = app.client(cls)
    async with Cluster(app, nodes=3) as cluster, calling(app, cluster):
        for _ in range(20):
            await work.once()
        await cluster.kill(0)
        assert {await work.once() for _ in range(50)} == {"2", "3"}


async def test_a_client_has_a_rate_and_a_limit_of_its_own(faults: Faults) -> None:
    app, cls = an_app(faults)
    bounds = Policy(rate=Rate(rate=1, per=60, burst=3), limit=1, queue=QueueConfig(length=0), retry=None)
    work, free = app.client(cls, policy=bounds), app.client(cls)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster) as connection:
        faults.slow = {"1"}
        first = asyncio.ensure_future(work.once())
        await eventually(lambda: faults.calls["1"] == 1)
        with pytest.raises(Overloaded, match="Work has 1 calls under way") as full:
            await work.again()
        assert full.value.outcome is Outcome.NOT_APPLIED
        faults.release.set()
        assert await first == await work.once() == "1"
        with pytest.raises(RateLimited, match="the rate of Work is used up") as limited:
            await work.once()
        assert 50 < (limited.value.retry_after_s or 0) <= 60
        assert await free.once() == "1"
        assert faults.calls["1"] == 3, "what was refused has not begun"
        assert (counted(connection)["shed"], counted(connection)["limited"]) == (1, 1)


async def test_who_listens_is_told_of_each_attempt(faults: Faults) -> None:
    app, cls = an_app(faults, Policy(retry=GENEROUS))
    work, events = app.client(cls), list[PolicyEvent]()

    @app.on_policy
    def broken(event: PolicyEvent) -> None:
        raise ZeroDivisionError

    app.on_policy(events.append)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster) as connection:
        await work.once()
        assert [(e.kind, e.name, e.attempt) for e in events] == [("attempt", "Work.once", 1)]
        assert events[0].target == connection._core.directory.endpoints("Work")[0].address
        events.clear()
        faults.failing = {"1"}
        with pytest.raises(Unavailable):
            await work.again()
        attempts = [event.attempt for event in events if event.kind == "attempt"]
        assert attempts == [1, 2, 3, 4, 5, 6]
        assert faults.calls["1"] == 7
        assert "attempt" not in counted(connection), "what is counted at every call is counted elsewhere"


async def test_a_wrong_override_refuses_the_start(faults: Faults) -> None:
    app, _ = an_app(faults)
    for table, says in (
        ({"Wrok": {"timeout_s": 1}}, "did you mean 'Work'"),
        ({"Work.onze": {"timeout_s": 1}}, "did you mean 'Work.once'"),
        ({"timeout_s": "soon"}, r"coterie.toml \[policy\]: timeout_s"),
        ({"Work": {"retry": {"attempts": 0}}}, r"coterie.toml \[policy.Work\]: retry: attempts must be"),
    ):
        async with Cluster(app, nodes=1) as cluster:
            with pytest.raises(InvalidConfiguration, match=says):
                await calling(app, cluster, table).__aenter__()
