"""The virtual loop: asyncio's semantics, virtual time, scopes, and the same order in every run."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from coterie.simulation.errors import BudgetExhausted, Deadlock
from coterie.simulation.loop import VirtualLoop
from coterie.simulation.scope import Scope, drop, hold
from coterie.simulation.tape import Tape
from coterie.simulation.trace import Trace


def run(main: Coroutine[Any, Any, Any], loop: VirtualLoop | None = None) -> Any:
    loop = loop or VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def test_waiting_costs_no_real_time_and_moves_the_virtual_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(3600)
        async with asyncio.timeout(10_000):
            await asyncio.sleep(3600)
        return loop.time()

    assert run(main()) == pytest.approx(7200, abs=0.001)


def test_timeouts_cancel() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        assert asyncio.get_running_loop().time() == pytest.approx(1, abs=0.001)

    run(main())


def test_spinning_sees_time_go_on() -> None:
    async def main() -> int:
        flag: list[int] = []
        asyncio.get_running_loop().call_later(0.01, flag.append, 1)
        spins = 0
        while not flag:
            await asyncio.sleep(0)
            spins += 1
        return spins

    assert run(main()) == pytest.approx(1000, abs=5)


def test_callbacks_run_in_the_order_they_were_scheduled() -> None:
    order: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(5):
            loop.call_soon(order.append, number)
        loop.call_at(loop.time() + 2, order.append, 7)
        loop.call_at(loop.time() + 1, order.append, 5)
        loop.call_at(loop.time() + 1, order.append, 6)
        cancelled = loop.call_later(0.5, order.append, 99)
        cancelled.cancel()
        assert cancelled.cancelled()
        await asyncio.sleep(3)

    run(main())
    assert order == [0, 1, 2, 3, 4, 5, 6, 7]


def test_many_cancelled_timers_are_thrown_out() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        for _ in range(10_000):
            loop.call_later(60, print).cancel()
        return len(loop._timers)

    assert run(main()) < 300


def test_a_deadlock_names_the_tasks_that_wait() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(stuck(), name="the-stuck-one")

    loop = VirtualLoop()
    with pytest.raises(Deadlock, match=r"the-stuck-one .*stuck at .*test_loop.py:\d+") as caught:
        loop.run_until_complete(main())
    assert caught.value.hint
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


def test_a_universe_that_spins_exhausts_its_budget() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    loop = VirtualLoop(max_events=1000)
    with pytest.raises(BudgetExhausted, match="more than 1,000 events"):
        loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.max_events = 2000
    loop.run_until_complete(asyncio.sleep(0))


def test_virtual_time_can_be_bounded() -> None:
    loop = VirtualLoop()
    loop.end_s = 10.0
    with pytest.raises(BudgetExhausted, match="within 10 virtual seconds"):
        loop.run_until_complete(asyncio.sleep(11))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


def test_exceptions_of_callbacks_harm_no_other_and_are_kept() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    run(main(), loop)
    assert isinstance(loop.unhandled[0]["exception"], ZeroDivisionError)
    assert loop.unhandled[0]["scope"] == "world"


def test_an_exception_handler_belongs_to_its_scope() -> None:
    loop = VirtualLoop()
    seen: list[str] = []
    scope = Scope("a", 1)

    async def main() -> None:
        with loop.within(scope):
            loop.set_exception_handler(lambda _, context: seen.append(type(context["exception"]).__name__))
            loop.call_soon(lambda: 1 / 0)
        loop.call_soon(lambda: {}["x"])
        await asyncio.sleep(1)

    run(main(), loop)
    assert seen == ["ZeroDivisionError"]
    assert [type(each["exception"]) for each in loop.unhandled] == [KeyError]


def in_scope(
    loop: VirtualLoop, scope: Scope, function: Callable[[], Coroutine[Any, Any, Any]]
) -> asyncio.Task[Any]:
    with loop.within(scope):
        return loop.create_task(function())


def test_scopes_are_inherited_by_tasks_timers_and_futures() -> None:
    loop = VirtualLoop()
    scope = Scope("a", 1)
    seen: list[str] = []

    async def child() -> None:
        await asyncio.sleep(1)
        seen.append(loop.scope.name)
        loop.call_later(1, lambda: seen.append(loop.scope.name))

    async def parent() -> None:
        await asyncio.create_task(child())
        seen.append(loop.scope.name)

    async def main() -> None:
        task = in_scope(loop, scope, parent)
        await task
        seen.append(loop.scope.name)
        await asyncio.sleep(5)

    run(main(), loop)
    assert seen == ["a", "a", "world", "a"]


def test_a_killed_scope_runs_no_finally_and_a_paused_one_goes_on_where_it_was() -> None:
    loop = VirtualLoop()
    killed, paused = Scope("killed", 1), Scope("paused", 2)
    seen: list[str] = []
    tasks: list[asyncio.Task[Any]] = []

    async def work() -> None:
        name = loop.scope.name
        try:
            for step in range(3):
                await asyncio.sleep(1)
                seen.append(f"{name} {step}")
        finally:
            seen.append(f"{name} finally")

    async def main() -> None:
        tasks.extend(in_scope(loop, scope, work) for scope in (killed, paused))
        await asyncio.sleep(1.5)
        killed.gate, paused.gate = drop, hold
        await asyncio.sleep(10)
        assert seen == ["killed 0", "paused 0"]
        paused.gate = None
        while paused.backlog:
            loop.push(paused.backlog.popleft())
        await asyncio.sleep(10)

    run(main(), loop)
    assert seen == ["killed 0", "paused 0", "paused 1", "paused 2", "paused finally"]
    tasks[0]._log_destroy_pending = False


def interleaving(seed: int) -> tuple[list[str], str]:
    loop = VirtualLoop()
    loop.schedule = Tape(seed).stream("schedule")
    seen: list[str] = []

    async def work() -> None:
        for step in range(4):
            seen.append(f"{loop.scope.name}{step}")
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(
            *(in_scope(loop, Scope(name, number), work) for number, name in enumerate("abc", 1))
        )

    run(main(), loop)
    return seen, loop.digest()


def test_the_tape_interleaves_scopes_but_keeps_the_order_within_each() -> None:
    runs = [interleaving(seed) for seed in range(10)]
    assert len({tuple(seen) for seen, _ in runs}) > 5
    for seen, _ in runs:
        for name in "abc":
            assert [step for step in seen if step[0] == name] == [f"{name}{step}" for step in range(4)]
    assert runs == [interleaving(seed) for seed in range(10)]
    assert len({digest for _, digest in runs}) > 5


def test_sets_of_tasks_iterate_the_same_in_every_run() -> None:
    async def main(ballast: int) -> list[int]:
        tasks, kept = [], []
        for number in range(50):
            kept.append([object() for _ in range(ballast)])
            tasks.append(asyncio.create_task(asyncio.sleep(1, number)))
        done, _ = await asyncio.wait(tasks)
        return [task.result() for task in done]

    assert run(main(0)) == run(main(7))


def test_the_trace_tells_runs_apart() -> None:
    async def main(delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    def digest(delay_s: float) -> str:
        loop = VirtualLoop(trace=Trace())
        run(main(delay_s), loop)
        return loop.digest()

    assert digest(1.0) == digest(1.0)
    assert digest(1.0) != digest(1.001)


def test_marks_enter_the_trace_and_are_kept_on_demand() -> None:
    silent, kept = Trace(), Trace(keep=2)
    for trace in (silent, kept):
        for number in range(3):
            trace.mark(float(number), "a", "note", number=number)
    assert silent.digest() == kept.digest()
    assert not silent.events
    assert [event.detail["number"] for event in kept.events] == [1, 2]


def test_a_dropped_async_generator_is_closed_in_its_own_scope() -> None:
    loop = VirtualLoop()
    scope = Scope("a", 1)
    closed: list[str] = []

    async def generate() -> Any:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(loop.scope.name)

    async def work() -> list[Any]:
        generator = generate()
        await anext(generator)
        return [generator]

    async def main() -> None:
        box = await in_scope(loop, scope, work)
        box.clear()
        gc.collect()
        await asyncio.sleep(1)

    run(main(), loop)
    assert closed == ["a"]


def test_a_factory_makes_the_tasks_of_its_scope() -> None:
    made: list[str] = []

    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        await asyncio.create_task(asyncio.sleep(0), name="named")

    run(main())
    assert made == ["sleep"]


def test_a_loop_cannot_be_used_after_close_or_within_itself() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="another loop"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="close a running"):
            loop.close()

    run(main(), loop)
    assert loop.is_closed()
    assert not loop.is_running()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()
