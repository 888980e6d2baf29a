"""Calls to a service elsewhere: one attempt after the other, or two beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from ..context import Metadata
from ..errors import CoterieError, DeadlineExceeded, Outcome, Overloaded, RemoteError, Unavailable
from ..ports.entropy import Entropy
from ..ports.wire import Failure
from ..resilience import PolicyEventKind
from ..resilience.hedging import HedgeDelay, race
from ._channels import Channels, Directory
from ._plans import MethodPlan
from ._routing import Endpoint, Peer
from .registry import ErrorRegistry

__all__ = ["FAIR_S", "Pending", "Remote"]

FAIR_S = 0.1
"""An attempt that was given less time than this and did not make it says nothing about the endpoint."""
_FAULTS = frozenset({Unavailable.code, DeadlineExceeded.code, Overloaded.code, RemoteError.code})
"""The codes of failures that speak against the endpoint. All others are answers."""


class Pending:
    """A call that is not decided yet, and what it remembers of its attempts."""

    __slots__ = (
        "attempt",
        "body",
        "deadline",
        "key",
        "metadata",
        "plan",
        "retry",
        "tried",
        "unknown",
        "until",
        "wait_s",
    )

    def __init__(
        self,
        plan: MethodPlan,
        body: bytes,
        metadata: Metadata | None,
        *,
        deadline: float,
        until: float,
        key: str | None,
    ) -> None:
        self.plan = plan
        self.body = body
        self.metadata = metadata
        self.deadline = deadline
        self.until = until
        """How long it waits for an endpoint, as a time of the loop's clock."""
        self.key = key
        self.attempt = 1
        """Attempts that reached somebody, the one under way included: what the policy bounds."""
        self.retry = 0
        """Attempts that went before, of any kind: what the other side is told."""
        self.unknown: bool = False
        """Whether an attempt that was made may have had an effect."""
        self.tried: list[str] = []
        self.wait_s = 0.005
        """The last pause before it looked for an endpoint again."""

    def again(self) -> None:
        """Begin another attempt."""
        self.retry += 1
        self.metadata = _marked(self.metadata, self.retry)


