"""A shop: services, strong maps, and stock that is never sold twice.

    coterie run examples/shop.py                            one node, http://127.0.0.1:8000
    coterie up examples/shop.py --nodes 3                   three nodes on this machine
    coterie call examples/shop.py Shop.restock '{"sku": "tea", "quantity": 10}'
    coterie map scan examples/shop.py stock
    coterie sim examples/shop.py --universes 200            its promises, held to in 200 universes of faults

Every order has an id that its buyer chose. `Shop.buy` can be repeated with the same order, at any
node, for as long as the buyer has no answer: it sells once, charges once, and gives the same receipt.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from coterie import App, Conflict, CoterieError, Outcome, Transaction

app = App("shop")


@dataclass(frozen=True)
class Order:
    """What a buyer wants. `amount` is in cents."""

    id: str
    sku: str
    quantity: int
    amount: int


@dataclass(frozen=True)
class Books:
    """Totals over all articles and orders; `balanced` says that they agree."""

    delivered: int
    left: int
    sold: int
    orders: int
    charged_orders: int
    charged: int
    owed: int

    @property
    def balanced(self) -> bool:
        return (
            self.delivered == self.left + self.sold
            and self.owed == self.charged
            and self.orders == self.charged_orders
        )


# Both are raised only when nothing was sold, and say so: a caller need not wonder what happened.
@app.error(status=409)
class SoldOut(CoterieError):
    """There is not enough of the article."""

    default_outcome = Outcome.NOT_APPLIED


@app.error(status=402)
class Declined(CoterieError):
    """The payment was refused."""

    default_outcome = Outcome.NOT_APPLIED


stock = app.map("stock", int)
delivered = app.map("delivered", int)
sales = app.map("sales", Order)
charges = app.map("charges", int)


@app.transactional
async def reserve(txn: Transaction, order: Order) -> None:
    """Take the articles off the stock and write the sale, together or not at all."""
    known = await txn.get(sales, order.id)
    if known == order:
        return  # An earlier attempt got this far.
    if known is not None:
        raise Conflict(f"the order {order.id!r} was placed before with other contents")
    left = await txn.get(stock, order.sku, 0)
    if left < order.quantity:
        raise SoldOut(f"{order.quantity} of {order.sku!r} were ordered, {left} are left")
    txn.put(stock, order.sku, left - order.quantity)
    txn.put(sales, order.id, order)


@app.transactional
async def release(txn: Transaction, order: Order) -> None:
    """Undo `reserve`."""
    if await txn.get(sales, order.id) is not None:
        txn.put(stock, order.sku, await txn.get(stock, order.sku, 0) + order.quantity)
        txn.delete(sales, order.id)


@app.transactional
async def deliver(txn: Transaction, sku: str, quantity: int) -> int:
    """Add to the stock, and return how much there is now."""
    left = await txn.get(stock, sku, 0) + quantity
    txn.put(stock, sku, left)
    txn.put(delivered, sku, await txn.get(delivered, sku, 0) + quantity)
    return left


@app.service
class Payments:
    """Takes the money, once an order."""

    async def charge(self, order: Order) -> str:
        """Charge the order's amount and return the receipt. Repeating it charges nothing more."""
        if order.amount <= 0:
            raise Declined(f"an amount of {order.amount} cents cannot be charged")
        with suppress(Conflict):  # It was charged before.
            await charges.put(order.id, order.amount, expect=0)
        return f"receipt-{order.id}"


payments = app.client(Payments)


@app.service
class Shop:
    """Sells what is in stock."""

    async def buy(self, order: Order) -> str:
        """Sell the order and return its receipt; raise `SoldOut` or `Declined`."""
        await reserve(order)
        try:
            return await payments.charge(order)
        except Declined:
            await release(order)
            raise

    async def restock(self, sku: str, quantity: int) -> int:
        """Add `quantity` of the article and return how much there is now."""
        return await deliver(sku, quantity)

    async def available(self, sku: str) -> int:
        """Return how much of the article is left."""
        return await stock.get(sku, 0)

    async def follow(self, sku: str) -> AsyncIterator[int]:
        """Stream how much of the article is left, now and at each change."""
        async for change in stock.watch(sku):
            if change.key == sku:
                yield change.value or 0

    async def books(self) -> Books:
        """Add everything up. Exact while nobody buys; a scan is not one snapshot."""
        sold = [item.value async for item in sales.scan()]
        charged = [item.value async for item in charges.scan()]
        return Books(
            delivered=sum([item.value async for item in delivered.scan()]),
            left=sum([item.value async for item in stock.scan()]),
            sold=sum(order.quantity for order in sold),
            orders=len(sold),
            charged_orders=len(charged),
            charged=sum(charged),
            owed=sum(order.amount for order in sold),
        )


# What follows is for `coterie sim` alone: who uses the shop, and what must hold while faults happen.

shop = app.client(Shop)

ARTICLES = ("tea", "cup")


@app.workload
async def supplier() -> None:
    """Deliver something."""
    await shop.restock(random.choice(ARTICLES), random.randint(1, 5))


@app.workload(clients=3)
async def buyer(number: int) -> None:
    """Order something, and repeat the order until there is an answer."""
    order = Order(
        id=f"{number}-{random.getrandbits(48):x}",
        sku=random.choice(ARTICLES),
        quantity=random.randint(1, 3),
        amount=random.choice((0, 100, 250)),
    )
    while True:
        try:
            receipt = await shop.buy(order)
        except (SoldOut, Declined):
            assert await sales.get(order.id) is None, "an order that was refused is in the books"
            return
        except CoterieError:
            await asyncio.sleep(random.random())
        else:
            assert receipt == f"receipt-{order.id}"
            assert await sales.get(order.id) == order, "an order that has a receipt is not in the books"
            return


@app.always
async def nothing_is_sold_twice() -> None:
    """What was delivered is on the shelf or sold, and only what was sold is charged."""
    books = await shop.books()
    assert books.left >= 0
    assert books.delivered == books.left + books.sold
    assert books.charged <= books.owed


@app.eventually
async def the_books_balance() -> bool:
    """Every sale is charged when the last buyer has an answer."""
    return (await shop.books()).balanced
