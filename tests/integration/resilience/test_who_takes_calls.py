"""Which node takes a call: by weight, by zone, and none that is about to leave."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from resilience_place import calling, eventually

from coterie import App
from coterie.context import current
from coterie.errors import InvalidConfiguration
from coterie.node import NodeConfig
from coterie.resilience import Balancer, LeastRequests, Local, Weighted
from coterie.testing import Cluster


class Site:
    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()


def an_app(site: Site) -> tuple[App, type]:
    app = App("shop")

    @app.service
    class Work:
        async def once(self) -> None:
            site.calls[current().node[-1]] += 1
            await site.gate.wait()

    return app, Work


async def test_a_canary_gets_its_twentieth() -> None:
    site = Site()
    app, cls = an_app(site)
    work = app.client(cls, balancer=Weighted())
    async with Cluster(app, nodes=1) as cluster:
        await cluster.add(weight=1 / 19)
        async with calling(app, cluster):
            for _ in range(200):
                await work.once()
    assert site.calls == {"1": 190, "2": 10}


@pytest.mark.parametrize("inner", [LeastRequests(), Weighted()])
async def test_calls_stay_in_the_zone_of_their_caller(inner: Balancer) -> None:
    site = Site()
    app, cls = an_app(site)
    near, west = app.client(cls, balancer=Local(inner=inner)), app.client(cls, balancer=Local("west"))
    async with Cluster(app, nodes=1) as cluster:
        await cluster.add(zone="east")
        await cluster.add(zone="west")
        async with calling(app, cluster, zone="east"):
            for _ in range(30):
                await near.once()
            assert site.calls == {"2": 30}
            for _ in range(30):
                await west.once()
            assert site.calls == {"2": 30, "3": 30}
        async with calling(app, cluster, zone="north"):
            for _ in range(60):
                await near.once()
        assert min(site.calls.values()) > 0, "a zone without the service calls all others"


async def test_a_node_that_drains_finishes_what_it_has_and_gets_nothing_new() -> None:
    site = Site()
    app, cls = an_app(site)
    work = app.client(cls)
    async with Cluster(app, nodes=2) as cluster, calling(app, cluster):
        site.gate.clear()
        calls = [asyncio.ensure_future(work.once()) for _ in range(10)]
        await eventually(lambda: site.calls.total() == 10)
        assert site.calls["1"] > 0
        before = site.calls["1"]
        drained = asyncio.ensure_future(cluster.nodes[0].drain())
        await eventually(lambda: cluster.nodes[0]._draining)
        later = [asyncio.ensure_future(work.once()) for _ in range(10)]
        await eventually(lambda: site.calls.total() == 20)
        assert site.calls["1"] == before
        assert not drained.done()
        site.gate.set()
        await asyncio.gather(*calls, *later, drained)


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"weight": float("nan")}, {"zone": "a\nb"}])
def test_a_wrong_weight_or_zone_is_refused(wrong: dict[str, float | str]) -> None:
    with pytest.raises(InvalidConfiguration):
        NodeConfig(**wrong)  # type: ignore[arg-type]
