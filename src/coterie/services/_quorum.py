"""One call to several nodes at once: the first reply that enough of them agree on.

A quorum read in the sense of Gifford, "Weighted Voting for Replicated Data" (SOSP 1979), without the
versions: of a method that asks a node for what it itself has, such as a copy that it keeps.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ..errors import (
    Conflict,
    CoterieError,
    DeadlineExceeded,
    InvalidArgument,
    Outcome,
    Unavailable,
)
from ..ports.wire import Failure
from ..resilience.hedging import call_off, first_done
from ._routing import Peer
from .spec import MethodSpec

if TYPE_CHECKING:
    from ._remote import Pending, Remote

__all__ = ["Quorum", "Replicated", "ask_quorum"]

_MOST = 64
_SHOWN = 80
"""How many characters of an answer an error shows."""


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many nodes are asked, and how many of them must give the same answer."""

    agreeing: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.agreeing <= self.of <= _MOST:
            raise InvalidArgument(
                f"a quorum is of 1 to {_MOST} nodes, of which at least one and not more than all agree, "
                f"not {self.agreeing} of {self.of}",
                hint="for instance client.quorum(2, of=3)",
            )

    def check(self, method: MethodSpec) -> None:
        """Raise `InvalidArgument` for a method that cannot be called so."""
        if method.streaming:
            raise InvalidArgument(f"{method.target} is a stream, and streams have no quorum")
        if method.keeps_replies:
            raise InvalidArgument(
                f"{method.target} keeps its replies: all nodes would give the first one's",
                hint="a quorum is for methods that answer from what their node has, without an effect",
            )


class Replicated:
    """A service class may derive from it, so that type checkers know `client.quorum(2, of=3)`.

    Every client has it at run time. `coterie.quorum(client, 2, of=3)` is typed for any service.
    """

    if TYPE_CHECKING:

        def quorum(self, agreeing: int, *, of: int) -> Self:
            """Return a client whose calls go to `of` nodes and return what the first `agreeing` agree on."""
            raise NotImplementedError


class _Vote(NamedTuple):
    """What became of the attempt at one node: an answer, with what makes it equal to others, or an error."""

    key: object = None
    value: Any = None
    error: Exception | None = None
    """What to raise when the answer is an error that the service declares; or why there is no answer."""

    @property
    def answered(self) -> bool:
        return self.key is not None

    def __str__(self) -> str:
        if self.error is None:
            text = f"answered {self.value!r}"
        else:
            text = f"{'answered' if self.answered else 'gave no answer:'} {type(self.error).__name__}: "
            text += self.error.message if isinstance(self.error, CoterieError) else str(self.error)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


async def ask_quorum(remote: Remote, call: Pending, quorum: Quorum) -> Any:
    """Ask `quorum.of` nodes, each once; return or raise the first answer that `quorum.agreeing` give.

    Whoever has not answered by then is cancelled. Raises, with what each node said:

    - `Conflict` when enough answered, but not the same;
    - `DeadlineExceeded` when too few answered in time;
    - `Unavailable` when too few can be reached. Where there are not as many nodes, nobody is asked.
    """
    peers = await remote.several(call, quorum.of)
    tasks = {
        asyncio.create_task(_vote(remote, call, peer), name=f"coterie-quorum {peer.address}"): peer
        for peer in peers
    }
    votes: dict[str, _Vote] = {}
    count: Counter[object] = Counter()
    running = list(tasks)
    try:
        while running and max(count.values(), default=0) + len(running) >= quorum.agreeing:
            done, running = await first_done(running)
            for task in done:
                vote = votes[tasks[task].address] = task.result()
                if not vote.answered:
                    continue
                count[vote.key] += 1
                if count[vote.key] >= quorum.agreeing:
                    return _decided(vote)
    finally:
        await call_off(running)
    raise _undecided(call.plan.method, quorum, votes, peers)


async def _vote(remote: Remote, call: Pending, peer: Peer) -> _Vote:
    method = call.plan.method
    try:
        value = method.decode_result(await remote.attempt_once(call, peer))
    except Failure as failure:
        error = remote.error_of(failure)
        if remote.is_answer(failure):
            return _Vote((failure.code, failure.message, failure.detail), None, error)
        return _Vote(error=error)
    except CoterieError as error:
        return _Vote(error=error)
    return _Vote(method.canonical((value,)), value)


def _decided(vote: _Vote) -> Any:
    if vote.error is not None:
        raise vote.error
    return vote.value


def _undecided(
    method: MethodSpec, quorum: Quorum, votes: dict[str, _Vote], peers: list[Peer]
) -> CoterieError:
    said = "; ".join(f"{peer.address} {votes.get(peer.address, 'was not waited for')}" for peer in peers)
    message = f"{method.target}: no {quorum.agreeing} of {quorum.of} nodes gave the same answer: {said}"
    errors = [vote.error for vote in votes.values() if not vote.answered]
    certain = len(errors) == len(peers) and all(
        isinstance(error, CoterieError) and error.outcome is Outcome.NOT_APPLIED for error in errors
    )
    outcome = Outcome.NOT_APPLIED if certain else Outcome.UNKNOWN
    if len(peers) - len(errors) >= quorum.agreeing:  # So it was not for lack of answers.
        return Conflict(message, outcome=outcome)
    if any(isinstance(error, DeadlineExceeded) for error in errors):
        return DeadlineExceeded(message, outcome=outcome)
    return Unavailable(message, outcome=outcome)
