"""The shop charges whenever it is asked to: who repeats an order, for want of an answer, pays twice."""

from __future__ import annotations

import shop
from shop import Declined, Order, app, charges

__all__ = ["app"]


async def charge(self: shop.Payments, order: Order) -> str:
    if order.amount <= 0:
        raise Declined("nothing to charge")
    await charges.update(order.id, lambda charged: (charged or 0) + order.amount)
    return f"receipt-{order.id}"


shop.Payments.charge = charge  # type: ignore[method-assign]
