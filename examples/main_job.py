"""The main job: three nodes of the shop, one of them killed in the middle, and the books must balance.

    make run                    all of it; exits with 0 only if nothing was lost or sold twice
    make run ARGS=--serve       the same, and the shop stays open for you to play with
    make run ENGINE=etcd        on three members of etcd, whose leader is killed as well; or ENGINE=nats
    make run ENGINE=etcd+nats   state on etcd, events on NATS
    make run ENGINE=postgres    on a PostgreSQL server that is killed and started again; or ENGINE=redis

Real processes, real HTTP, a real SIGKILL. Buyers repeat an order, with the same id and at another
node, until they have an answer. In the end their receipts are held against the shop's own books.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from coterie import lab

SHOP = Path(__file__).with_name("shop.py")
ARTICLES = ("tea", "coffee", "cocoa", "sugar", "milk")
console = Console(highlight=False)


@dataclass
class ShopNode:
    """One `coterie run` process."""

    name: str
    program: str
    directory: Path
    engine: tuple[str, ...]
    process: asyncio.subprocess.Process | None = None
    url: str = ""
    ready_after_s: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    async def start(self) -> None:
        """Start the node and return when it serves."""
        began = time.monotonic()
        options = ("--name", self.name, "--http", "127.0.0.1:0", "--data", str(self.directory), *self.engine)
        # The node ends when its input does, so nothing is left over even if this job is killed.
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "coterie", "run", self.program, "--json", "--until-eof", *options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None  # it was asked for
        async for line in self.process.stdout:
            event = json.loads(line)
            if "error" in event:
                raise SystemExit(f"{self.name} did not start: {event['error']['message']}")
            if event["event"] == "ready":
                self.url = event["http"]
                self.ready_after_s = time.monotonic() - began
                return
        raise SystemExit(f"{self.name} ended before it was ready")

    async def kill(self) -> None:
        """End the process as a crash would: nothing in it gets to run."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """Let the process drain, and end it if it does not."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), 15)
        except TimeoutError:
            await self.kill()


class Engines:
    """The engines that the job starts: for a name like `etcd`, or `etcd+nats` for state and events apart."""

    def __init__(self, names: str) -> None:
        self.clusters = [
            lab.start(name, members=3 if name in {"etcd", "nats"} else 1) for name in names.split("+")
        ]
        if len(self.clusters) > 2:
            raise SystemExit(f"{names!r} names more than two engines: one for state, one for events")
        self._killed: dict[lab.Cluster, int] = {}

    def options(self) -> tuple[str, ...]:
        """Return what tells a node where they are."""
        urls = [cluster.engine_url for cluster in self.clusters]
        return ("--engine", urls[0]) if len(urls) == 1 else ("--store", urls[0], "--log", urls[1])

    async def kill(self, answered: int) -> None:
        """Kill the member of each that leads. One that is alone is started again at once."""
        for cluster in self.clusters:
            index = await cluster.leader()
            member = cluster.members[index]
            pid = member.pid
            await cluster.kill(index)
            alone = len(cluster.members) == 1
            role = "its only member" if alone else "the leader of its three members"
            console.print(
                f"  [red]killed[/] {member.name} (pid {pid}, {role}, SIGKILL) after {answered} answers",
                soft_wrap=True,
            )
            self._killed[cluster] = index
            if alone:
                await self._restart(cluster)

    async def restart(self) -> None:
        """Start again what was killed."""
        for cluster in tuple(self._killed):
            await self._restart(cluster)

    async def _restart(self, cluster: lab.Cluster) -> None:
        member = cluster.members[self._killed.pop(cluster)]
        await cluster.restart(member.index)
        console.print(f"  [green]restarted[/] {member.name} (pid {member.pid})")


