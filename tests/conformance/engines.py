"""The engines under test. Adding an engine is one line in the table of its port, at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import nats

from coterie.conformance import LogFixture, StoreFixture, WireFixture
from coterie.engines.memory import MemoryLog, MemoryNetwork, MemoryStore
from coterie.engines.nats import NatsConfig
from coterie.engines.nats._wire_messages import VERSION, Bye, Hello, decode, encode
from coterie.engines.nats.wire import NatsWire
from coterie.engines.sqlite import SqliteEngine
from coterie.engines.sqlite import open_engine as open_sqlite
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.engines.tcp import TcpWire
from coterie.node.engines import open_engine
from coterie.ports import Clock, Engine, Entropy, Log, Store, Wire
from coterie.ports.store import Commit

from .servers import fresh_name, pooler, shared

T = TypeVar("T")
StoreFactory = Callable[[Path], AbstractAsyncContextManager[StoreFixture]]
LogFactory = Callable[[Path], AbstractAsyncContextManager[LogFixture]]
WireFactory = Callable[[Path], AbstractAsyncContextManager[WireFixture]]
ClockFactory = Callable[[Path], AbstractAsyncContextManager[Clock]]
EntropyFactory = Callable[[Path], AbstractAsyncContextManager[Entropy]]


class SharedStore:
    """`StoreFixture` for a store of one process: every client is the same object."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def connect(self) -> Store:
        return self.store

    async def reopen(self) -> Store:
        raise AssertionError("a store of one process promises nothing about a reopening")


class SharedLog:
    """`LogFixture` for a log of one process: every client is the same object."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def connect(self) -> Log:
        return self.log

    async def reopen(self) -> Log:
        raise AssertionError("a log of one process promises nothing about a reopening")


class MemoryWires:
    """`WireFixture` of one memory network."""

    free_address = "memory:0"
    framed = False

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.nodes: list[Wire] = [network.wire("node-0")]

    @property
    def wire(self) -> Wire:
        return self.nodes[0]

    async def connect(self) -> Wire:
        self.nodes.append(self.network.wire(f"node-{len(self.nodes)}"))
        return self.nodes[-1]

    async def garble(self, address: str, data: bytes) -> None:
        raise AssertionError("no bytes pass over the memory wire")


@asynccontextmanager
async def memory_store(_directory: Path) -> AsyncIterator[StoreFixture]:
    store = MemoryStore(clock=SystemClock())
    try:
        yield SharedStore(store)
    finally:
        await store.close()


@asynccontextmanager
async def memory_log(_directory: Path) -> AsyncIterator[LogFixture]:
    log = MemoryLog(clock=SystemClock())
    try:
        yield SharedLog(log)
    finally:
        await log.close()


@asynccontextmanager
async def memory_wire(_directory: Path) -> AsyncIterator[WireFixture]:
    wires = MemoryWires(MemoryNetwork())
    try:
        yield wires
    finally:
        for wire in wires.nodes:
            await wire.close()


class SqliteClients:
    """The engines of one file: each client has an engine of its own, as a process of its own would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engines: list[SqliteEngine] = []

    async def open(self) -> SqliteEngine:
        url = f"sqlite:///{self.path}"
        self.engines.append(await open_sqlite(url, clock=SystemClock(), entropy=SystemEntropy()))
        return self.engines[-1]

    async def close(self) -> None:
        for engine in self.engines:
            await engine.close()
        self.engines.clear()


class SqliteStores:
    """`StoreFixture` of one file."""

    def __init__(self, clients: SqliteClients) -> None:
        self.clients = clients

    @property
    def store(self) -> Store:
        return self.clients.engines[0].store

    async def connect(self) -> Store:
        return (await self.clients.open()).store

    async def reopen(self) -> Store:
        await self.clients.close()
        return (await self.clients.open()).store


class SqliteLogs:
    """`LogFixture` of one file."""

    def __init__(self, clients: SqliteClients) -> None:
        self.clients = clients

    @property
    def log(self) -> Log:
        return self.clients.engines[0].log

    async def connect(self) -> Log:
        return (await self.clients.open()).log

    async def reopen(self) -> Log:
        await self.clients.close()
        return (await self.clients.open()).log


@asynccontextmanager
async def sqlite_clients(directory: Path) -> AsyncIterator[SqliteClients]:
    clients = SqliteClients(directory / "conformance.db")
    try:
        await clients.open()
        yield clients
    finally:
        await clients.close()


@asynccontextmanager
async def sqlite_store(directory: Path) -> AsyncIterator[StoreFixture]:
    async with sqlite_clients(directory) as clients:
        yield SqliteStores(clients)


@asynccontextmanager
async def sqlite_log(directory: Path) -> AsyncIterator[LogFixture]:
    async with sqlite_clients(directory) as clients:
        yield SqliteLogs(clients)


@asynccontextmanager
async def sqlite_follower_store(directory: Path) -> AsyncIterator[StoreFixture]:
    """The first client is one that another engine writes for."""
    async with sqlite_clients(directory) as clients:
        await clients.open()
        clients.engines.reverse()
        yield SqliteStores(clients)


