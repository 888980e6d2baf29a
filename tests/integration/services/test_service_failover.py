"""Which node a call goes to, and when it goes to another: only if it certainly reached no handler."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
import pytest
from service_place import PLACES, Place, eventually, open_place

from coterie.errors import DeadlineExceeded, NotFound, Outcome, Overloaded, Unavailable
from coterie.ports.wire import Failure, Handlers, Request


class Where:
    """Tells on which node it runs; every call is counted for good."""

    def __init__(self, node: str, applied: Counter[str]) -> None:
        self.node = node
        self.applied = applied
        self.release = asyncio.Event()

    async def here(self) -> str:
        self.applied[self.node] += 1
        return self.node

    async def wait(self) -> str:
        self.applied[self.node] += 1
        await self.release.wait()
        return self.node

    async def refuse(self) -> str:
        self.applied[self.node] += 1
        raise Unavailable("not now", outcome=Outcome.NOT_APPLIED)

    async def items(self) -> AsyncIterator[str]:
        self.applied[self.node] += 1
        yield self.node
        await self.release.wait()


class Nodes:
    """Three nodes that host `Where`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.applied: Counter[str] = Counter()
        self.services: dict[str, Where] = {}
        self.client: Any = place.client(Where)

    async def add(self, *names: str) -> None:
        for name in names:
            self.services[name] = Where(name, self.applied)
            await self.place.serve(self.services[name], node=name)
        self.client = self.place.client(Where)

    async def ask(self, count: int) -> Counter[str]:
        return Counter([await self.client.here() for _ in range(count)])


@pytest.fixture
async def nodes(far: Place) -> Nodes:
    nodes = Nodes(far)
    await nodes.add("a", "b", "c")
    return nodes


async def test_all_live_nodes_get_calls(nodes: Nodes) -> None:
    assert set(await nodes.ask(200)) == {"a", "b", "c"}


async def test_a_node_that_left_gets_no_calls(nodes: Nodes) -> None:
    nodes.place.directory.remove("b")
    assert set(await nodes.ask(100)) == {"a", "c"}


async def test_a_node_that_joined_gets_calls(nodes: Nodes) -> None:
    await nodes.add("d")
    assert set(await nodes.ask(300)) == {"a", "b", "c", "d"}


async def test_calls_go_elsewhere_when_a_node_cannot_be_reached(nodes: Nodes) -> None:
    """The directory still lists it, as it does until the lease of a dead node ends."""
    await nodes.ask(20)
    await nodes.place.listeners["b"].close()
    answered = await nodes.ask(100)
    assert set(answered) == {"a", "c"}
    assert answered.total() == 100


async def test_calls_go_elsewhere_while_a_node_drains(nodes: Nodes) -> None:
    await nodes.ask(20)
    accepted = [asyncio.ensure_future(nodes.client.wait()) for _ in range(12)]
    await eventually(lambda: nodes.applied.total() == 32)
    draining = asyncio.ensure_future(nodes.place.listeners["b"].drain(20))
    await asyncio.sleep(0)
    assert "b" not in await nodes.ask(100)  # Of the others, the one with fewer calls under way gets all.
    for service in nodes.services.values():
        service.release.set()
    assert set(await asyncio.gather(*accepted)) == {"a", "b", "c"}
    assert await draining == 0


async def test_a_call_that_may_have_had_an_effect_is_not_repeated(nodes: Nodes) -> None:
    calls = [asyncio.ensure_future(nodes.client.wait()) for _ in range(30)]
    await eventually(lambda: nodes.applied.total() == 30)
    lost = nodes.applied["b"]
    await nodes.place.listeners["b"].close()
    for name in ("a", "c"):
        nodes.services[name].release.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert len(errors) == lost
    assert all(isinstance(e, Unavailable) and e.outcome is Outcome.UNKNOWN for e in errors)
    assert nodes.applied.total() == 30


async def test_a_refusal_by_the_method_itself_is_not_repeated(nodes: Nodes) -> None:
    with pytest.raises(Unavailable, match="not now"):
        await nodes.client.refuse()
    assert nodes.applied.total() == 1


