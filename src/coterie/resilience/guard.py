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

from ..context import CURRENT
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
from .latency import Quantiles
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
        self.limiter: Limiter | None = None
        self._listener = listener
        self._entropy = entropy
        self._rate = Gcra(self.policy.rate) if self.policy.rate else None
        self._latency = Quantiles() if self.policy.hedge else None
        self._time: Callable[[], float] | None = None
        # What a first attempt needs beyond a closed breaker, if anything, is found out once.
        self._plain = self._rate is None and self.policy.limit is None and self.policy.hedge is None

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
        return await self._run(function, args, kwargs, idempotent, priority)

    def wrap(
        self, *, idempotent: bool = False, priority: Priority = 1
    ) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """Return a decorator that runs a function under the policy."""

        def decorate(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
            @functools.wraps(function)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
                return self._run(function, args, kwargs, idempotent, priority)

            return guarded

        return decorate

    async def _run(
        self,
        function: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        idempotent: bool,
        priority: Priority,
    ) -> T:
        time = self._time or self._begin()
        now = time()
        until = self._deadline(now)
        if until is not None and until <= now:
            raise DeadlineExceeded(
                f"the deadline was over before {self.name} began", outcome=Outcome.NOT_APPLIED
            )
        if self.budget is not None:
            self.budget.attempt()
        if self._rate is not None:
            self._check_rate(now)
        if self.limiter is None:
            return await self._attempts(function, args, kwargs, idempotent, until)
        if not self.limiter.enter_nowait():
            await self._enter(priority, until)
        began, took_s, dropped = time(), None, False
        try:
            result = await self._attempts(function, args, kwargs, idempotent, until)
            took_s = time() - began
        except (Overloaded, DeadlineExceeded):
            dropped = True
            raise
        finally:
            self.limiter.leave(took_s, dropped=dropped)
        return result

    def _deadline(self, now: float) -> float | None:
        until = None if self.policy.timeout_s is None else now + self.policy.timeout_s
        here = CURRENT.get(None)
        if here is not None and here.deadline is not None and (until is None or here.deadline < until):
            return here.deadline
        return until

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
        function: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        idempotent: bool,
        until: float | None,
    ) -> T:
        attempt, unknown = 1, False
        while True:
            try:
                return await self._attempt(function, args, kwargs, until)
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

    async def _attempt(
        self,
        function: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
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
        limit_s = self.policy.attempt_timeout_s
        if limit_s is not None and (until is None or began + limit_s < until):
            until = began + limit_s
        try:
            work = function(*args, **kwargs)
            if until is None:
                result = await work
            else:
                steps = work if type(work) is CoroutineType else _as_coroutine(work)
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


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work
