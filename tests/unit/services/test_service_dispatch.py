"""What the answering side counts of the calls that came over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from coterie.errors import DeadlineExceeded, Outcome
from coterie.services import Dispatcher, ErrorRegistry, describe


class Slow:
    async def forever(self) -> None:
        await asyncio.Event().wait()

    async def own_timeout(self) -> None:
        raise TimeoutError("of something further down")

    async def items_forever(self) -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def items_timeout(self) -> AsyncIterator[int]:
        yield 1
        raise TimeoutError("of something further down")


SLOW = describe(Slow)


@pytest.fixture
async def dispatcher() -> Dispatcher:
    return Dispatcher("node", {"Slow": SLOW}, {"Slow": Slow()}, bindings={}, errors=ErrorRegistry())


async def call(dispatcher: Dispatcher, name: str, timeout_s: float) -> None:
    method = SLOW.methods[name]
    arguments: Any = method.arguments.type()
    if not method.streaming:
        await dispatcher.invoke(method, arguments, timeout_s=timeout_s, metadata=None)
    async for _ in dispatcher.stream(method, arguments, timeout_s=timeout_s, metadata=None):
        pass


def failures(dispatcher: Dispatcher) -> dict[tuple[str, ...], object]:
    (family,) = [each for each in dispatcher.collect() if each.name == "coterie_calls_failed_total"]
    return {sample.labels: sample.value for sample in family.samples}


@pytest.mark.parametrize("name", ["forever", "items_forever"])
async def test_a_call_whose_time_is_over_is_counted_as_that(dispatcher: Dispatcher, name: str) -> None:
    with pytest.raises(DeadlineExceeded, match=rf"Slow\.{name} took longer than 0\.01 s") as raised:
        await call(dispatcher, name, 0.01)
    assert raised.value.outcome is Outcome.UNKNOWN
    assert failures(dispatcher) == {(f"Slow.{name}", "deadline_exceeded"): 1}
    assert dispatcher.pending == 0


@pytest.mark.parametrize("name", ["own_timeout", "items_timeout"])
async def test_a_time_that_was_over_further_down_is_an_error_like_any_other(
    dispatcher: Dispatcher, name: str
) -> None:
    with pytest.raises(TimeoutError, match="further down"):
        await call(dispatcher, name, 10)
    assert failures(dispatcher) == {(f"Slow.{name}", "internal"): 1}
    assert dispatcher.pending == 0