@dataclass
class Ledger:
    """What the buyers know."""

    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    sold_out: set[str] = field(default_factory=set)
    gave_up: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: int = 0
    failed_attempts: int = 0
    waits_s: list[float] = field(default_factory=list)

    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def answered(self) -> int:
        return len(self.accepted) + len(self.sold_out) + len(self.gave_up)

    async def wait_answered(self, count: int) -> None:
        """Return when so many orders have an answer."""
        async with self.progress:
            await self.progress.wait_for(lambda: self.answered >= count)


async def buy(http: httpx.AsyncClient, nodes: list[ShopNode], order: dict[str, Any], ledger: Ledger) -> None:
    """Place one order: repeat it, at the next node, until there is an answer; give up after 30 s."""
    began = time.monotonic()
    choice = random.randrange(len(nodes))
    while time.monotonic() - began < 30:
        ledger.attempts += 1
        try:
            reply = await http.post(f"{nodes[choice % len(nodes)].url}/Shop/buy", json={"order": order})
        except httpx.TransportError:
            reply = httpx.Response(0)
        status = reply.status_code
        if status == 200:
            if reply.json() != f"receipt-{order['id']}":
                raise SystemExit(f"a wrong receipt for {order['id']}: {reply.text}")
            ledger.accepted[order["id"]] = order
            break
        if status == 409 and reply.json().get("code") == "SoldOut":
            ledger.sold_out.add(order["id"])
            break
        if status not in {0, 409, 429, 503, 504}:
            raise SystemExit(f"an unexpected answer to {order}: {status} {reply.text}")
        ledger.failed_attempts += 1
        choice += 1
        await asyncio.sleep(0.01)
    else:
        ledger.gave_up[order["id"]] = order
    ledger.waits_s.append(time.monotonic() - began)
    async with ledger.progress:
        ledger.progress.notify_all()


async def buyer(nodes: list[ShopNode], orders: asyncio.Queue[dict[str, Any]], ledger: Ledger) -> None:
    """Place orders one after the other until none is left."""
    async with httpx.AsyncClient(timeout=5) as http:
        while True:
            try:
                order = orders.get_nowait()
            except asyncio.QueueEmpty:
                return
            await buy(http, nodes, order, ledger)


def make_orders(count: int) -> list[dict[str, Any]]:
    """Return `count` orders. Together they want more than there is of some articles."""
    return [
        {
            "id": f"order-{number:06}",
            "sku": ARTICLES[min(number % 7, 4)],
            "quantity": random.randint(1, 3),
            "amount": random.randint(100, 9999),
        }
        for number in range(count)
    ]