async def test_a_stream_goes_elsewhere_only_before_it_began(nodes: Nodes) -> None:
    await nodes.place.listeners["a"].close()
    streams = [nodes.client.items() for _ in range(12)]
    assert {await anext(stream) for stream in streams} <= {"b", "c"}
    before = nodes.applied.total()
    await nodes.place.listeners["b"].close()
    nodes.services["c"].release.set()
    ends = await asyncio.gather(*(anext(stream, "end") for stream in streams), return_exceptions=True)
    assert {end if end == "end" else end.outcome for end in ends} <= {"end", Outcome.UNKNOWN}
    assert nodes.applied.total() == before


async def test_when_no_node_can_be_reached_the_call_is_not_applied() -> None:
    """It gives up when its patience is over, which is long before its deadline."""
    for kind in PLACES[1:]:
        async with open_place(kind, patience_s=0.05) as far:
            nodes = Nodes(far)
            await nodes.add("a", "b")
            for listener in far.listeners.values():
                await listener.close()
            with pytest.raises(Unavailable, match="none of the 2 nodes that offer Where can be") as caught:
                await nodes.client.here()
            assert caught.value.outcome is Outcome.NOT_APPLIED
            with pytest.raises(Unavailable) as streamed:
                await anext(nodes.client.items())
            assert streamed.value.outcome is Outcome.NOT_APPLIED
            assert not nodes.applied


async def test_a_call_waits_for_a_node_to_come(far: Place) -> None:
    nodes = Nodes(far)
    call = asyncio.ensure_future(nodes.client.here())
    stream = nodes.client.items()
    item = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    assert not call.done()
    client = nodes.client
    await nodes.add("late")
    assert (await call, await item) == ("late", "late")
    assert await client.here() == "late"
    await stream.aclose()


async def test_waiting_for_a_node_ends_at_the_callers_deadline(far: Place) -> None:
    nodes = Nodes(far)
    with far.calling(timeout_s=0.03), pytest.raises((Unavailable, DeadlineExceeded)) as caught:
        await nodes.client.here()
    assert caught.value.outcome is Outcome.NOT_APPLIED


class Refusing:
    """Handlers that fail with one failure, whatever they are asked."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        self.asked = 0
        self.handlers = Handlers(request=self._request, stream=self._stream)

    async def _request(self, request: Request) -> bytes:
        self.asked += 1
        raise self.failure

    async def _stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        self.asked += 1
        raise self.failure
        yield b""


@pytest.mark.parametrize("cls", [Unavailable, Overloaded, NotFound, DeadlineExceeded])
async def test_what_a_handler_says_is_the_answer(far: Place, cls: Any) -> None:
    """Also when it says that nothing was applied: it was reached, and the caller decides."""
    client: Any = far.client(Where)
    refusing = Refusing(Failure(cls.code, "no", outcome=Outcome.NOT_APPLIED))
    for node in ("a", "b"):
        await far.listen("Where", refusing.handlers, node=node)
    with pytest.raises(cls):
        await client.here()
    with pytest.raises(cls):
        await anext(client.items())
    assert refusing.asked == 2


async def test_a_reply_that_is_no_reply_is_not_repeated(far: Place) -> None:
    asked = 0

    async def request(request: Request) -> bytes:
        nonlocal asked
        asked += 1
        return msgspec.msgpack.encode({"no": "text"})

    async def stream(request: Request) -> AsyncGenerator[bytes, None]:
        yield msgspec.msgpack.encode(3)

    client: Any = far.client(Where)
    for node in ("a", "b"):
        await far.listen("Where", Handlers(request=request, stream=stream), node=node)
    with pytest.raises(Exception, match=r"Where\.here did not return str") as caught:
        await client.here()
    assert caught.value.outcome is Outcome.UNKNOWN  # type: ignore[attr-defined]
    with pytest.raises(Exception, match=r"Where\.items did not return str"):
        await anext(client.items())
    assert asked == 1
