"""Two attempts beside each other: who decides, and that nothing is left of the other one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from coterie.resilience.hedging import race


def no_error(error: BaseException | None) -> bool:
    return error is None


async def race_of(first: Callable[[], Awaitable[str]], second: Callable[[], Awaitable[str]]) -> str:
    async def run(work: Callable[[], Awaitable[str]]) -> str:
        return await work()

    return await race(run(first), lambda: run(second), 0.0, is_answer=no_error)


async def test_an_error_of_the_one_that_did_not_decide_is_nobodys() -> None:
    both, told = asyncio.Event(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: told.append(about["message"]))

    async def answers() -> str:
        await both.wait()
        return "answer"

    async def fails_as_well() -> str:
        both.set()
        await asyncio.sleep(0)
        raise LookupError("in the same turn of the loop")

    async def fails_at_the_end() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("while it was cancelled")
        return ""

    assert await race_of(answers, fails_as_well) == "answer"
    both.set()
    assert await race_of(fails_at_the_end, answers) == "answer"
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


async def test_when_neither_answers_the_error_of_the_last_one_is_raised() -> None:
    second = asyncio.Event()

    async def fails_first() -> str:
        await second.wait()
        raise LookupError("the first")

    async def fails_last() -> str:
        second.set()
        for _ in range(5):
            await asyncio.sleep(0)
        raise KeyError("the second")

    with pytest.raises(KeyError, match="the second"):
        await race_of(fails_first, fails_last)
