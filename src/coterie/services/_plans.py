"""What a policy becomes on the calling side: for each method, what its calls use and share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ..errors import DeadlineExceeded, Outcome, Overloaded, RateLimited
from ..resilience import (
    Balancer,
    Gcra,
    Limiter,
    Listener,
    Policy,
    PolicyEvent,
    PolicyEventKind,
    Priority,
    RetryBudget,
)
from ..resilience.hedging import HedgeDelay
from ._routing import Router
from .spec import MethodSpec, ServiceSpec

__all__ = ["Gates", "MethodPlan", "Plans", "too_late"]

T = TypeVar("T")

_LONGEST_S = 86400.0
"""What a call may take under a policy without a timeout: every call has a deadline."""


def too_late(method: MethodSpec, outcome: Outcome) -> DeadlineExceeded:
    """Return the error for a call whose time was over before or after it began."""
    when = "before it started" if outcome is Outcome.NOT_APPLIED else "while it ran"
    return DeadlineExceeded(f"the deadline of {method.target} was over {when}", outcome=outcome)


class Gates:
    """What a call passes before it is made: a rate, and a limit of calls under way."""

    __slots__ = ("limiter", "name", "priority", "rate", "tell")

    def __init__(
        self,
        name: str,
        rate: Gcra | None,
        limiter: Limiter | None,
        tell: Callable[..., None],
        priority: Priority,
    ) -> None:
        self.name = name
        self.priority = priority
        self.rate = rate
        self.limiter = limiter
        self.tell = tell

    def enter_nowait(self, now: float) -> bool:
        """Return whether a call is let in at once; raise `RateLimited` (not applied) if it is not at all."""
        if self.rate is not None:
            wait_s = self.rate.wait_s(now)
            if wait_s > 0:
                self.tell(PolicyEventKind.LIMITED)
                raise RateLimited(f"the rate of {self.name} is used up", retry_after_s=wait_s)
        return self.limiter is None or self.limiter.enter_nowait()

    async def enter(self, now: float, deadline: float) -> None:
        """Let a call in, now or after a wait; raise `Overloaded` or `DeadlineExceeded`, both not applied."""
        if self.enter_nowait(now) or self.limiter is None:
            return
        try:
            await self.limiter.enter(self.priority, deadline)
        except Overloaded:
            self.tell(PolicyEventKind.SHED)
            raise

    def leave(self, took_s: float | None, error: BaseException | None) -> None:
        """End a call that was let in."""
        if self.limiter is not None:
            self.limiter.leave(took_s, dropped=isinstance(error, Overloaded | DeadlineExceeded))


class MethodPlan:
    """How one method is called."""

    __slots__ = (
        "attempt_timeout_s",
        "budget",
        "gates",
        "hedging",
        "key_at",
        "late",
        "managed",
        "method",
        "policy",
        "retry",
        "router",
        "simple",
        "tell",
        "tells_attempts",
        "timeout_s",
    )

    def __init__(
        self, method: MethodSpec, policy: Policy, router: Router, *, timeout_s: float | None = None
    ) -> None:
        self.method = method
        self.router = router
        self.policy = policy
        self.timeout_s: float = timeout_s or policy.timeout_s or _LONGEST_S
        self.attempt_timeout_s: float = policy.attempt_timeout_s or _LONGEST_S
        self.retry = policy.retry
        self.late: Callable[[], DeadlineExceeded] = partial(too_late, method, Outcome.UNKNOWN)
        self.budget: RetryBudget = RetryBudget()
        self.gates: Gates | None = None
        # Beside a call whose reply is kept another one would only wait for the first.
        may_hedge = method.idempotent and not method.keeps_replies
        self.hedging: HedgeDelay | None = HedgeDelay(policy.hedge) if policy.hedge and may_hedge else None
        self.managed: bool = False
        """Whether there is more to do than to repeat what failed."""
        self.simple: bool = True
        """Whether a call that was let in goes the same way as under a policy that lets all in."""
        self.tell: Callable[..., None] = _tell_nobody
        self.tells_attempts: bool = False
        self.key_at: tuple[int, str] | None = None
        """Position and name of the parameter that the balancer gets as key."""

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return what a call is about, for balancers that keep keys together."""
        if self.key_at is None:
            return None
        index, name = self.key_at
        value = args[index] if index < len(args) else kwargs.get(name)
        return None if value is None else str(value)


