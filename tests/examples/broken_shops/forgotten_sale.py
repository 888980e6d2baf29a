"""The shop loses every tenth sale after it gave the receipt."""

from __future__ import annotations

import shop
from shop import Order, app, release

__all__ = ["app"]
_charge = shop.Payments.charge


async def charge(self: shop.Payments, order: Order) -> str:
    receipt = await _charge(self, order)
    if order.id.endswith("7"):
        await release(order)
        await shop.charges.delete(order.id)
    return receipt


shop.Payments.charge = charge  # type: ignore[method-assign]