class Remote:
    """Makes the attempts of the calls to one service."""

    def __init__(
        self,
        service: str,
        *,
        directory: Directory,
        channels: Channels,
        errors: ErrorRegistry,
        entropy: Entropy,
    ) -> None:
        self._service = service
        self._directory = directory
        self._channels = channels
        self._errors = errors
        self._entropy = entropy
        self._time = asyncio.get_running_loop().time

    async def run(self, call: Pending) -> Any:
        """Make one attempt after the other, and return the result of the call or raise its error.

        An error says `not_applied` only if that is true of all attempts.
        """
        try:
            return await self._run(call)
        except CoterieError as error:
            if call.unknown:
                error.outcome = Outcome.UNKNOWN
            raise

    async def _run(self, call: Pending) -> Any:
        plan = call.plan
        while True:
            peer = await self.find(call)
            began = self._time()
            timeout_s = min(call.deadline - began, plan.attempt_timeout_s)
            try:
                if plan.hedging is None:
                    reply = await self._attempt(call, peer, call.metadata, timeout_s)
                else:
                    reply = await self._hedged(call, peer, plan.hedging, timeout_s)
            except Exception as error:  # noqa: BLE001 - told apart and raised there
                pause_s = self.after(call, peer, error)
            else:
                return plan.method.decode_result(reply)
            if pause_s:
                await asyncio.sleep(pause_s)

    async def _attempt(self, call: Pending, peer: Peer, metadata: Metadata | None, timeout_s: float) -> Any:
        """Make one attempt, and count how it ended."""
        plan, load, began = call.plan, peer.load, self._time()
        if plan.tells_attempts:
            plan.tell(PolicyEventKind.ATTEMPT, target=peer.address, attempt=call.attempt)
        load.pending += 1
        try:
            channel = self._channels.get(peer.address)
            reply = await channel.request(
                plan.method.target, call.body, timeout_s=timeout_s, metadata=metadata
            )
        except BaseException as error:
            self.note_failure(plan, peer, error, began, timeout_s)
            raise
        finally:
            load.pending -= 1
        now = self._time()
        plan.router.succeeded(peer, now, now - began)
        return reply

    async def _hedged(self, call: Pending, peer: Peer, delay: HedgeDelay, timeout_s: float) -> Any:
        """Make an attempt, and a second one elsewhere when it takes longer than usual."""
        plan, began, answered_by = call.plan, self._time(), peer
        after_s = delay.after_s(began)

        async def second(other: Peer) -> Any:
            nonlocal answered_by
            left_s = timeout_s - (self._time() - began)
            reply = await self._attempt(call, other, call.metadata, left_s)
            answered_by = other
            return reply

        def beside() -> Coroutine[Any, Any, Any] | None:
            other = self._other(plan, peer)
            if other is None:
                return None
            plan.tell(PolicyEventKind.HEDGE, target=other.address)
            call.unknown = True
            call.again()
            return second(other)

        first = self._attempt(call, peer, call.metadata, timeout_s)
        if after_s is None or after_s >= timeout_s:
            reply = await first
        else:
            reply = await race(first, beside, after_s, is_answer=_is_answer)
        now = self._time()
        delay.add(now, now - began)
        if answered_by is not peer:
            plan.router.outrun(peer, now, now - began)
        return reply

    def _other(self, plan: MethodPlan, peer: Peer) -> Peer | None:
        """Return where a hedge goes, if there is another endpoint and the budget allows it."""
        now = self._time()
        other = plan.router.choose((peer.address,), now=now, chance=self._entropy.random())
        if other is not None and not plan.budget.spend(now):
            plan.router.unused(other, now, 0.0)
            return None
        return other

    def failed(
        self, call: Pending, peer: Peer, error: BaseException, began: float, timeout_s: float
    ) -> float:
        """Count the first attempt of a call, which failed; return and raise as `after` does."""
        self.note_failure(call.plan, peer, error, began, timeout_s)
        if not isinstance(error, Exception):
            raise error
        return self.after(call, peer, error)

    def note_failure(
        self, plan: MethodPlan, peer: Peer, error: BaseException, began: float, timeout_s: float
    ) -> None:
        """Count an attempt that failed, if its error says something about the endpoint."""
        now = self._time()
        took_s = now - began
        if isinstance(error, Failure):
            if error.code == Overloaded.code:
                plan.router.refused(peer, now, took_s)
            elif error.code in _FAULTS:
                plan.router.failed(peer, now, took_s)
            else:
                plan.router.succeeded(peer, now, took_s)  # What the program declares is an answer.
        elif isinstance(error, Unavailable) or (isinstance(error, DeadlineExceeded) and timeout_s >= FAIR_S):
            plan.router.failed(peer, now, took_s)
        else:
            plan.router.abandoned(peer, now, took_s)

    def after(self, call: Pending, peer: Peer, error: Exception) -> float:
        """Return how long to wait before the next attempt after one that failed; or raise its error."""
        method = call.plan.method
        if isinstance(error, Failure):
            # It reached the method, or the node that keeps it. That is the answer, unless another one is
            # as good, or the node itself said when to come back.
            answer = self._errors.from_failure(error)
            asked_back = isinstance(answer, CoterieError) and answer.retry_after_s is not None
            pause_s = self._again_s(call, peer, answer) if method.idempotent or asked_back else None
            if pause_s is None:
                raise answer from None
            return pause_s
        if isinstance(error, Unavailable) and not (method.idempotent and error.outcome is Outcome.UNKNOWN):
            self.give_up_or_retry(call, peer, error)
            return 0.0
        pause_s = self._again_s(call, peer, error)
        if pause_s is None:
            raise error
        return pause_s

    @staticmethod
    def give_up_or_retry(call: Pending, peer: Peer, error: Unavailable) -> None:
        """Let the call go elsewhere if it certainly reached nobody; else raise `error`.

        That is no repeat in the sense of the policy: nobody has had work with the call yet.
        """
        if error.outcome is not Outcome.NOT_APPLIED:
            raise error
        call.tried.append(peer.address)
        call.again()

    def _again_s(self, call: Pending, peer: Peer, error: Exception) -> float | None:
        plan = call.plan
        if plan.retry is None:
            return None
        now, chance = self._time(), self._entropy.random()
        idempotent, attempt = plan.method.idempotent, call.attempt
        pause_s = plan.retry.again_s(
            error, attempt, idempotent=idempotent, now=now, until=call.deadline, chance=chance
        )
        if pause_s is None:
            return None
        if not plan.budget.spend(now):
            plan.tell(PolicyEventKind.BUDGET_SPENT, target=peer.address, attempt=attempt, detail=error)
            return None
        call.attempt += 1
        call.unknown = call.unknown or _may_have_worked(error)
        call.again()
        plan.tell(PolicyEventKind.RETRY, target=peer.address, attempt=call.attempt, detail=error)
        call.tried.append(peer.address)
        if len(call.tried) >= len(plan.router.seen):
            call.tried.clear()
        return pause_s

    async def find(self, call: Pending) -> Peer:
        """Return the endpoint for the next attempt, and wait for one while there is hope."""
        router = call.plan.router
        while True:
            now = self._time()
            endpoints = self._directory.endpoints(self._service)
            if endpoints is not router.seen:
                router.update(endpoints, now)
            chosen = router.choose(call.tried, now=now, chance=self._entropy.random(), key=call.key)
            if chosen is not None:
                return chosen
            if now >= call.until:
                raise self._nobody(endpoints)
            call.tried.clear()  # All were tried: begin again after a pause, or when the view changes.
            call.wait_s = min(call.wait_s * 2, 0.25)
            wait_s = min(call.wait_s * (0.5 + self._entropy.random() / 2), call.until - now)
            try:
                async with asyncio.timeout(wait_s):
                    await self._directory.wait_changed()
            except TimeoutError:
                continue

    async def several(self, call: Pending, count: int) -> list[Peer]:
        """Return `count` different endpoints, the best first, and wait for them while there is hope.

        Raises `Unavailable`, not applied, when there are not so many.
        """
        router = call.plan.router
        while True:
            now = self._time()
            endpoints = self._directory.endpoints(self._service)
            if endpoints is not router.seen:
                router.update(endpoints, now)
            chosen: list[Peer] = []
            while len(chosen) < count:
                tried = [peer.address for peer in chosen]
                found = router.choose(tried, now=now, chance=self._entropy.random(), key=call.key)
                if found is None:
                    break
                chosen.append(found)
            if len(chosen) == count:
                return chosen
            for peer in chosen:
                router.unused(peer, now, 0.0)
            if now >= call.until:
                raise Unavailable(
                    f"{len(chosen)} nodes offer {self._service}, and {count} are to be asked",
                    hint="start more, or ask fewer",
                    outcome=Outcome.NOT_APPLIED,
                )
            try:
                async with asyncio.timeout(min(0.25, call.until - now)):
                    await self._directory.wait_changed()
            except TimeoutError:
                continue

    async def attempt_once(self, call: Pending, peer: Peer) -> Any:
        """Make one attempt at an endpoint, and return the body of the reply."""
        timeout_s = min(call.deadline - self._time(), call.plan.attempt_timeout_s)
        return await self._attempt(call, peer, call.metadata, timeout_s)

    def error_of(self, failure: Failure) -> Exception:
        """Return the error that the other end has sent."""
        return self._errors.from_failure(failure)

    @staticmethod
    def is_answer(failure: Failure) -> bool:
        """Return whether it is the program's answer, and no trouble of the endpoint."""
        return _is_answer(failure)

    def _nobody(self, endpoints: Sequence[Endpoint]) -> Unavailable:
        if endpoints:
            return Unavailable(
                f"none of the {len(endpoints)} nodes that offer {self._service} can be reached",
                hint="they may just have died: look at `coterie status`",
                outcome=Outcome.NOT_APPLIED,
            )
        return Unavailable(
            f"no live node offers the service {self._service}",
            hint="start one with `coterie run`, on the same engine",
            outcome=Outcome.NOT_APPLIED,
        )


def _may_have_worked(error: Exception) -> bool:
    return not isinstance(error, CoterieError) or error.outcome is Outcome.UNKNOWN


def _is_answer(error: BaseException | None) -> bool:
    return error is None or (isinstance(error, Failure) and error.code not in _FAULTS)


def _marked(metadata: Metadata | None, retry: int) -> Metadata:
    """Return `metadata` with the number of attempts that went before."""
    if metadata is None:
        return Metadata(retry=retry)
    return Metadata(metadata.traceparent, metadata.idempotency_key, metadata.causal, retry)
