"""What a client without Coterie sees: 429 and 503 with Retry-After, Idempotency-Key, Coterie-Timeout."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from coterie import App, idempotent
from coterie.errors import Unavailable
from coterie.node import Node, NodeConfig


@asynccontextmanager
async def http(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """Run one node of the app and call it."""
    node = Node(app, NodeConfig(engine="memory:", listen="127.0.0.1:0", http="127.0.0.1:0"))
    await node.start()
    try:
        async with httpx.AsyncClient(base_url=node.http_address, timeout=20) as client:
            yield client
    finally:
        await node.close()


async def test_a_rate_that_is_used_up_is_a_429_and_says_when_to_come_back() -> None:
    app = App("shop")
    limit = app.rate_limit("api", rate=1, per=30.0, burst=2)

    @app.service
    class Prices:
        async def price(self, tenant: str) -> int:
            await limit.acquire(tenant)
            return 3

    async with http(app) as client:
        for _ in range(2):
            assert (await client.post("/Prices/price", json={"tenant": "ada"})).json() == 3
        refused = await client.post("/Prices/price", json={"tenant": "ada"})
        assert refused.status_code == 429
        assert 29 <= int(refused.headers["retry-after"]) <= 30
        assert refused.json()["code"] == "rate_limited"
        other = await client.post("/Prices/price", json={"tenant": "bob"})
        assert other.status_code == 200, "each tenant has units of its own"


async def test_a_key_has_one_effect_and_the_first_reply() -> None:
    app, effects = App("shop"), Counter[str]()
    gate = asyncio.Event()

    @app.service
    class Payments:
        @idempotent
        async def charge(self, name: str) -> int:
            effects[name] += 1
            await gate.wait()
            if name == "broken" and effects[name] == 1:
                raise Unavailable("the bank does not answer")
            return effects.total()

    async def charge(client: httpx.AsyncClient, name: str, key: str) -> httpx.Response:
        return await client.post(
            "/Payments/charge", json={"name": name}, headers={"Idempotency-Key": f'"{key}"'}
        )

    async with http(app) as client:
        calls = [asyncio.ensure_future(charge(client, "ada", "order-1")) for _ in range(5)]
        async with asyncio.timeout(10):
            while not effects:
                await asyncio.sleep(0.002)
        gate.set()
        assert [reply.json() for reply in await asyncio.gather(*calls)] == [1] * 5
        assert (await charge(client, "ada", "order-1")).json() == 1
        assert effects == {"ada": 1}
        reused = await charge(client, "bob", "order-1")
        assert (reused.status_code, reused.json()["code"]) == (422, "key_reused")
        assert (await charge(client, "bob", "order-2")).json() == 2
        assert (await charge(client, "broken", "order-3")).status_code == 503
        assert (await charge(client, "broken", "order-3")).json() == 4, "a failure is no reply"


async def test_what_a_node_cannot_take_is_a_503_and_says_when_to_come_back() -> None:
    app, gate = App("shop"), asyncio.Event()
    begun = 0

    @app.service(limit=1)
    class Slow:
        async def work(self) -> str:
            nonlocal begun
            begun += 1
            await gate.wait()
            return "done"

    async with http(app) as client:
        first = asyncio.ensure_future(client.post("/Slow/work"))
        async with asyncio.timeout(10):
            while not begun:
                await asyncio.sleep(0.002)
        refused = await client.post("/Slow/work")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["code"] == "overloaded"
        late = await client.post("/Slow/work", headers={"Coterie-Timeout": "0.02"})
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert begun == 1, "neither has begun"
        gate.set()
        assert (await first).json() == "done"
