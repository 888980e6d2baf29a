"""Take one safeguard away, and a named test of this folder must fail: the tests can fail."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import test_service_deadlines as deadlines
import test_service_errors as errors
import test_service_failover as failover
import test_service_streams as streams
import test_service_types as types
from service_place import Place, open_place

from coterie.engines.memory.calls import MemoryCall
from coterie.engines.memory.wire import MemoryListener
from coterie.engines.tcp.listener import AcceptedConnection
from coterie.errors import CoterieError, Unavailable
from coterie.ports.wire import Failure
from coterie.services import ErrorRegistry, MethodSpec, ServiceBinding
from coterie.services._remote import Pending, Remote
from coterie.services._routing import Peer, Router

CAUGHT = (AssertionError, pytest.fail.Exception, CoterieError, TimeoutError, ZeroDivisionError)

Test = Callable[[Place], Awaitable[None]]
Replacements = Mapping[tuple[type, str], Any]


@dataclasses.dataclass(frozen=True)
class Mutant:
    """What is replaced, where the test runs, and which test must fail."""

    kind: str
    caught_by: Test
    replacements: Replacements


MUTANTS: dict[str, Mutant] = {}


def mutant(kind: str, caught_by: Test) -> Callable[[Callable[[], Replacements]], None]:
    def register(build: Callable[[], Replacements]) -> None:
        MUTANTS[build.__name__] = Mutant(kind, caught_by, build())

    return register


async def three_nodes(place: Place) -> failover.Nodes:
    nodes = failover.Nodes(place)
    await nodes.add("a", "b", "c")
    return nodes


def with_nodes(test: Callable[[failover.Nodes], Awaitable[None]]) -> Test:
    async def run(place: Place) -> None:
        await test(await three_nodes(place))

    return run


def with_worker(test: Callable[[Place, deadlines.Worker], Awaitable[None]]) -> Test:
    async def run(place: Place) -> None:
        await test(place, deadlines.Worker())

    return run


@mutant("tcp", with_nodes(failover.test_a_call_that_may_have_had_an_effect_is_not_repeated))
def fails_over_on_an_unknown_outcome() -> Replacements:
    """A call that may have had an effect is made again on another node."""

    def retry(call: Pending, peer: Peer, error: Unavailable) -> None:
        call.tried.append(peer.address)

    return {(Remote, "give_up_or_retry"): staticmethod(retry)}


@mutant("memory", with_nodes(failover.test_calls_go_elsewhere_when_a_node_cannot_be_reached))
def never_fails_over() -> Replacements:
    """A call that certainly did nothing is given up at once."""

    def give_up(call: Pending, peer: Peer, error: Unavailable) -> None:
        raise error

    return {(Remote, "give_up_or_retry"): staticmethod(give_up)}


@mutant("tcp", failover.test_a_reply_that_is_no_reply_is_not_repeated)
def says_not_applied_of_a_bad_reply() -> Replacements:
    """What the method returned is taken for the caller's mistake."""
    return {(MethodSpec, "decode_result"): lambda self, body: self.result.decode(body)}


@mutant("tcp", deadlines.test_what_waited_too_long_is_not_started)
def starts_what_is_too_late_over_tcp() -> Replacements:
    """The deadline is not checked again after queueing."""
    admit = AcceptedConnection._admit

    def without_time(self: AcceptedConnection, message: Any) -> float | None:
        admit(self, type(message)(message.id, message.target, 0, message.body))
        return self.arrived + message.timeout_ms / 1000

    return {(AcceptedConnection, "_admit"): without_time}


@mutant("memory", deadlines.test_what_waited_too_long_is_not_started)
def starts_what_is_too_late_in_memory() -> Replacements:
    """The deadline is not checked again after queueing."""

    def start(self: MemoryListener, call: MemoryCall, request: Any) -> bool:
        call.started = True
        return True

    def expire(self: MemoryCall) -> None:
        self._abort(CoterieError("late"))

    return {(MemoryListener, "_start"): start, (MemoryCall, "expire"): expire}


