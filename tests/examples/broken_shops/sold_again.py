"""The shop takes each order for a new one, and some answers get lost: a repeated order sells twice."""

from __future__ import annotations

import shop
from shop import Order, SoldOut, app, sales, stock

from coterie import Transaction, Unavailable

__all__ = ["app"]
_buy = shop.Shop.buy
_answered: set[str] = set()


@app.transactional
async def reserve(txn: Transaction, order: Order) -> None:
    left = await txn.get(stock, order.sku, 0)
    if left < order.quantity:
        raise SoldOut(order.sku)
    sale = order.id
    while await txn.get(sales, sale) is not None:
        sale += "+"
    txn.put(stock, order.sku, left - order.quantity)
    txn.put(sales, sale, order)


shop.reserve = reserve


async def buy(self: shop.Shop, order: Order) -> str:
    receipt = await _buy(self, order)
    if order.id.endswith("7") and order.id not in _answered:
        _answered.add(order.id)
        raise Unavailable("the answer was lost")
    return receipt


shop.Shop.buy = buy  # type: ignore[method-assign]
