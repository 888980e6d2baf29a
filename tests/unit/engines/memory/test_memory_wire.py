"""The hooks of the memory network. The port's contract is held by the conformance suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from coterie.engines.memory import MemoryNetwork
from coterie.errors import DeadlineExceeded, InvalidConfiguration, Outcome, Unavailable
from coterie.ports.wire import Handlers, Request


class Echo:
    """Handlers that answer at once, or never when the target is `wait`."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.peers: list[str] = []
        self.datagrams: list[bytes] = []
        self.handlers = Handlers(request=self.request, stream=self.stream, datagram=self.datagram)

    async def request(self, request: Request) -> bytes:
        self.started += 1
        self.peers.append(request.peer)
        if request.target == "wait":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return bytes(request.body)

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        yield bytes(request.body)

    def datagram(self, body: bytes, peer: str) -> None:
        self.datagrams.append(body)

    async def wait_started(self, count: int) -> None:
        while self.started < count:
            await asyncio.sleep(0)


@pytest.fixture
async def network() -> AsyncIterator[MemoryNetwork]:
    network = MemoryNetwork()
    yield network
    for wire in list(network._wires.values()):
        await wire.close()


async def test_a_cut_loses_the_calls_of_that_link_only(network: MemoryNetwork) -> None:
    echo = Echo()
    a, b, c = (network.wire(name) for name in "abc")
    address = (await b.listen("memory:b", echo.handlers)).address
    lost = asyncio.ensure_future(a.connect(address).request("wait", b"", timeout_s=20))
    kept = asyncio.ensure_future(c.connect(address).request("wait", b"", timeout_s=20))
    await echo.wait_started(2)
    network.cut("b", "a")
    with pytest.raises(Unavailable) as caught:
        await lost
    assert caught.value.outcome is Outcome.UNKNOWN
    assert echo.cancelled == 1
    assert not kept.done()
    kept.cancel()


async def test_nothing_passes_a_cut_until_it_is_mended(network: MemoryNetwork) -> None:
    echo = Echo()
    a, b = network.wire("a"), network.wire("b")
    channel = a.connect((await b.listen("memory:b", echo.handlers)).address)
    network.cut("a", "b")
    with pytest.raises(Unavailable) as caught:
        await channel.request("echo", b"1", timeout_s=20)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    channel.datagram(b"lost")
    await asyncio.sleep(0)
    network.mend("a", "b")
    assert await channel.request("echo", b"2", timeout_s=20) == b"2"
    channel.datagram(b"arrives")
    await asyncio.sleep(0)
    assert (echo.started, echo.datagrams) == (1, [b"arrives"])


async def test_a_killed_node_is_gone_both_ways_and_may_come_back(network: MemoryNetwork) -> None:
    echo = Echo()
    a, b = network.wire("a"), network.wire("b")
    listeners = [await wire.listen(f"memory:{wire.node}", echo.handlers) for wire in (a, b)]
    calls = [
        asyncio.ensure_future(wire.connect(address).request("wait", b"", timeout_s=20))
        for wire, address in ((a, "memory:b"), (b, "memory:a"))
    ]
    await echo.wait_started(2)
    network.kill("b")
    for call in calls:
        with pytest.raises(Unavailable) as caught:
            await call
        assert caught.value.outcome is Outcome.UNKNOWN
    with pytest.raises(Unavailable, match="nobody listens"):
        await a.connect("memory:b").request("echo", b"", timeout_s=20)
    again = network.wire("b")
    await again.listen("memory:b", echo.handlers)
    assert await a.connect("memory:b").request("echo", b"back", timeout_s=20) == b"back"
    assert listeners[0].address == "memory:a"
    network.kill("nobody")


async def test_a_call_whose_time_ends_before_its_handler_starts_is_not_applied(
    network: MemoryNetwork,
) -> None:
    echo = Echo()
    b = network.wire("b")
    channel = network.wire("a").connect((await b.listen("memory:0", echo.handlers)).address)
    call = asyncio.ensure_future(channel.request("echo", b"", timeout_s=20))
    asyncio.get_running_loop().call_soon(lambda: [each.expire() for each in channel._calls])
    with pytest.raises(DeadlineExceeded) as caught:
        await call
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert echo.started == 0


async def test_names_and_addresses(network: MemoryNetwork) -> None:
    echo = Echo()
    a = network.wire("a")
    with pytest.raises(InvalidConfiguration, match="open wire called 'a'"):
        network.wire("a")
    await a.listen("memory:1", echo.handlers)
    assert [(await a.listen(free, echo.handlers)).address for free in ("memory:", "memory:0")] == [
        "memory:2",
        "memory:3",
    ]
    with pytest.raises(InvalidConfiguration, match="in use"):
        await a.listen("memory:2", echo.handlers)
    with pytest.raises(InvalidConfiguration, match="memory:0"):
        await a.listen("127.0.0.1:0", echo.handlers)
    await a.close()
    assert network.wire("a").node == "a"


async def test_a_peer_is_known_by_where_it_listens(network: MemoryNetwork) -> None:
    echo = Echo()
    a, b = network.wire("a"), network.wire("b")
    await b.listen("memory:b", echo.handlers)
    channel = a.connect("memory:b")
    await channel.request("echo", b"", timeout_s=20)
    await a.listen("memory:shop", echo.handlers)
    await channel.request("echo", b"", timeout_s=20)
    assert echo.peers == ["memory:a", "memory:shop"]
