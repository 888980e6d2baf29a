"""`Guard`: a policy at work around any awaitable, without an app.

    guard = Guard(Policy(timeout_s=2.0), name="prices")
    price = await guard.run(fetch, "tea", idempotent=True)

    @guard.wrap(idempotent=True)
    async def fetch(sku: str) -> int: ...

A guard stands for one thing that is called: its budget, breaker, limit and rate are counted over all
calls that go through it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ..context import CURRENT, Call
from ..errors import (
    CoterieError,
    DeadlineExceeded,
    Outcome,
    Overloaded,
    RateLimited,
    RemoteError,
    Unavailable,
)
from .breaker import Breaker, BreakerState
from .budget import RetryBudget
from .events import Listener, PolicyEvent, PolicyEventKind
from .hedging import HedgeDelay, race
from .limiter import Limiter
from .policy import Policy
from .queue import Priority
from .rate import Gcra
from .stepping import within

if TYPE_CHECKING:
    from ..ports.entropy import Entropy

__all__ = ["Guard", "blames_the_target"]

P = ParamSpec("P")
T = TypeVar("T")


def blames_the_target(error: BaseException) -> bool:
    """Return whether a failure speaks against what was called, and not against the caller.

    An error that the program declares, a conflict or a wrong argument is an answer. An exception that
    nobody declared is a fault of what was called.
    """
    if isinstance(error, CoterieError):
        return isinstance(error, Unavailable | DeadlineExceeded | Overloaded | RemoteError)
    return isinstance(error, Exception)


class Guard:
    """Runs calls under one policy. Belongs to one event loop, from its first call on."""

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        name: str = "this call",
        listener: Listener | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.policy: Policy = policy or Policy()
        self.name: str = name
        self.breaker: Breaker | None = Breaker(self.policy.breaker) if self.policy.breaker else None
        self.budget: RetryBudget | None = RetryBudget(self.policy.retry.budget) if self.policy.retry else None
        if self.policy.hedge is not None and self.budget is None:
            self.budget = RetryBudget()
        self.limiter: Limiter | None = None
        self._listener = listener
        self._entropy = entropy
        self._rate = Gcra(self.policy.rate) if self.policy.rate else None
        self._hedging = HedgeDelay(self.policy.hedge) if self.policy.hedge else None
        self._time: Callable[[], float] | None = None

    def _begin(self) -> Callable[[], float]:
        loop = asyncio.get_running_loop()
        if self.policy.limit is not None:
            self.limiter = Limiter(self.policy.limit, self.policy.queue, name=self.name)
        if self._entropy is None:
            from ..engines.system import SystemEntropy  # only when nobody gave another

            self._entropy = SystemEntropy()
        self._time = loop.time
        return self._time

    async def run(
        self,
        function: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        idempotent: bool = False,
        priority: Priority = 1,
        **kwargs: Any,
    ) -> T:
        """Call `function(*args, **kwargs)` under the policy and return its result.

        `idempotent` says that it may be called again although the first call may have had its effect.
        Raises what the last attempt raised, `Overloaded` or `Unavailable` (both not applied) when it was
        refused here, and `DeadlineExceeded`.
        """
        return await self._run(functools.partial(function, *args, **kwargs), idempotent, priority)

    def wrap(
        self, *, idempotent: bool = False, priority: Priority = 1
    ) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """Return a decorator that runs a function under the policy."""

        def decorate(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
            @functools.wraps(function)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
                return self._run(functools.partial(function, *args, **kwargs), idempotent, priority)

            return guarded

        return decorate

    async def _run(
        self,
        work: Callable[[], Awaitable[T]],
        idempotent: bool,
        priority: Priority,
    ) -> T:
        time = self._time or self._begin()
        now = time()
        here = CURRENT.get(None)
        inherited = None if here is None else here.deadline
        until = inherited
        if self.policy.timeout_s is not None:
            until = now + self.policy.timeout_s
            if inherited is not None and inherited < until:
                until = inherited
        if until is not None and until <= now:
            raise DeadlineExceeded(
                f"the deadline was over before {self.name} began", outcome=Outcome.NOT_APPLIED
            )
        if self.budget is not None:
            self.budget.attempt()
        if self._rate is not None:
            self._check_rate(now)
        if self.limiter is not None and not self.limiter.enter_nowait():
            await self._enter(priority, until)
        # What is called sees how long it has.
        token = None if until == inherited else CURRENT.set(_until(here, until))
        try:
            if self.limiter is None:
                return await self._attempts(work, idempotent, until)
            return await self._counted(self.limiter, work, idempotent, until)
        finally:
            if token is not None:
                CURRENT.reset(token)

    async def _counted(
        self,
        limiter: Limiter,
        work: Callable[[], Awaitable[T]],
        idempotent: bool,
        until: float | None,
    ) -> T:
        time = cast("Callable[[], float]", self._time)
        began, took_s, dropped = time(), None, False
        try:
            result = await self._attempts(work, idempotent, until)
            took_s = time() - began
        except (Overloaded, DeadlineExceeded):
            dropped = True
            raise
        finally:
            limiter.leave(took_s, dropped=dropped)
        return result

    def _check_rate(self, now: float) -> None:
        assert self._rate is not None  # noqa: S101 - the caller has looked
        wait_s = self._rate.wait_s(now)
        if wait_s > 0:
            self._tell(PolicyEventKind.LIMITED)
            raise RateLimited(f"the rate of {self.name} is used up", retry_after_s=wait_s)

    async def _enter(self, priority: Priority, until: float | None) -> None:
        assert self.limiter is not None  # noqa: S101 - the caller has looked
        try:
            await self.limiter.enter(priority, until)
        except Overloaded:
            self._tell(PolicyEventKind.SHED)
            raise

    async def _attempts(
        self,
        work: Callable[[], Awaitable[T]],
        idempotent: bool,
        until: float | None,
    ) -> T:
        attempt, unknown = 1, False
        while True:
            try:
                if self._hedging is not None and idempotent:
                    return await self._hedged(self._hedging, work, until)
                return await self._attempt(work, until)
            except Exception as error:
                unknown = unknown or not isinstance(error, CoterieError) or error.outcome is Outcome.UNKNOWN
                pause_s = self._again_s(error, attempt, until, idempotent=idempotent)
                if pause_s is None:
                    if unknown and isinstance(error, CoterieError):
                        error.outcome = Outcome.UNKNOWN  # It is of all attempts.
                    raise
            await asyncio.sleep(pause_s)
            attempt += 1

    def _again_s(
        self, error: Exception, attempt: int, until: float | None, *, idempotent: bool
    ) -> float | None:
        retry, budget = self.policy.retry, self.budget
        if retry is None or budget is None:
            return None
        time, entropy = cast("Callable[[], float]", self._time), cast("Entropy", self._entropy)
        now, chance = time(), entropy.random()
        pause_s = retry.again_s(error, attempt, idempotent=idempotent, now=now, until=until, chance=chance)
        if pause_s is None:
            return None
        if not budget.spend(now):
            self._tell(PolicyEventKind.BUDGET_SPENT, attempt=attempt, detail=str(error))
            return None
        self._tell(PolicyEventKind.RETRY, attempt=attempt + 1, detail=str(error))
        return pause_s

    async def _hedged(
        self,
        delay: HedgeDelay,
        work: Callable[[], Awaitable[T]],
        until: float | None,
    ) -> T:
        """Make an attempt, and a second one beside it when it takes longer than usual."""
        time, budget = cast("Callable[[], float]", self._time), cast("RetryBudget", self.budget)
        began, company = time(), False
        after_s = delay.after_s(began)

        def beside() -> Coroutine[Any, Any, T] | None:
            nonlocal company
            if not budget.spend(time()):
                return None
            company = True
            self._tell(PolicyEventKind.HEDGE)
            return self._attempt(work, until)

        first = self._attempt(work, until)
        try:
            if after_s is None:
                result = await first
            else:
                result = await race(first, beside, after_s, is_answer=_is_answer)
        except CoterieError as error:
            if company:
                error.outcome = Outcome.UNKNOWN  # The other one may have had its effect.
            raise
        now = time()
        delay.add(now, now - began)
        return result

    async def _attempt(
        self,
        work: Callable[[], Awaitable[T]],
        until: float | None,
    ) -> T:
        time, breaker = cast("Callable[[], float]", self._time), self.breaker
        began = time()
        if breaker is not None and breaker.state is not BreakerState.CLOSED and not breaker.admit(began):
            raise Unavailable(
                f"{self.name} has failed too often lately and is not tried",
                outcome=Outcome.NOT_APPLIED,
                retry_after_s=breaker.wait_s(began),
            )
        if self._listener is not None:
            self._tell(PolicyEventKind.ATTEMPT)
        limit_s, token = self.policy.attempt_timeout_s, None
        if limit_s is not None and (until is None or began + limit_s < until):
            until = began + limit_s
            token = CURRENT.set(_until(CURRENT.get(None), until))
        try:
            running = work()
            if until is None:
                result = await running
            else:
                steps = running if type(running) is CoroutineType else _as_coroutine(running)
                result = await within(steps, until, self._late)
        except Exception as error:
            if breaker is not None:
                self._note(breaker, began, failed=blames_the_target(error))
            raise
        except BaseException:
            if breaker is not None:
                now = time()
                breaker.forget(now, took_s=now - began)
            raise
        finally:
            if token is not None:
                CURRENT.reset(token)
        if breaker is not None:
            self._note(breaker, began, failed=False)
        return result

    def _note(self, breaker: Breaker, began: float, *, failed: bool) -> None:
        assert self._time is not None  # noqa: S101 - set by the first call
        now = self._time()
        changed = breaker.record(now, failed=failed, took_s=now - began)
        if changed is not None:
            self._tell(PolicyEventKind(changed.value))

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self.name} took too long", outcome=Outcome.UNKNOWN)

    def _tell(self, kind: PolicyEventKind, *, attempt: int = 0, detail: str = "") -> None:
        if self._listener is not None:
            self._listener(PolicyEvent(kind, self.name, attempt=attempt, detail=detail))


def _until(here: Call | None, until: float | None) -> Call:
    if here is None:
        return Call("", {}, until)
    return Call(here.node, here.bindings, until, here.metadata, here.key)


def _is_answer(error: BaseException | None) -> bool:
    return error is None or not blames_the_target(error)


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work
