"""Guards and limiters: retries in time, breakers, limits, deadlines, cancellation. Time is the loop's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from coterie.context import CURRENT, Call
from coterie.errors import Conflict, DeadlineExceeded, Outcome, Overloaded, Unavailable
from coterie.resilience import (
    BreakerConfig,
    BreakerState,
    Guard,
    Hedge,
    Limiter,
    Policy,
    PolicyEvent,
    PolicyEventKind,
    QueueConfig,
    Rate,
    Retry,
    RetryBudgetConfig,
    check_deadline,
    deadline,
    remaining_s,
)

QUICK = Retry(base_s=0.001, longest_s=0.002)


class Flaky:
    """Fails as often as it is told, then works."""

    def __init__(self, failures: int, error: Callable[[], Exception] = lambda: Unavailable("down")) -> None:
        self.left = failures
        self.error = error
        self.calls = 0

    async def __call__(self, waits: bool = False) -> str:
        self.calls += 1
        if waits:
            await asyncio.sleep(0)
        if self.left:
            self.left -= 1
            raise self.error()
        return "done"


@pytest.mark.parametrize("waits", [False, True])
async def test_what_may_be_repeated_is(waits: bool) -> None:
    events: list[PolicyEvent] = []
    guard, flaky = Guard(Policy(retry=QUICK), name="flaky", listener=events.append), Flaky(2)
    assert await guard.run(flaky, waits=waits, idempotent=True) == "done"
    assert flaky.calls == 3
    assert [(e.kind, e.attempt) for e in events if e.attempt] == [
        (PolicyEventKind.RETRY, 2),
        (PolicyEventKind.RETRY, 3),
    ]
    assert [e.kind for e in events].count(PolicyEventKind.ATTEMPT) == 3


async def test_an_unknown_outcome_is_not_repeated_unless_idempotent() -> None:
    flaky = Flaky(1)
    with pytest.raises(Unavailable):
        await Guard(Policy(retry=QUICK)).run(flaky)
    assert flaky.calls == 1
    safe = Flaky(1, lambda: Unavailable("down", outcome=Outcome.NOT_APPLIED))
    assert await Guard(Policy(retry=QUICK)).run(safe) == "done"


async def test_attempts_are_bounded_and_the_last_error_is_raised() -> None:
    flaky = Flaky(100)
    with pytest.raises(Unavailable, match="down"):
        await Guard(Policy(retry=Retry(attempts=4, base_s=0, longest_s=0))).run(flaky, idempotent=True)
    assert flaky.calls == 4


async def test_a_spent_budget_ends_the_repeats() -> None:
    events: list[PolicyEvent] = []
    budget = RetryBudgetConfig(ratio=0, floor_per_s=0, burst=3)
    policy = Policy(retry=Retry(attempts=3, base_s=0, longest_s=0, budget=budget), breaker=None)
    guard, flaky = Guard(policy, listener=events.append), Flaky(1000)
    for _ in range(10):
        with pytest.raises(Unavailable):
            await guard.run(flaky, idempotent=True)
    assert flaky.calls == 10 + 3
    assert [event.kind for event in events].count(PolicyEventKind.BUDGET_SPENT) == 9


async def test_no_repeat_begins_that_could_not_end_in_time() -> None:
    flaky = Flaky(5, lambda: Overloaded("later", retry_after_s=60))
    with pytest.raises(Overloaded):
        await Guard(Policy(timeout_s=1)).run(flaky)
    assert flaky.calls == 1


async def test_an_open_breaker_refuses_at_once_and_says_for_how_long() -> None:
    policy = Policy(retry=None, breaker=BreakerConfig(min_calls=3, open_s=20))
    guard, flaky = Guard(policy, name="prices"), Flaky(100)
    for _ in range(3):
        with pytest.raises(Unavailable, match="down"):
            await guard.run(flaky)
    with pytest.raises(Unavailable, match="prices has failed too often") as refused:
        await guard.run(flaky)
    assert flaky.calls == 3
    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert 19 < (refused.value.retry_after_s or 0) <= 20


@pytest.mark.parametrize("error", [Conflict, asyncio.CancelledError])
async def test_answers_and_cancellations_say_nothing_against_the_target(
    error: Callable[[], BaseException],
) -> None:
    guard = Guard(Policy(breaker=BreakerConfig(min_calls=1)))

    async def raises() -> None:
        raise error()

    for _ in range(20):
        with pytest.raises((Conflict, asyncio.CancelledError)):
            await guard.run(raises)
    assert guard.breaker is not None
    assert guard.breaker.state is BreakerState.CLOSED


async def test_a_call_ends_by_its_timeout_and_its_work_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(DeadlineExceeded) as late:
        await Guard(Policy(timeout_s=0.02), name="this").run(hangs)
    assert late.value.outcome is Outcome.UNKNOWN
    assert cancelled.is_set()


async def test_a_timeout_of_the_work_itself_is_its_own() -> None:
    async def times_out() -> None:
        await asyncio.sleep(0)
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await Guard().run(times_out)


async def test_deadlines_nest_and_only_shrink() -> None:
    assert remaining_s() is None
    with deadline(10) as outer:
        with deadline(60) as inner:
            assert inner == outer
        with deadline(0.5):
            left = remaining_s()
            assert left is not None
            assert left <= 0.5
            check_deadline("this")
        with deadline(0), pytest.raises(DeadlineExceeded) as over:
            check_deadline("this")
        assert over.value.outcome is Outcome.NOT_APPLIED
        with deadline(0), pytest.raises(DeadlineExceeded):
            await Guard().run(Flaky(0))
    assert remaining_s() is None


@pytest.mark.parametrize("policy", [Policy(timeout_s=0.5), Policy(attempt_timeout_s=0.5)])
async def test_what_is_called_sees_how_long_it_has(policy: Policy) -> None:
    async def left() -> float | None:
        await asyncio.sleep(0)
        return remaining_s()

    guard = Guard(policy)
    inside = await guard.run(left)
    assert inside is not None
    assert 0 < inside <= 0.5
    assert remaining_s() is None
    with deadline(0.125):  # An eighth: added to a time and taken off again it is not rounded.
        inside = await guard.run(left)
        assert inside is not None
        assert inside <= 0.125
    assert await Guard(Policy.none()).run(left) is None


async def test_a_deadline_keeps_the_call_it_is_in() -> None:
    token = CURRENT.set(Call("node", {"a": 1}, None))
    try:
        with deadline(1):
            assert CURRENT.get().node == "node"
            assert CURRENT.get().bindings == {"a": 1}
    finally:
        CURRENT.reset(token)


async def test_a_rate_refuses_and_says_when_to_come_back() -> None:
    guard = Guard(Policy(rate=Rate(rate=1, per=60, burst=2), retry=None))
    await guard.run(Flaky(0))
    await guard.run(Flaky(0))
    with pytest.raises(Overloaded) as limited:
        await guard.run(Flaky(0))
    assert 58 < (limited.value.retry_after_s or 0) <= 60


async def test_a_bulkhead_lets_in_so_many_and_lets_a_few_wait() -> None:
    limiter = Limiter(2, QueueConfig(length=1, interval_s=5), name="it")
    await limiter.enter()
    await limiter.enter()
    waiting = asyncio.create_task(limiter.enter())
    await asyncio.sleep(0)
    assert limiter.waiting == 1
    with pytest.raises(Overloaded) as refused:
        await limiter.enter()
    assert refused.value.outcome is Outcome.NOT_APPLIED
    limiter.leave(0.01)
    await waiting
    assert limiter.state.under_way == 2
    assert limiter.refused == 1


async def test_the_more_important_takes_the_place_of_the_less_important() -> None:
    limiter = Limiter(1, QueueConfig(length=1, interval_s=5), name="it")
    await limiter.enter()
    unimportant = asyncio.create_task(limiter.enter(priority=3))
    await asyncio.sleep(0)
    important = asyncio.create_task(limiter.enter(priority=0))
    with pytest.raises(Overloaded):
        await unimportant
    limiter.leave(None)
    await important


async def test_nobody_waits_longer_than_the_queue_allows() -> None:
    limiter = Limiter(1, QueueConfig(length=5, target_s=0.01, interval_s=0.02), name="it")
    await limiter.enter()
    with pytest.raises(Overloaded):
        await limiter.enter()
    assert limiter.waiting == 0


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
async def test_giving_up_leaves_no_place_taken(how: str) -> None:
    limiter = Limiter(1, QueueConfig(length=5, interval_s=5), name="it")
    await limiter.enter()
    until = asyncio.get_running_loop().time() + 0.01 if how == "deadline" else None
    waiting = asyncio.create_task(limiter.enter(deadline=until))
    await asyncio.sleep(0)
    if how == "cancelled":
        waiting.cancel()
    with pytest.raises((asyncio.CancelledError, DeadlineExceeded)):
        await waiting
    assert limiter.waiting == 0
    limiter.leave(None)
    assert limiter.state.under_way == 0


async def test_one_who_is_let_in_while_giving_up_gives_the_place_back() -> None:
    limiter = Limiter(1, QueueConfig(length=5, interval_s=5), name="it")
    await limiter.enter()
    waiting = asyncio.create_task(limiter.enter())
    await asyncio.sleep(0)
    limiter.leave(None)  # Lets it in ...
    waiting.cancel()  # ... and in the same turn of the loop it is cancelled.
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert limiter.state.under_way == 0
    assert limiter.enter_nowait()


async def test_a_guard_with_a_limit_counts_who_is_inside() -> None:
    guard = Guard(Policy(limit=1, queue=QueueConfig(length=0), retry=None), name="one at a time")
    release = asyncio.Event()
    first = asyncio.create_task(guard.run(release.wait))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="one at a time"):
        await guard.run(Flaky(0))
    release.set()
    assert await first
    assert await guard.run(Flaky(0)) == "done"


class Sometimes:
    """Answers at once but for the calls whose number is in `hangs`."""

    def __init__(self) -> None:
        self.calls = 0
        self.hangs: set[int] = set()
        self.cancelled: list[int] = []

    async def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        if number in self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.append(number)
                raise
        await asyncio.sleep(0)
        return number


async def test_an_attempt_that_takes_longer_than_usual_gets_company() -> None:
    events: list[PolicyEvent] = []
    work, guard = Sometimes(), Guard(Policy(hedge=Hedge(min_calls=5)), listener=events.append)
    for _ in range(5):
        await guard.run(work, idempotent=True)
    work.hangs = {6}
    assert await guard.run(work, idempotent=True) == 7
    assert work.cancelled == [6], "the slower one is cancelled"
    assert PolicyEventKind.HEDGE in [event.kind for event in events]


async def test_only_what_is_idempotent_gets_company_and_only_within_the_budget() -> None:
    work = Sometimes()
    budget = RetryBudgetConfig(ratio=0, floor_per_s=0, burst=1)
    guard = Guard(Policy(timeout_s=0.1, hedge=Hedge(min_calls=5), retry=Retry(attempts=1, budget=budget)))
    for _ in range(5):
        await guard.run(work, idempotent=True)
    work.hangs = {6, 7, 9}
    with pytest.raises(DeadlineExceeded):
        await guard.run(work)
    assert await guard.run(work, idempotent=True) == 8
    with pytest.raises(DeadlineExceeded):
        await guard.run(work, idempotent=True)
    assert work.calls == 9, "the budget had one hedge"


async def test_a_decorated_function_keeps_its_name_and_its_arguments() -> None:
    guard = Guard(Policy(retry=QUICK))

    @guard.wrap(idempotent=True)
    async def double(value: int, *, times: int = 2) -> int:
        """Docs."""
        return value * times

    assert await double(4) == 8
    assert await double(4, times=3) == 12
    assert double.__name__ == "double"
    assert double.__doc__ == "Docs."