class Plans:
    """Builds the plans of one service. Methods whose policies have a part in common share its state:
    one budget, one limit, one rate, and one breaker for each endpoint. The listener is told of attempts
    only with `attempts`: calls that nothing happens to take a shorter way without."""

    def __init__(
        self,
        spec: ServiceSpec,
        policy_of: Callable[[MethodSpec], Policy],
        *,
        priority_of: Callable[[MethodSpec], Priority] = lambda method: method.priority,
        timeout_s: float | None = None,
        new_balancer: Callable[[], Balancer | None] = lambda: None,
        key: str | None = None,
        listener: Listener | None = None,
        attempts: bool = False,
    ) -> None:
        self._spec = spec
        self._policy_of = policy_of
        self._priority_of = priority_of
        self._timeout_s = timeout_s
        self._new_balancer = new_balancer
        self._key = key
        self._listener = listener
        self._attempts = attempts and listener is not None
        self._shared: dict[Any, Any] = {}

    def build(self) -> dict[str, MethodPlan]:
        """Return the plan of each method by its name. A loop must run."""
        return {method.name: self._plan(method) for method in self._spec.methods.values()}

    def _plan(self, method: MethodSpec) -> MethodPlan:
        policy = self._policy_of(method)
        router = self._share(("breaker", policy.breaker, policy.ejection), lambda: self._router(policy))
        plan = MethodPlan(method, policy, router, timeout_s=self._timeout_s)
        if self._listener is not None:
            plan.tell = partial(_tell, self._listener, method.target)
            plan.tells_attempts = self._attempts
        if policy.retry is not None:
            budget = policy.retry.budget
            plan.budget = self._share(budget, lambda: RetryBudget(budget))
        if policy.rate is not None or policy.limit is not None:
            plan.gates = self._gates(policy, plan)
        plan.simple = not (method.keeps_replies or plan.hedging is not None or self._attempts)
        plan.managed = not plan.simple or plan.gates is not None or policy.attempt_timeout_s is not None
        if self._key is not None:
            names = [parameter.name for parameter in method.parameters]
            plan.key_at = (names.index(self._key), self._key) if self._key in names else None
        return plan

    def _gates(self, policy: Policy, plan: MethodPlan) -> Gates:
        name, rate, limit, queue = self._spec.name, policy.rate, policy.limit, policy.queue
        gcra = None if rate is None else self._share(rate, lambda: Gcra(rate))
        limiter = None
        if limit is not None:
            limiter = self._share((limit, queue), lambda: Limiter(limit, queue, name=name))
        return Gates(name, gcra, limiter, plan.tell, self._priority_of(plan.method))

    def _router(self, policy: Policy) -> Router:
        tell = None
        if self._listener is not None:
            listener, name = self._listener, self._spec.name

            def tell(kind: PolicyEventKind, target: str) -> None:
                listener(PolicyEvent(kind, name, target))

        return Router(policy.breaker, policy.ejection, balancer=self._new_balancer(), tell=tell)

    def _share(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found


def _tell(
    listener: Listener,
    name: str,
    kind: PolicyEventKind,
    *,
    target: str = "",
    attempt: int = 0,
    detail: object = "",
) -> None:
    listener(PolicyEvent(kind, name, target, attempt, str(detail)))


def _tell_nobody(
    kind: PolicyEventKind, *, target: str = "", attempt: int = 0, detail: object = ""
) -> None: ...
