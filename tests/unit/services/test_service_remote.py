"""An endpoint that was chosen and not called after all is left for the next call."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from coterie.engines.system import SystemEntropy
from coterie.errors import Outcome, Unavailable
from coterie.resilience import Breaker, Policy, RetryBudget
from coterie.services import Endpoint, ErrorRegistry, describe
from coterie.services._plans import MethodPlan
from coterie.services._remote import Pending, Remote
from coterie.services._routing import Router


class Reader:
    async def read(self) -> int:
        return 1


class Fixed:
    """A directory in which nothing changes."""

    def __init__(self, names: str) -> None:
        self.found = [Endpoint(f"node-{name}", name) for name in names]

    def endpoints(self, _service: str) -> list[Endpoint]:
        return self.found

    async def wait_changed(self) -> None:
        await asyncio.Event().wait()


def calling(names: str) -> tuple[Remote, MethodPlan, list[Breaker]]:
    """Return what calls endpoints of these names. All have failed, and may be tried again by now."""
    directory = Fixed(names)
    policy = Policy()
    router = Router(policy.breaker, policy.ejection)
    router.update(directory.found, 0.0)
    breakers = [cast("Breaker", router._peers[name].breaker) for name in names]
    for breaker in breakers:
        breaker._open(0.0, 0.001)
    plan = MethodPlan(describe(Reader).methods["read"], policy, router)
    remote = Remote(
        "Reader",
        directory=cast("Any", directory),
        channels=cast("Any", None),
        errors=ErrorRegistry(),
        entropy=SystemEntropy(),
    )
    return remote, plan, breakers


async def test_a_hedge_that_the_budget_does_not_allow_is_no_probe() -> None:
    remote, plan, breakers = calling("ab")
    now = asyncio.get_running_loop().time()
    while plan.budget.spend(now):
        pass
    assert isinstance(plan.budget, RetryBudget)
    for _ in range(10):
        assert remote._other(plan, plan.router._peers["a"]) is None
    assert all(breaker.would_admit(now) for breaker in breakers)


async def test_nodes_that_are_too_few_for_a_quorum_are_not_probed() -> None:
    remote, plan, breakers = calling("ab")
    now = asyncio.get_running_loop().time()
    for _ in range(10):
        with pytest.raises(Unavailable, match="2 nodes offer Reader, and 3 are to be asked") as raised:
            await remote.several(Pending(plan, b"", None, deadline=now + 1, until=now, key=None), 3)
        assert raised.value.outcome is Outcome.NOT_APPLIED
    assert all(breaker.would_admit(now) for breaker in breakers)
