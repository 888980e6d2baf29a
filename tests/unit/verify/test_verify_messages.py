"""What a process that has an engine open and its asker say to each other comes through unchanged."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coterie.errors import Conflict, Fenced, Outcome, Unavailable
from coterie.ports.guarantees import Consistency, Durability, Scope
from coterie.ports.log import Bounds, LogGuarantees, Record, Segment, Stored
from coterie.ports.store import Check, Commit, Entry, Fence, Page, Put, StoreGuarantees
from coterie.verify.systems.messages import (
    METHODS,
    Answer,
    Facts,
    Question,
    error_of,
    read_answer,
    read_question,
    refusal,
)

COMMIT = Commit(
    puts=(Put("a", b"\x00\xff", 3),), deletes=("b",), checks=(Check("c", 4),), fences=(Fence("f", 2**60),)
)
ASKED: list[tuple[str, tuple[Any, ...]]] = [
    ("store.get", ("k",)),
    ("store.scan", ("p", "after", 10)),
    ("store.commit", (COMMIT,)),
    ("store.grant", (1.5,)),
    ("log.append", ("t", 0, [Record(b"v", "key", (("h", "x"),))])),
    ("log.read", ("t", 1, 5, 100)),
]
STORE = StoreGuarantees(
    engine="sqlite",
    consistency=Consistency.LINEARIZABLE,
    durability=Durability.POWER_LOSS,
    scope=Scope.MACHINE,
    notes=("One.",),
)
LOG = LogGuarantees(engine="sqlite", durability=Durability.POWER_LOSS, scope=Scope.MACHINE)
ANSWERED: list[tuple[str, Any]] = [
    ("facts", Facts(STORE, LOG)),
    ("facts", Facts(STORE, None)),
    ("store.get", None),
    ("store.get", Entry("k", b"\x00", 7)),
    ("store.scan", Page((Entry("k", b"v", 7, 2),), 9, True)),
    ("store.commit", 12),
    ("store.revoke", None),
    ("log.read", Segment((Stored(3, Record(b"v"), 1.5),), 4)),
    ("log.bounds", Bounds(0, 4)),
]


@pytest.mark.parametrize(("method", "arguments"), ASKED)
def test_a_question_comes_through(method: str, arguments: tuple[Any, ...]) -> None:
    sent = msgspec.msgpack.encode(Question(5, method, arguments))
    assert read_question(sent) == Question(5, method, arguments)


@pytest.mark.parametrize(("method", "result"), ANSWERED)
def test_an_answer_comes_through(method: str, result: Any) -> None:
    answer = read_answer(msgspec.msgpack.encode(Answer(5, result)))
    assert msgspec.convert(answer.result, METHODS[method][1]) == result


@pytest.mark.parametrize(
    "error",
    [
        Conflict("it is at 3"),
        Fenced("later"),
        Unavailable("gone"),
        Unavailable("never sent", outcome=Outcome.NOT_APPLIED),
    ],
)
def test_an_error_comes_through_with_its_outcome(error: Unavailable | Conflict) -> None:
    told = error_of(read_answer(msgspec.msgpack.encode(refusal(5, error))))
    assert (type(told), told.message, told.outcome) == (type(error), error.message, error.outcome)