@asynccontextmanager
async def sqlite_follower_log(directory: Path) -> AsyncIterator[LogFixture]:
    async with sqlite_clients(directory) as clients:
        await clients.open()
        clients.engines.reverse()
        yield SqliteLogs(clients)


class ServerClients:
    """Engines of one real server: each client is an engine of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engines: list[Engine] = []

    async def open(self) -> Engine:
        self.engines.append(await open_engine(self.url, clock=SystemClock(), entropy=SystemEntropy()))
        return self.engines[-1]

    async def close(self) -> None:
        for engine in self.engines:
            await engine.close()
        self.engines.clear()


class ServerStores:
    """`StoreFixture` of one real server."""

    def __init__(self, clients: ServerClients) -> None:
        self.clients = clients

    @property
    def store(self) -> Store:
        return _offered(self.clients.engines[0].store)

    async def connect(self) -> Store:
        return _offered((await self.clients.open()).store)

    async def reopen(self) -> Store:
        await self.clients.close()
        return await self.connect()


class ServerLogs:
    """`LogFixture` of one real server."""

    def __init__(self, clients: ServerClients) -> None:
        self.clients = clients

    @property
    def log(self) -> Log:
        return _offered(self.clients.engines[0].log)

    async def connect(self) -> Log:
        return _offered((await self.clients.open()).log)

    async def reopen(self) -> Log:
        await self.clients.close()
        return await self.connect()


def _offered(port: T | None) -> T:
    assert port is not None
    return port


@asynccontextmanager
async def server_clients(url: str) -> AsyncIterator[ServerClients]:
    clients = ServerClients(url)
    try:
        await clients.open()
        yield clients
    finally:
        await clients.close()


def server_store(url: Callable[[], str]) -> StoreFactory:
    @asynccontextmanager
    async def factory(_directory: Path) -> AsyncIterator[StoreFixture]:
        async with server_clients(url()) as clients:
            yield ServerStores(clients)

    return factory


def server_log(url: Callable[[], str]) -> LogFactory:
    @asynccontextmanager
    async def factory(_directory: Path) -> AsyncIterator[LogFixture]:
        async with server_clients(url()) as clients:
            yield ServerLogs(clients)

    return factory


def redis_url() -> str:
    return f"{shared('redis').url}?prefix={fresh_name('conformance')}"


def nats_url(members: int = 1) -> str:
    return f"{shared('nats', members=members).url}?prefix={fresh_name('conformance')}"


def valkey_url() -> str:
    return f"{shared('valkey').url}?prefix={fresh_name('conformance')}".replace("redis://", "valkey://")


def postgres_url() -> str:
    return f"{shared('postgres').url}?schema={fresh_name('conformance')}"


def pooled_url(*, prepared: str = "off") -> str:
    """A URL by way of PgBouncer, in which each transaction has whichever connection is free."""
    place = f"postgresql://postgres@{pooler().address}/coterie"
    return f"{place}?prepared={prepared}&schema={fresh_name('conformance')}"


@asynccontextmanager
async def etcd_store(_directory: Path) -> AsyncIterator[StoreFixture]:
    """Everything is deleted at the end: entries that vanished later, with a lease, would raise revisions."""
    prefix = fresh_name("conformance")
    async with server_clients(f"{shared('etcd').url}?prefix={prefix}") as clients:
        try:
            yield ServerStores(clients)
        finally:
            await _delete_all(await clients.open())


async def _delete_all(engine: Engine) -> None:
    store = _offered(engine.store)
    while entries := (await store.scan("", limit=100)).entries:
        await store.commit(Commit((), tuple(entry.key for entry in entries)))


class TcpWires:
    """`WireFixture` on loopback or on a Unix socket, with connections that carry anything."""

    framed = True

    def __init__(self, free_addresses: Callable[[], str]) -> None:
        self._free_addresses = free_addresses
        self.nodes: list[Wire] = [TcpWire(entropy=SystemEntropy())]

    @property
    def free_address(self) -> str:
        return self._free_addresses()

    @property
    def wire(self) -> Wire:
        return self.nodes[0]

    async def connect(self) -> Wire:
        self.nodes.append(TcpWire(entropy=SystemEntropy()))
        return self.nodes[-1]

    async def garble(self, address: str, data: bytes) -> None:
        if address.startswith("unix:"):
            reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        with suppress(ConnectionError):
            await writer.drain()
            writer.write_eof()
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


class NatsWires:
    """`WireFixture` of one cluster: each node has a connection of its own, to the next member."""

    framed = True
    free_address = "nats:0"

    def __init__(self, url: str) -> None:
        self.config = NatsConfig.from_url(url)
        self.nodes: list[Wire] = []

    @property
    def wire(self) -> Wire:
        return self.nodes[0]

    async def connect(self) -> Wire:
        servers = self.config.servers
        first = len(self.nodes) % len(servers)
        config = replace(self.config, servers=servers[first:] + servers[:first])
        self.nodes.append(await NatsWire.open(config, SystemEntropy()))
        return self.nodes[-1]

    async def garble(self, address: str, data: bytes) -> None:
        """Say nonsense in place of the hello, and behind one, which ends the session."""
        client = await nats.connect(f"nats://{self.config.servers[0]}")
        space = f"{self.config.prefix}.wire"
        listener = f"{space}.at.{address.removeprefix('nats:')}"
        inbox = await client.subscribe(f"{space}.to.stranger.1")
        await client.publish(listener, data, f"{inbox.subject}.1")
        assert isinstance(decode((await inbox.next_msg(timeout=10)).data).messages[0], Bye)
        hello = encode((1, 0, [Hello(VERSION, "a stranger")]))
        await client.publish(listener, hello, f"{inbox.subject}.1")
        welcome = await inbox.next_msg(timeout=10)
        await client.publish(welcome.reply.rpartition(".")[0], data, f"{inbox.subject}.2")
        while not isinstance(decode((await inbox.next_msg(timeout=10)).data).messages[0], Bye):
            pass
        await client.close()


def nats_wire(members: int) -> WireFactory:
    @asynccontextmanager
    async def factory(_directory: Path) -> AsyncIterator[WireFixture]:
        wires = NatsWires(nats_url(members))
        try:
            await wires.connect()
            yield wires
        finally:
            for wire in wires.nodes:
                await wire.close()

    return factory


@asynccontextmanager
async def tcp_wire(_directory: Path) -> AsyncIterator[WireFixture]:
    async with _tcp(lambda: "127.0.0.1:0") as wires:
        yield wires


@asynccontextmanager
async def unix_wire(_directory: Path) -> AsyncIterator[WireFixture]:
    with TemporaryDirectory() as directory:  # pytest's own paths are too long for a Unix socket
        numbers = count()
        async with _tcp(lambda: f"unix:{directory}/{next(numbers)}") as wires:
            yield wires


@asynccontextmanager
async def _tcp(free_addresses: Callable[[], str]) -> AsyncIterator[TcpWires]:
    wires = TcpWires(free_addresses)
    try:
        yield wires
    finally:
        for wire in wires.nodes:
            await wire.close()


@asynccontextmanager
async def system_clock(_directory: Path) -> AsyncIterator[Clock]:
    yield SystemClock()


@asynccontextmanager
async def system_entropy(_directory: Path) -> AsyncIterator[Entropy]:
    yield SystemEntropy()


STORES: Mapping[str, StoreFactory] = {
    "memory": memory_store,
    "sqlite": sqlite_store,
    "sqlite-follower": sqlite_follower_store,
    "etcd": etcd_store,
    "postgres": server_store(postgres_url),
    "postgres-pooled": server_store(pooled_url),
    "redis": server_store(redis_url),
    "valkey": server_store(valkey_url),
    "nats": server_store(nats_url),
}
LOGS: Mapping[str, LogFactory] = {
    "memory": memory_log,
    "sqlite": sqlite_log,
    "sqlite-follower": sqlite_follower_log,
    "postgres": server_log(postgres_url),
    "postgres-pooled": server_log(pooled_url),
    "redis": server_log(redis_url),
    "valkey": server_log(valkey_url),
    "nats": server_log(nats_url),
}
WIRES: Mapping[str, WireFactory] = {
    "memory": memory_wire,
    "tcp": tcp_wire,
    "unix": unix_wire,
    "nats": nats_wire(1),
    "nats-cluster": nats_wire(3),
}
CLOCKS: Mapping[str, ClockFactory] = {"system": system_clock}
ENTROPIES: Mapping[str, EntropyFactory] = {"system": system_entropy}

_SEVERAL = frozenset({"several_keys_are_refused"})  # For engines whose commits write one key only.

NOT_PROMISED: Mapping[str, frozenset[str]] = {
    "sqlite-store": _SEVERAL,
    "sqlite-follower-store": _SEVERAL,
    "etcd-store": _SEVERAL,
    "postgres-store": _SEVERAL,
    "postgres-pooled-store": _SEVERAL,
    "redis-store": _SEVERAL,
    "valkey-store": _SEVERAL,
    "nats-store": _SEVERAL,
    "memory-store": frozenset(
        {
            "several_keys_are_refused",
            "a_lease_outlives_the_client_that_asked",
            "leases_outlive_a_reopening",
            "closing_one_client_leaves_the_others",
            "acknowledged_commits_outlive_a_reopening",
            "a_close_keeps_what_it_acknowledged",
        }
    ),
    "memory-log": frozenset(
        {
            "closing_one_client_leaves_the_others",
            "acknowledged_records_outlive_a_reopening",
            "a_close_keeps_what_it_acknowledged",
        }
    ),
    "memory-wire": frozenset({"malformed_bytes_harm_only_their_connection"}),
}
"""Which checks an engine's guarantees leave out: written down, so that no engine gets out of more."""
