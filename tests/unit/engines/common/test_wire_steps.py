"""A coroutine started by `Steps` behaves as in a task of its own, from its first step on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from coterie.engines.common.steps import Steps

Start = Callable[[Coroutine[Any, Any, Any]], Any]
VARIABLE: ContextVar[str] = ContextVar("variable", default="outside")

ways = [
    "by hand",
    pytest.param("eagerly", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12")),
]


@pytest.fixture(params=ways)
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Start as a transport's callback does: outside of any task."""
    loop = asyncio.get_running_loop()
    steps = Steps(loop)
    yield steps.start_by_hand if request.param == "by hand" else steps.start_eagerly
    await steps.close()


async def called_back(function: Callable[[], Any]) -> Any:
    """Return what `function` returns when the loop calls it, outside of any task."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # handed on
            future.set_exception(error)

    loop.call_soon(run)
    return await future


async def test_what_does_not_wait_gives_its_result_at_once(start: Start) -> None:
    async def work() -> str:
        return "done"

    assert await called_back(lambda: start(work())) == "done"


async def test_what_does_not_wait_raises_at_once(start: Start) -> None:
    async def work() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await called_back(lambda: start(work()))


async def test_what_waits_becomes_a_task(start: Start) -> None:
    gate = asyncio.Event()
    steps: list[str] = []

    async def work() -> str:
        steps.append("first")
        await gate.wait()
        steps.append("second")
        await asyncio.sleep(0)
        return "done"

    task = await called_back(lambda: start(work()))
    assert isinstance(task, asyncio.Task)
    assert steps == ["first"]
    gate.set()
    assert await task == "done"


async def test_an_error_after_the_first_step_is_the_tasks(start: Start) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError("no")

    task = await called_back(lambda: start(work()))
    with pytest.raises(LookupError):
        await task


async def test_the_current_task_is_the_same_in_every_step(start: Start) -> None:
    async def work() -> list[asyncio.Task[Any] | None]:
        seen = [asyncio.current_task()]
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        return seen

    task = await called_back(lambda: start(work()))
    assert await task == [task, task]


async def test_no_task_is_current_afterwards(start: Start) -> None:
    async def work() -> None:
        pass

    async def waits() -> None:
        await asyncio.sleep(0)

    def both() -> Any:
        start(work())
        start(waits())
        with pytest.raises(LookupError):
            start(fails())
        return asyncio.current_task()

    async def fails() -> None:
        raise LookupError

    assert await called_back(both) is None


async def test_started_from_within_a_task_it_gives_the_task_back(start: Start) -> None:
    async def inner() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    async def outer() -> tuple[Any, Any, Any]:
        before = asyncio.current_task()
        other = start(inner())
        return before, other, asyncio.current_task()

    before, other, after = await called_back(lambda: start(outer()))
    assert before is after
    assert other is not before
    mine = asyncio.current_task()
    assert start(inner()) is not mine
    assert asyncio.current_task() is mine


async def test_each_has_a_context_of_its_own(start: Start) -> None:
    async def work(name: str, wait: bool) -> str:
        assert VARIABLE.get() == "outside"
        VARIABLE.set(name)
        if wait:
            await asyncio.sleep(0)
        return VARIABLE.get()

    def several() -> list[Any]:
        return [start(work("a", False)), start(work("b", True)), start(work("c", False)), VARIABLE.get()]

    a, b, c, outside = await called_back(several)
    assert (a, await b, c, outside) == ("a", "b", "c", "outside")


async def test_a_timeout_in_the_first_step(start: Start) -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timeout"
        return "no timeout"

    assert await (await called_back(lambda: start(work()))) == "timeout"


async def test_a_timeout_that_is_over_at_once(start: Start) -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timeout"
        return "no timeout"

    assert await (await called_back(lambda: start(work()))) == "timeout"


async def test_a_task_group_in_the_first_step(start: Start) -> None:
    async def child(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def failing() -> None:
        raise LookupError

    async def work(fail: bool) -> int:
        async with asyncio.TaskGroup() as group:
            children = [group.create_task(child(n)) for n in range(3)]
            if fail:
                group.create_task(failing())
        return sum(task.result() for task in children)

    good, bad = await called_back(lambda: [start(work(False)), start(work(True))])
    assert await good == 3
    with pytest.raises(ExceptionGroup) as caught:
        await bad
    assert caught.group_contains(LookupError) if hasattr(caught, "group_contains") else True


async def test_cancelled_before_its_task_had_a_step(start: Start) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    def start_and_cancel() -> Any:
        task = start(work())
        assert task.cancel()
        return task

    task = await called_back(start_and_cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_cancelled_once_the_spare_task_stood_ready(start: Start) -> None:
    async def nothing() -> None:
        pass

    await called_back(lambda: start(nothing()))
    await asyncio.sleep(0)
    await test_cancelled_before_its_task_had_a_step(start)


async def test_cancelled_later_it_may_clean_up_and_go_on(start: Start) -> None:
    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "cleaned up"
        return ""

    task = await called_back(lambda: start(work()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "cleaned up"


async def test_cancelling_reaches_the_task_that_it_waits_for(start: Start) -> None:
    inner_ended = asyncio.Event()

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            inner_ended.set()

    async def work() -> None:
        await asyncio.create_task(inner())

    def start_and_cancel_soon() -> Any:
        task = start(work())
        asyncio.get_running_loop().call_soon(task.cancel)
        return task

    task = await called_back(start_and_cancel_soon)
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert inner_ended.is_set()


async def test_several_may_wait_for_one_future(start: Start) -> None:
    future = asyncio.get_running_loop().create_future()

    async def work() -> Any:
        return await future

    tasks = await called_back(lambda: [start(work()) for _ in range(3)])
    future.set_result("shared")
    assert await asyncio.gather(*tasks) == ["shared"] * 3


async def test_a_future_that_is_done_before_the_task_looks(start: Start) -> None:
    async def work(future: asyncio.Future[str]) -> str:
        return await future

    def start_and_answer() -> Any:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = start(work(future))
        future.set_result("early")
        return task

    assert await (await called_back(start_and_answer)) == "early"


async def test_one_that_cancels_itself_does_not_cancel_the_next(start: Start) -> None:
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def waits() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    def both() -> Any:
        with pytest.raises(asyncio.CancelledError):
            start(cancels_itself())
        return start(waits())

    assert await (await called_back(both)) == "done"
    await asyncio.sleep(0)


async def test_one_that_cancels_itself_and_waits_is_cancelled(start: Start) -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)

    with pytest.raises(asyncio.CancelledError):
        await (await called_back(lambda: start(work())))


async def test_awaiting_what_cannot_be_awaited_is_told(start: Start) -> None:
    class Odd:
        def __await__(self) -> Any:
            yield 42

    async def work() -> None:
        await Odd()

    with pytest.raises(RuntimeError, match="42"):
        await (await called_back(lambda: start(work())))


async def test_the_spare_task_is_used_again() -> None:
    steps = Steps(asyncio.get_running_loop())
    tasks: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        tasks.append(asyncio.current_task())

    def many() -> None:
        for _ in range(10):
            steps.start_by_hand(work())

    await called_back(many)
    await asyncio.sleep(0)
    await called_back(many)
    assert len(set(tasks)) == 1
    await steps.close()
    assert tasks[0] is not None
    assert tasks[0].cancelled()
