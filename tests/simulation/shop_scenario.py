"""The example shop on three simulated nodes, under faults: the books must balance."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from coterie.errors import CoterieError
from coterie.simulation import World
from coterie.simulation.nodes import connected, run_node
from coterie.simulation.standin import StandIn

NODES = ("a", "b", "c")
SKUS = ("tea", "cup")


async def buy(shop: Any, buyer: int, orders: int) -> int:
    """Place orders, each repeated until it has an answer; return how many were sold."""
    from shop import Declined, Order, SoldOut

    sold = 0
    for number in range(orders):
        amount = random.choice((0, 100, 250, 999))
        order = Order(f"{buyer}-{number}", random.choice(SKUS), random.randint(1, 3), amount)
        while True:
            try:
                receipt = await shop.buy(order)
                assert receipt == f"receipt-{order.id}"
                sold += 1
                break
            except (SoldOut, Declined):
                break
            except CoterieError:
                await asyncio.sleep(0.5 + random.random())
        await asyncio.sleep(random.random() * 2)
    return sold


async def shop_under_faults(world: World, duration_s: float = 60.0, orders: int = 25) -> dict[str, Any]:
    engine = StandIn(world)
    await engine.start()
    for name in NODES:
        await world.start(name, run_node, engine, "shop")
    outcome: dict[str, Any] = {}

    async def customers() -> None:
        from shop import Shop

        async with connected(engine, "shop") as app:
            shop = app.client(Shop)
            while True:
                try:
                    for sku in SKUS:
                        await shop.restock(sku, 30)
                    break
                except CoterieError:
                    await asyncio.sleep(0.5)
            outcome["sold"] = sum(await asyncio.gather(*(buy(shop, buyer, orders) for buyer in range(4))))
            while True:
                try:
                    outcome["books"] = await shop.books()
                    break
                except CoterieError:
                    await asyncio.sleep(0.5)

    await world.start("customers", customers)
    async with world.storm(duration_s, hosts=[*NODES, engine.name]):
        await asyncio.sleep(duration_s)
    async with asyncio.timeout(300):
        await world.wait("customers")
    world.check_processes()
    books = outcome["books"]
    assert books.balanced, f"the books do not balance: {books}"
    assert outcome["sold"] <= books.orders
    return {"sold": outcome["sold"], "orders": books.orders}


async def shop(world: World) -> dict[str, Any]:
    return await shop_under_faults(world)