@mutant("here", with_worker(deadlines.test_the_deadline_ends_the_call_and_cancels_the_method))
def has_no_deadline_in_process() -> Replacements:
    """A call in process goes on for ever."""
    whole = ServiceBinding._call_here

    async def endless(self: ServiceBinding, plan: Any, arguments: Any, here: Any, deadline: float) -> Any:
        return await whole(self, plan, arguments, here, deadline + 1e6)

    return {(ServiceBinding, "_call_here"): endless}


@mutant("tcp", with_worker(deadlines.test_cancelling_the_caller_cancels_the_whole_chain))
def cancelling_stays_here() -> Replacements:
    """A listener does not hear that a caller has left."""
    return {(AcceptedConnection, "_cancel"): lambda self, id_: None}


@mutant("here", types.test_caller_and_service_share_nothing_that_can_change)
def shares_what_can_change() -> Replacements:
    """Calls in process pass the objects themselves."""
    return {
        (ServiceBinding, "_isolated"): lambda self, method, arguments: arguments,
        (ServiceBinding, "_received"): lambda self, method, result: result,
    }


async def wrong_argument(place: Place) -> None:
    says = "Defaults.call: parameter `a`: expected `int`, got `str`"
    await types.test_wrong_arguments_say_which_and_what_was_expected(place, ("one",), {}, says)


@mutant("memory", wrong_argument)
def does_not_say_which_argument() -> Replacements:
    """The position of a wrong argument is all that is told."""
    return {(MethodSpec, "explain"): lambda self, problem: problem}


async def declared_errors(place: Place) -> None:
    for cls in (errors.SoldOut, errors.Refused, errors.Moved):
        place.errors.register(cls)
    await errors.test_declared_errors_come_as_their_type(await place.serve(errors.Faulty()), "fail")


async def undeclared_errors(place: Place) -> None:
    client = await place.serve(errors.Faulty())
    await errors.test_undeclared_errors_come_as_remote_errors_with_their_trace(
        client, "fail", "bug", "ZeroDivisionError", "integer division or modulo by zero"
    )


@mutant("tcp", declared_errors)
def forgets_what_is_declared() -> Replacements:
    """A declared error is treated like any other."""
    return {(ErrorRegistry, "_lookup"): lambda self, cls: None}


@mutant("tcp", undeclared_errors)
def leaves_the_trace_behind() -> Replacements:
    """The remote trace is not sent."""
    whole = ErrorRegistry.to_failure

    def bare(self: ErrorRegistry, error: BaseException) -> Failure:
        failure = whole(self, error)
        return Failure(failure.code, failure.message, outcome=failure.outcome, detail=failure.detail)

    return {(ErrorRegistry, "to_failure"): bare}


@mutant("here", undeclared_errors)
def passes_errors_as_they_are_in_process() -> Replacements:
    """A program that works in one process fails on two nodes."""
    return {(ErrorRegistry, "as_received"): lambda self, error: error}


@mutant("memory", with_nodes(failover.test_calls_go_elsewhere_when_a_node_cannot_be_reached))
def tries_the_same_node_again() -> Replacements:
    """The router does not look at what was tried and failed."""

    def choose(self: Router, tried: Any, **_: Any) -> Peer | None:
        found = [endpoint.address for endpoint in self.seen if endpoint.node == "b"]
        return self._peers[found[0]] if found else None

    return {(Router, "choose"): choose}


async def leaves_early(place: Place) -> None:
    source = streams.Source()
    await streams.test_leaving_early_closes_the_generator(await place.serve(source), source)


@mutant("tcp", leaves_early)
def streams_run_on() -> Replacements:
    """Leaving a stream is not told to its listener."""
    return {(AcceptedConnection, "_cancel"): lambda self, id_: None}


async def check(broken: Mutant, *, within_s: float) -> None:
    async with asyncio.timeout(within_s), open_place(broken.kind, timeout_s=2.0, patience_s=0.2) as place:
        await broken.caught_by(place)


@pytest.mark.parametrize("name", MUTANTS)
async def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = MUTANTS[name]
    await check(broken, within_s=20)
    for (owner, attribute), replacement in broken.replacements.items():
        monkeypatch.setattr(owner, attribute, replacement)
    with pytest.raises(CAUGHT):  # A mutant may hang where the whole answers.
        await check(broken, within_s=1)
