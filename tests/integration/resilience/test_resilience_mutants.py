"""Take one safeguard away, and a named test must fail: the tests can fail."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import test_admission as admission
import test_cluster_policies as policies
import test_idempotency as idempotency
import test_server_limits as server_limits
import test_who_takes_calls as who_takes_calls

from coterie.errors import CoterieError
from coterie.node import NodeConfig
from coterie.ports.store import Commit, Put
from coterie.resilience import AdmissionQueue, Ejection, Limiter, Retry, RetryBudget
from coterie.services import Dispatcher, MethodSpec
from coterie.services._remote import Pending, Remote
from coterie.services.binding import ServiceBinding
from coterie.services.ledger import ReplyLedger, _encode, _Record

Replacements = Mapping[tuple[type, str], Any]


@dataclasses.dataclass(frozen=True)
class Mutant:
    caught_by: Callable[[], Awaitable[None]]
    replacements: Replacements


MUTANTS: dict[str, Mutant] = {}


def mutant(caught_by: Callable[[], Awaitable[None]]) -> Callable[[Callable[[], Replacements]], None]:
    def register(build: Callable[[], Replacements]) -> None:
        MUTANTS[build.__name__] = Mutant(caught_by, build())

    return register


def with_faults(test: Callable[[policies.Faults], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    return lambda: test(policies.Faults())


def with_bank(test: Callable[[idempotency.Bank], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    return lambda: test(idempotency.Bank())


@mutant(with_faults(policies.test_repeats_stay_within_the_budget))
def has_no_budget() -> Replacements:
    """Every failure is repeated as often as the policy allows: a storm."""
    return {(RetryBudget, "spend"): lambda self, now: True}


@mutant(with_faults(policies.test_the_deadline_bounds_all_attempts))
def looks_at_no_deadline_between_attempts() -> Replacements:
    whole = Retry.again_s

    def again_s(self: Retry, error: Any, attempt: int, **given: Any) -> float | None:
        return whole(self, error, attempt, **{**given, "until": None})

    run = Remote._run

    async def endless(self: Remote, call: Pending) -> Any:
        call.deadline += 1e6
        return await run(self, call)

    return {(Retry, "again_s"): again_s, (Remote, "_run"): endless}


@mutant(with_faults(policies.test_a_failing_node_is_left_out_and_others_are_not))
def leaves_nobody_out() -> Replacements:
    return {(Ejection, "admitted"): lambda self, targets, now: targets}


@mutant(with_faults(policies.test_a_failing_node_is_left_out_and_others_are_not))
def leaves_out_all_that_fail() -> Replacements:
    def admitted(self: Ejection, targets: Any, now: float) -> Any:
        return [t for t in targets if self.of(t.address).would_admit(now)] or targets[:1]

    return {(Ejection, "admitted"): admitted}


@mutant(with_faults(policies.test_an_error_is_of_all_attempts))
def says_not_applied_of_the_last_attempt_only() -> Replacements:
    whole = Remote._again_s

    def again_s(self: Remote, call: Pending, peer: Any, error: Any) -> float | None:
        pause_s = whole(self, call, peer, error)
        call.unknown = False
        return pause_s

    return {(Remote, "_again_s"): again_s}


@mutant(with_bank(idempotency.test_repeats_of_a_call_without_a_key_have_one_effect))
def makes_up_no_key() -> Replacements:
    whole = ServiceBinding._pending

    def pending(self: ServiceBinding, plan: Any, body: Any, metadata: Any, *rest: Any) -> Pending:
        return whole(self, plan, body, None, *rest)

    return {(ServiceBinding, "_pending"): pending}


@mutant(with_bank(idempotency.test_a_key_has_one_effect_and_the_first_reply))
def claims_what_is_claimed() -> Replacements:
    """The claim does not check that there is none: a double effect."""

    async def claim(self: ReplyLedger, stored: str, claim: Any) -> int:
        lease = await self._claiming()
        return await self._store.commit(Commit((Put(stored, _encode(claim), lease),)))

    return {(ReplyLedger, "_claim"): claim}


@mutant(with_bank(idempotency.test_concurrent_duplicates_wait_for_the_first))
def does_not_wait() -> Replacements:
    async def settled(self: ReplyLedger, method: Any, stored: str, digest: bytes) -> Any:
        entry = await self._store.get(stored)
        if entry is not None and b"\xa5" not in entry.value:
            await self._store.commit(Commit((), (stored,)))
        return None

    return {(ReplyLedger, "_settled"): settled}


@mutant(with_bank(idempotency.test_a_call_whose_time_was_over_gives_its_key_free))
def keeps_the_claims_of_failed_calls() -> Replacements:
    async def end(self: ReplyLedger, ending: Any) -> None: ...

    return {(ReplyLedger, "_end"): end, (ReplyLedger, "_end_later"): lambda self, ending: None}


@mutant(with_bank(idempotency.test_a_caller_that_leaves_leaves_its_reply_to_the_next))
def cancels_the_method_with_its_caller() -> Replacements:
    whole = ReplyLedger._claim

    async def run(self: ReplyLedger, method: Any, key: str, arguments: Any, work: Any) -> bytes:
        stored = self._prefix + f"{method.target}/{key}"
        claim = _Record(b"", self._entropy.identifier())
        version = await whole(self, stored, claim)
        assert version is not None
        return await self._make(stored, claim, version, work)

    return {(ReplyLedger, "run"): run}


@mutant(with_bank(idempotency.test_when_the_first_dies_a_duplicate_runs_it_again_after_its_lease))
def claims_for_ever() -> Replacements:
    async def claiming(self: ReplyLedger) -> int:
        return 0

    return {(ReplyLedger, "_claiming"): claiming}


@mutant(with_bank(idempotency.test_a_key_with_other_arguments_is_refused))
def looks_at_no_arguments() -> Replacements:
    return {(MethodSpec, "canonical"): lambda self, arguments: b""}


@mutant(server_limits.test_callers_that_are_turned_away_go_elsewhere)
def lets_everybody_in() -> Replacements:
    async def enter(self: Limiter, priority: int = 1, deadline: float | None = None) -> None:
        self.state.under_way += 1

    return {(Limiter, "enter"): enter}


@mutant(server_limits.test_callers_that_are_turned_away_go_elsewhere)
def tells_nobody_to_come_back() -> Replacements:
    """Then a caller cannot know that another node may have room, and does not ask."""

    async def enter(self: Any, limiters: Any, hosted: Any, deadline: float | None) -> None:
        for limiter in limiters:
            await limiter.enter(hosted.priority, deadline)

    return {(Dispatcher, "_enter"): enter}


@mutant(server_limits.test_the_important_go_first)
def knows_no_priorities() -> Replacements:
    whole = AdmissionQueue.add

    def add(self: Any, item: Any, priority: int, now: float) -> Any:
        return whole(self, item, 1, now)

    return {(AdmissionQueue, "add"): add}


@mutant(server_limits.test_who_waits_too_long_is_turned_away_and_nothing_has_happened)
def lets_wait_for_ever() -> Replacements:
    return {(AdmissionQueue, "next_expiry"): lambda self, now: None}


@mutant(admission.test_who_the_service_turns_away_gives_its_place_in_the_method_back)
def keeps_its_place_in_the_method() -> Replacements:
    """A call that the service turns away stays in the method, which is full in the end."""

    async def enter(self: Any, limiters: Any, hosted: Any, deadline: float | None) -> None:
        for limiter in limiters:
            await limiter.enter(hosted.priority, deadline)

    return {(Dispatcher, "_enter"): enter}


@mutant(admission.test_a_method_with_a_limit_leaves_room_for_the_others)
def waits_for_the_method_within_the_service() -> Replacements:
    whole = Dispatcher._enter

    async def enter(self: Any, limiters: Any, hosted: Any, deadline: float | None) -> None:
        await whole(self, limiters[::-1], hosted, deadline)

    return {(Dispatcher, "_enter"): enter}


@mutant(who_takes_calls.test_a_canary_gets_its_twentieth)
def tells_nobody_its_weight() -> Replacements:
    whole = NodeConfig.__post_init__

    def ignore(self: NodeConfig) -> None:
        whole(self)
        object.__setattr__(self, "weight", 1.0)

    return {(NodeConfig, "__post_init__"): ignore}


@pytest.mark.parametrize("name", MUTANTS)
async def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = MUTANTS[name]
    async with asyncio.timeout(20):
        await broken.caught_by()
    for (owner, attribute), replacement in broken.replacements.items():
        monkeypatch.setattr(owner, attribute, replacement)
    with pytest.raises((AssertionError, pytest.fail.Exception, CoterieError, TimeoutError)):
        async with asyncio.timeout(4):  # A mutant may hang where the whole answers.
            await broken.caught_by()