async def crash(nodes: list[ShopNode], engines: Engines | None, ledger: Ledger, count: int) -> None:
    """Kill a node when a third of the orders is answered, and start it again at two thirds.

    Of the engines a member is killed when half of the orders is answered, while that node is still missing.
    """
    victim = nodes[0]
    await ledger.wait_answered(count // 3)
    pid = victim.pid
    await victim.kill()
    console.print(f"  [red]killed[/] {victim.name} (pid {pid}, SIGKILL) after {ledger.answered} answers")
    if engines is not None:
        await ledger.wait_answered(count // 2)
        await engines.kill(ledger.answered)
    await ledger.wait_answered(count * 2 // 3)
    await victim.start()
    console.print(
        f"  [green]restarted[/] {victim.name} (pid {victim.pid}) at [cyan]{victim.url}[/], "
        f"ready after {victim.ready_after_s:.2f} s"
    )
    if engines is not None:
        await engines.restart()


async def trade(nodes: list[ShopNode], engines: Engines | None, arguments: argparse.Namespace) -> Ledger:
    """Stock the shop, let the buyers in, crash a node meanwhile."""
    ledger = Ledger()
    async with httpx.AsyncClient(timeout=5) as http:
        for sku in ARTICLES:
            reply = await http.post(
                f"{nodes[0].url}/Shop/restock", json={"sku": sku, "quantity": arguments.orders * 2 // 5}
            )
            reply.raise_for_status()
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    for order in make_orders(arguments.orders):
        orders.put_nowait(order)
    columns = (
        TextColumn("  orders"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("orders", total=arguments.orders)
        tasks = [asyncio.create_task(buyer(nodes, orders, ledger)) for _ in range(arguments.buyers)]
        tasks.append(asyncio.create_task(crash(nodes, engines, ledger, arguments.orders)))
        everything = asyncio.gather(*tasks)
        while not everything.done():
            progress.update(bar, completed=ledger.answered)
            await asyncio.wait({everything}, timeout=0.1)
        await everything
    return ledger


async def read_books(nodes: list[ShopNode]) -> list[dict[str, Any]]:
    """Ask every node for the books; they must all tell the same."""
    async with httpx.AsyncClient(timeout=30) as http:
        books = []
        for node in nodes:
            reply = await http.post(f"{node.url}/Shop/books", headers={"Coterie-Timeout": "30"})
            reply.raise_for_status()
            books.append(reply.json())
    return books


def audit(ledger: Ledger, books: list[dict[str, Any]]) -> list[str]:
    """Return what does not agree between the buyers' receipts and the shop's books."""
    complaints = []
    if any(other != books[0] for other in books):
        complaints.append(f"the nodes disagree: {books}")
    shop = books[0]
    accepted = ledger.accepted.values()
    # An order without an answer may or may not have been sold, so it widens what the books may say.
    open_quantity = sum(order["quantity"] for order in ledger.gave_up.values())
    quantity = sum(order["quantity"] for order in accepted)
    if shop["sold"] < quantity:
        complaints.append(
            f"lost: buyers hold receipts for {quantity} articles, the books have {shop['sold']}"
        )
    if shop["sold"] > quantity + open_quantity:
        complaints.append(
            f"sold twice: the books have {shop['sold']} articles sold, buyers ordered {quantity}"
        )
    if not len(accepted) <= shop["orders"] <= len(accepted) + len(ledger.gave_up):
        complaints.append(f"buyers hold {len(accepted)} receipts, the books have {shop['orders']} orders")
    if shop["delivered"] != shop["left"] + shop["sold"]:
        complaints.append(f"{shop['delivered']} delivered is not {shop['left']} left and {shop['sold']} sold")
    if shop["left"] < 0:
        complaints.append(f"oversold: {shop['left']} left")
    if not ledger.gave_up:
        amount = sum(order["amount"] for order in accepted)
        if shop["charged"] != amount:
            complaints.append(f"charged {shop['charged']} cents for orders of {amount} cents")
        if shop["charged_orders"] != len(accepted):
            complaints.append(f"charged {shop['charged_orders']} orders of {len(accepted)}")
    return complaints


def report(ledger: Ledger, books: dict[str, Any], complaints: list[str], took_s: float) -> None:
    """Print what happened."""
    table = Table(box=None, show_header=False, pad_edge=False)
    waits = sorted(ledger.waits_s)
    rate = ledger.answered / took_s
    rows = [
        ("orders accepted", f"{len(ledger.accepted)} of {ledger.answered} ({rate:.0f} answers a second)"),
        ("refused, sold out", str(len(ledger.sold_out))),
        ("without an answer", str(len(ledger.gave_up))),
        ("attempts repeated", f"{ledger.failed_attempts} of {ledger.attempts}"),
        ("stock", f"{books['delivered']} delivered, {books['sold']} sold, {books['left']} left"),
        ("charged", f"{books['charged'] / 100:.2f} for {books['charged_orders']} orders"),
        ("wait for an answer", f"median {waits[len(waits) // 2] * 1000:.1f} ms"),
        ("longest interruption", f"{waits[-1]:.2f} s"),
        (
            "lost or sold twice",
            "[green]none[/]" if not complaints else f"[red]{len(complaints)} complaints[/]",
        ),
    ]
    for name, value in rows:
        table.add_row(f"  {name}", value)
    console.print(table)
    for complaint in complaints:
        console.print(f"  [red]{complaint}[/]")
    console.print("[green]The books balance.[/]" if not complaints else "[red]The books do not balance.[/]")


@contextlib.asynccontextmanager
async def shop_nodes(arguments: argparse.Namespace, engine: tuple[str, ...]) -> AsyncIterator[list[ShopNode]]:
    """Three nodes on one engine, ended with the block whatever happens in it."""
    with tempfile.TemporaryDirectory(prefix="coterie-shop-") as directory:
        nodes = [ShopNode(f"shop-{number}", arguments.shop, Path(directory), engine) for number in (1, 2, 3)]
        try:
            await asyncio.gather(*(node.start() for node in nodes))
            yield nodes
        finally:
            await asyncio.gather(*(node.stop() for node in nodes))


@contextlib.asynccontextmanager
async def engines_of(arguments: argparse.Namespace) -> AsyncIterator[tuple[Engines | None, tuple[str, ...]]]:
    """Start the engines that are named, for the block; give them, and the options of a node."""
    given: str = arguments.engine
    if ":" in given or not given:
        yield None, ("--engine", given) if given else ()
        return
    engines = Engines(given)
    async with contextlib.AsyncExitStack() as stack:
        for each in engines.clusters:
            await stack.enter_async_context(each)
            size = "three members" if len(each.members) == 3 else "one member"
            console.print(f"[bold]{each.binary.engine} {each.binary.version}[/], {size}")
            for member in each.members:
                console.print(f"  {member.name}  [cyan]{member.address}[/]  pid {member.pid}")
        yield engines, engines.options()


async def main(arguments: argparse.Namespace) -> int:
    async with engines_of(arguments) as (engines, options), shop_nodes(arguments, options) as nodes:
        console.print("[bold]Three nodes of the shop[/]")
        for node in nodes:
            console.print(
                f"  {node.name}  [cyan]{node.url}[/]  pid {node.pid}, ready after {node.ready_after_s:.2f} s"
            )
        began = time.monotonic()
        ledger = await trade(nodes, engines, arguments)
        took_s = time.monotonic() - began
        books = await read_books(nodes)
        complaints = audit(ledger, books)
        if ledger.gave_up:
            complaints.append(f"{len(ledger.gave_up)} orders never got an answer")
        report(ledger, books[0], complaints, took_s)
        if arguments.serve:
            await serve(nodes)
    return 1 if complaints else 0


async def serve(nodes: list[ShopNode]) -> None:
    """Keep the shop open until Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    console.print("\n[bold]The shop stays open.[/] Try, in another terminal:")
    console.print(f"  curl {nodes[0].url}/Shop/books -X POST", soft_wrap=True)
    console.print(
        f'  curl {nodes[1].url}/Shop/restock --json \'{{"sku": "tea", "quantity": 5}}\'', soft_wrap=True
    )
    console.print(f'  curl -N {nodes[2].url}/Shop/follow --json \'{{"sku": "tea"}}\'', soft_wrap=True)
    console.print(f"  kill -9 {nodes[1].pid}     # and ask the others\nCtrl-C ends it.", soft_wrap=True)
    await stop.wait()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=3000, help="how many orders are placed (default 3000)")
    parser.add_argument("--buyers", type=int, default=12, help="how many buyers at once (default 12)")
    parser.add_argument(
        "--engine",
        default="",
        help="an engine to start: nats, etcd, etcd+nats, postgres, redis, valkey; or the URL of one "
        "(default: SQLite in a new folder)",
    )
    parser.add_argument("--shop", default=str(SHOP), help="the program (default: shop.py beside this file)")
    parser.add_argument("--serve", action="store_true", help="keep the shop open afterwards")
    parser.add_argument("--seed", type=int, default=None, help="makes the orders the same in each run")
    return parser.parse_args()


if __name__ == "__main__":
    parsed = parse()
    random.seed(parsed.seed)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    try:
        sys.exit(asyncio.run(main(parsed)))
    except lab.LabError as error:  # No such engine, or its program is not installed.
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
