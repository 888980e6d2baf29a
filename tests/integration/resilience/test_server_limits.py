"""A node takes no more than it can do, turns the rest away before it begins, and the callers go elsewhere."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from resilience_place import calling, eventually

from coterie import App, Outcome, Overloaded, Policy, Retry, priority
from coterie.context import current
from coterie.errors import InvalidConfiguration
from coterie.resilience import AdaptiveLimitConfig, QueueConfig, RetryBudgetConfig
from coterie.testing import Cluster

PATIENT = Policy(retry=Retry(attempts=50, base_s=0.01, longest_s=0.05, budget=RetryBudgetConfig(burst=1000)))


class Site:
    def __init__(self) -> None:
        self.busy: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []
        self.gate = asyncio.Event()

    async def work(self, name: str, takes_s: float | None) -> None:
        node = current().node
        self.order.append(name)
        self.busy[node] += 1
        self.most[node] = max(self.most[node], self.busy[node])
        await (self.gate.wait() if takes_s is None else asyncio.sleep(takes_s))
        self.busy[node] -= 1


def an_app(site: Site, app_policy: Policy | None, limit: int | AdaptiveLimitConfig) -> tuple[App, type]:
    app = App("shop", policy=app_policy)

    @app.service(limit=limit)
    class Work:
        async def usual(self, name: str, takes_s: float | None = None) -> None:
            await site.work(name, takes_s)

        @priority(0)
        async def urgent(self, name: str) -> None:
            await site.work(name, None)

    return app, Work


async def test_callers_that_are_turned_away_go_elsewhere() -> None:
    site = Site()
    app, cls = an_app(site, PATIENT, 2)
    work = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        await asyncio.gather(*(work.usual(str(n), 0.01) for n in range(60)))
    assert len(site.order) == 60, "each exactly once, though no method is idempotent"
    assert set(site.most.values()) == {2}


async def test_who_waits_too_long_is_turned_away_and_nothing_has_happened() -> None:
    site = Site()
    app, cls = an_app(site, Policy(retry=None), 1)
    work = app.client(cls)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster):
        first = asyncio.ensure_future(work.usual("first"))
        await eventually(lambda: site.order)
        with pytest.raises(Overloaded, match=r"Work on shop-1 has 1 calls under way") as caught:
            await work.usual("second")
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert caught.value.retry_after_s
        site.gate.set()
        await first
    assert site.order == ["first"]


async def test_the_important_go_first() -> None:
    site = Site()
    app, cls = an_app(site, PATIENT, 1)
    work = app.client(cls)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster):
        calls = [asyncio.ensure_future(work.usual("first"))]
        await eventually(lambda: site.order)
        calls.append(asyncio.ensure_future(work.usual("later")))
        [limiter] = cluster.nodes[0]._dispatcher._methods["Work.usual"].limiters  # type: ignore[union-attr]
        await eventually(lambda: limiter.waiting == 1)
        calls.append(asyncio.ensure_future(work.urgent("urgent")))
        await eventually(lambda: limiter.waiting == 2)
        site.gate.set()
        await asyncio.gather(*calls)
    assert site.order == ["first", "urgent", "later"]


async def test_an_adaptive_limit_lets_ordinary_work_through() -> None:
    site = Site()
    app, cls = an_app(site, Policy(retry=None), AdaptiveLimitConfig())
    work = app.client(cls)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster):
        for _ in range(5):
            await asyncio.gather(*(work.usual(str(n), 0.001) for n in range(20)))
    assert len(site.order) == 100


async def test_nobody_waits_where_there_is_no_queue() -> None:
    site, app = Site(), App("shop", policy=Policy(retry=None))

    @app.service(limit=1, queue=QueueConfig(length=0))
    class Work:
        async def usual(self, name: str) -> None:
            await site.work(name, None)

    work = app.client(Work)
    async with Cluster(app, nodes=1) as cluster, calling(app, cluster):
        first = asyncio.ensure_future(work.usual("first"))
        await eventually(lambda: site.order)
        with pytest.raises(Overloaded, match="1 calls under way and 0 waiting"):
            await work.usual("second")
        node = cluster.nodes[0]
        shown = {family.name: family.samples for family in node.collect()}
        assert [each.value for each in shown["coterie_service_limit"]] == [1]
        assert [each.value for each in shown["coterie_service_waiting"]] == [0]
        assert [each.labels for each in shown["coterie_policy_events_total"]] == [("Work.usual", "shed")]
        site.gate.set()
        await first
    with pytest.raises(InvalidConfiguration, match="a queue and no limit"):
        app.service(queue=QueueConfig())(type("Other", (Work,), {}))


def test_a_priority_is_one_of_four() -> None:
    with pytest.raises(InvalidConfiguration, match="0, 1, 2 or 3, not 4"):
        priority(4)
