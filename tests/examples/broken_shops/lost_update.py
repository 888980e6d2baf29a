"""The shop without a transaction: what is read may have changed when it is written."""

from __future__ import annotations

import shop
from shop import Order, SoldOut, app, sales, stock

__all__ = ["app"]


async def reserve(order: Order) -> None:
    left = await stock.get(order.sku, 0)
    if left < order.quantity:
        raise SoldOut(order.sku)
    await stock.put(order.sku, left - order.quantity)
    await sales.put(order.id, order)


shop.reserve = reserve  # type: ignore[assignment]
