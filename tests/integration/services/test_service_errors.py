"""What a caller learns when a method fails, or does not exist."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from service_place import PLACES, Place, open_place

from coterie.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    NotRunning,
    Outcome,
    RemoteError,
    Unavailable,
)
from coterie.ports.wire import Failure


class SoldOut(Exception):
    def __init__(self, sku: str, left: int) -> None:
        super().__init__(f"{sku}: only {left} left")
        self.sku = sku
        self.left = left


@dataclass
class Refused(Exception):
    reason: str
    codes: tuple[int, ...]


class Moved(Conflict):
    code = "moved"


class Faulty:
    def __init__(self) -> None:
        self.calls = 0

    async def fail(self, kind: str) -> int:
        await asyncio.sleep(0)
        return self._fail(kind)

    async def fail_at_once(self, kind: str) -> int:
        return self._fail(kind)

    async def items(self, kind: str, count: int) -> AsyncIterator[int]:
        for index in range(count):
            yield index
        self._fail(kind)

    def _fail(self, kind: str) -> int:
        self.calls += 1
        match kind:
            case "sold out":
                raise SoldOut("a", 3)
            case "refused":
                raise Refused("no", (1, 2))
            case "moved":
                raise Moved("elsewhere", hint="look there")
            case "ours":
                raise Unavailable("the store is away", hint="wait", outcome=Outcome.NOT_APPLIED)
            case "timeout":
                raise TimeoutError("of its own")
            case "text":
                raise OSError("no file \udcff")
            case "large":
                raise ValueError("x" * 20_000_000)
        return 1 // 0


METHODS = ["fail", "fail_at_once", "items"]


async def failing(client: Any, method: str, kind: str, count: int = 0) -> None:
    if method == "items":
        async for _ in client.items(kind, count):
            pass
    else:
        await getattr(client, method)(kind)


@pytest.fixture
async def client(place: Place) -> Any:
    for cls in (SoldOut, Refused, Moved):
        place.errors.register(cls)
    return await place.serve(Faulty())


@pytest.mark.parametrize("method", METHODS)
async def test_declared_errors_come_as_their_type(client: Any, method: str) -> None:
    with pytest.raises(SoldOut, match="a: only 3 left") as sold_out:
        await failing(client, method, "sold out")
    assert (sold_out.value.sku, sold_out.value.left) == ("a", 3)
    with pytest.raises(Refused) as refused:
        await failing(client, method, "refused")
    assert refused.value == Refused("no", (1, 2))
    with pytest.raises(Moved) as moved:
        await failing(client, method, "moved")
    assert (moved.value.message, moved.value.hint) == ("elsewhere", "look there")
    assert moved.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("method", METHODS)
async def test_errors_of_coterie_keep_their_outcome(client: Any, method: str) -> None:
    with pytest.raises(Unavailable) as caught:
        await failing(client, method, "ours")
    assert (caught.value.message, caught.value.hint) == ("the store is away", "wait")
    assert caught.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("bug", "ZeroDivisionError", "integer division or modulo by zero"),
        ("timeout", "TimeoutError", "of its own"),
        ("text", "OSError", "no file \\udcff"),
    ],
)
async def test_undeclared_errors_come_as_remote_errors_with_their_trace(
    client: Any, method: str, kind: str, name: str, message: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        await failing(client, method, kind)
    error = caught.value
    assert (error.type_name, error.message) == (name, message)
    assert error.outcome is Outcome.UNKNOWN
    assert "in _fail" in error.remote_traceback
    assert name in str(error)


async def test_an_error_too_large_to_send_still_ends_the_call(client: Any, far: Place) -> None:
    client = await far.serve(Faulty())
    with pytest.raises(RemoteError) as caught:
        await client.fail("large")
    assert caught.value.message.startswith("xxx")


async def test_a_failing_call_is_made_once(place: Place) -> None:
    faulty = Faulty()
    client = await place.serve(faulty)
    for kind in ("bug", "ours", "timeout"):
        with pytest.raises((RemoteError, Unavailable)):
            await client.fail(kind)
    assert faulty.calls == 3


class Liar:
    """Returns what it did not declare."""

    async def number(self) -> int:
        return "three"  # type: ignore[return-value]

    async def names(self) -> list[str]:
        return ["a", 2]  # type: ignore[list-item]

    async def thing(self) -> list[int]:
        return object()  # type: ignore[return-value]

    async def numbers(self) -> AsyncIterator[int]:
        yield 1
        yield "two"  # type: ignore[misc]


async def test_a_result_of_another_type_is_the_services_fault(place: Place) -> None:
    client = await place.serve(Liar())
    with pytest.raises(
        RemoteError, match=r"Liar\.number did not return int: Expected `int`, got `str`"
    ) as one:
        await client.number()
    assert one.value.outcome is Outcome.UNKNOWN
    with pytest.raises(RemoteError, match=r"Liar\.names did not return list\[str\]: Expected `str`") as two:
        await client.names()
    assert two.value.outcome is Outcome.UNKNOWN
    with pytest.raises(RemoteError, match="a value of type object cannot be sent"):
        await client.thing()
    items = client.numbers()
    assert await anext(items) == 1
    with pytest.raises(RemoteError, match=r"Liar\.numbers did not return int: Expected `int`, got `str`"):
        await anext(items)


class Outer:
    """Calls another service, and lets its errors through."""

    def __init__(self) -> None:
        self.inner: Any = None

    async def fail(self, kind: str) -> int:
        result: int = await self.inner.fail(kind)
        return result

    async def rest(self, kind: str) -> AsyncIterator[int]:
        async for item in self.inner.items(kind, 0):
            yield item

    async def fail_in_a_task(self, kind: str) -> int:
        result: int = await asyncio.create_task(self.inner.fail(kind))
        return result

    async def claim(self, kind: str) -> int:
        try:
            result: int = await self.inner.fail(kind)
        except Unavailable as error:
            raise Unavailable("nothing was done", outcome=Outcome.NOT_APPLIED) from error
        return result


async def test_errors_pass_through_a_chain_of_services(place: Place) -> None:
    place.errors.register(SoldOut)
    outer = Outer()
    client = await place.serve(outer, node="outer")
    outer.inner = await place.serve(Faulty(), node="inner")
    with pytest.raises(SoldOut) as sold_out:
        await client.fail("sold out")
    assert (sold_out.value.sku, sold_out.value.left) == ("a", 3)
    with pytest.raises(RemoteError) as caught:
        await client.fail("bug")
    assert caught.value.type_name == "ZeroDivisionError"
    assert "in _fail" in caught.value.remote_traceback


async def test_an_error_of_a_nested_call_does_not_say_that_the_outer_one_had_no_effect(place: Place) -> None:
    place.errors.register(Moved)
    outer = Outer()
    client: Any = await place.serve(outer, node="outer")
    outer.inner = await place.serve(Faulty(), node="inner")
    for failing_call in (
        lambda: client.fail("ours"),
        lambda: client.fail_in_a_task("ours"),
        lambda: anext(client.rest("ours")),
    ):
        with pytest.raises(Unavailable, match="the store is away") as let_through:
            await failing_call()
        assert let_through.value.outcome is Outcome.UNKNOWN
    # What only the method itself can know, it may say; so may the program that declares an error.
    with pytest.raises(Unavailable, match="nothing was done") as claimed:
        await client.claim("ours")
    assert claimed.value.outcome is Outcome.NOT_APPLIED
    with pytest.raises(Moved) as moved:
        await client.fail("moved")
    assert moved.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("kind", PLACES)
async def test_a_nested_call_that_reaches_nobody_does_not_say_so_of_the_outer_one(kind: str) -> None:
    async with open_place(kind, patience_s=0.01) as place:
        outer = Outer()
        client = await place.serve(outer, node="outer")
        outer.inner = place.client(Faulty)
        with pytest.raises(Unavailable, match="no live node offers") as caught:
            await client.fail("bug")
        assert caught.value.outcome is Outcome.UNKNOWN


async def test_an_unknown_method_is_not_found_with_a_suggestion(far: Place) -> None:
    await far.serve(Faulty())
    channel = far.channels.get(far.listeners["callee"].address)
    body = msgspec.msgpack.encode(["bug"])
    for target, hint in [
        ("Faulty.fial", "did you mean Faulty.fail?"),
        ("faulty.fail_at_once", "did you mean Faulty.fail_at_once?"),
        ("Zzz.qqq", "it has: Faulty.fail, Faulty.fail_at_once, Faulty.items"),
        ("", "it has: Faulty.fail, Faulty.fail_at_once, Faulty.items"),
        ("\x00" * 1000, "it has: "),
    ]:
        with pytest.raises(Failure) as caught:
            await channel.request(target, body, timeout_s=20)
        error = far.errors.from_failure(caught.value)
        assert isinstance(error, NotFound)
        assert hint in str(error)
        with pytest.raises(Failure, match="has no method"):
            await anext(aiter(channel.stream(target, body, timeout_s=20)))


async def test_a_stream_is_not_a_request(far: Place) -> None:
    await far.serve(Faulty())
    channel = far.channels.get(far.listeners["callee"].address)
    with pytest.raises(
        Failure, match=r"Faulty\.items returns a stream; the caller expected otherwise"
    ) as one:
        await channel.request("Faulty.items", b"\x90", timeout_s=20)
    assert one.value.code == InvalidArgument.code
    with pytest.raises(Failure, match=r"Faulty\.fail returns one result; the caller expected otherwise"):
        await anext(aiter(channel.stream("Faulty.fail", b"\x90", timeout_s=20)))


@pytest.mark.parametrize("body", [b"\x81\x01\x02", b"\x91\xa1\xff", b"\xc0"])
async def test_a_body_that_is_no_list_of_arguments_is_an_invalid_argument(far: Place, body: bytes) -> None:
    await far.serve(Faulty())
    channel = far.channels.get(far.listeners["callee"].address)
    with pytest.raises(Failure) as caught:
        await channel.request("Faulty.fail", body, timeout_s=20)
    assert isinstance(far.errors.from_failure(caught.value), InvalidArgument)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\xff\xff", b"\x91\xa3bug\x00"])
async def test_a_malformed_body_harms_no_later_call(far: Place, body: bytes) -> None:
    faulty = Faulty()
    client = await far.serve(faulty)
    channel = far.channels.get(far.listeners["callee"].address)
    with pytest.raises((Failure, Unavailable)):
        await channel.request("Faulty.fail", body, timeout_s=20)
    assert faulty.calls == 0
    with pytest.raises(RemoteError):
        await client.fail("bug")


async def test_an_undeclared_client_says_so(place: Place) -> None:
    client = place.client(Faulty)
    place.bindings.clear()
    with pytest.raises(NotRunning, match="'Faulty' is not known to the app that runs here"):
        await client.fail("bug")
    with pytest.raises(NotRunning, match="'Faulty' is not known"):
        await anext(aiter(client.items("bug", 1)))


async def test_no_node_at_all_is_unavailable(far: Place) -> None:
    client = far.client(Faulty)
    with far.calling(timeout_s=0.05), pytest.raises(Unavailable) as caught:
        await client.fail("bug")
    assert "no live node offers the service Faulty" in str(caught.value)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    with far.calling(timeout_s=-1), pytest.raises(DeadlineExceeded) as late:
        await client.fail("bug")
    assert late.value.outcome is Outcome.NOT_APPLIED
