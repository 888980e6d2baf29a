"""What a session says arrives whole and in order, or not at all, however it was cut and whatever is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.engines.nats._wire_messages import (
    BATCH_HEAD_BYTES,
    PART_HEAD_BYTES,
    Batch,
    Bye,
    Call,
    Cancel,
    Item,
    Message,
    Part,
    Reply,
    Welcome,
    decode,
    encode,
)
from coterie.engines.nats._wire_order import Incoming, Outgoing
from coterie.errors import Outcome, ProtocolError, Unavailable

FRAME = 64
MOST = 2_000

sizes = st.one_of(st.integers(0, 40), st.integers(FRAME - 8, FRAME + 8), st.integers(0, MOST - 40))


def reply(id_: int, size: int) -> Reply:
    return Reply(id_, msgspec.Raw(encode(bytes(id_ + byte & 255 for byte in range(size)))))


def flat(messages: list[Message]) -> list[bytes]:
    return [encode(message) for message in messages]


def said(messages: list[Message]) -> tuple[list[int], list[bytes]]:
    """Return the number of each message, and the batches that carry them."""
    out = Outgoing(FRAME)
    numbers = [out.add(encode(message)) for message in messages]
    waiting = sum(map(len, flat(messages)))
    batches = []
    while out.waiting_bytes:
        assert out.waiting_bytes <= waiting
        first, taken = out.left + 1, out.take()
        assert taken
        assert out.left == first + len(taken) - 1
        batches.append(encode((first, 0, taken)))
    assert out.numbered == out.left == (numbers[-1] if numbers else 0)
    assert not out.take()
    return numbers, batches


@given(st.lists(sizes, max_size=8))
def test_everything_arrives_in_messages_that_fit(lengths: list[int]) -> None:
    messages: list[Message] = [reply(id_, size) for id_, size in enumerate(lengths)]
    numbers, batches = said(messages)
    incoming, heard = Incoming(MOST), list[Message]()
    for batch in batches:
        assert len(batch) <= FRAME + 8  # the head of a batch with small numbers
        for message in incoming.take(decode(batch), 0.0):
            heard.append(message)
            assert numbers[len(heard) - 1] == incoming.taken
    assert flat(heard) == flat(messages)
    assert not incoming.partial
    assert incoming.held_bytes == 0


@given(st.lists(sizes, min_size=1, max_size=8), st.data())
def test_a_gap_is_an_error_and_nothing_behind_it_arrives(lengths: list[int], data: st.DataObject) -> None:
    messages: list[Message] = [reply(id_, size) for id_, size in enumerate(lengths)]
    numbers, batches = said(messages)
    lost = data.draw(st.sets(st.sampled_from(range(len(batches))), min_size=1))
    incoming, heard = Incoming(MOST), list[Message]()
    for batch in batches[: min(lost)]:
        heard.extend(incoming.take(decode(batch), 0.0))
    behind = [batch for index, batch in enumerate(batches) if index > min(lost) and index not in lost]
    if behind:
        with pytest.raises(Unavailable) as gap:
            heard.extend(incoming.take(decode(behind[0]), 0.0))
        assert gap.value.outcome is Outcome.UNKNOWN
    # A message whose number was taken has arrived, whole, and every other has not.
    arrived = [message for message, number in zip(messages, numbers, strict=True) if number <= incoming.taken]
    assert flat(heard) == flat(arrived)
    first_lost = decode(batches[min(lost)]).first
    assert incoming.taken == first_lost - 1


parts = st.builds(Part, st.integers(0, 2 * MOST), st.binary(max_size=MOST).map(memoryview))
others = st.sampled_from([Cancel(1), Welcome(1), Bye("c", "m")])


@given(st.lists(st.one_of(parts, others), max_size=12), st.integers(1, 3))
def test_whatever_a_peer_says_no_more_is_held_than_may_be(strange: list[Message], first: int) -> None:
    incoming = Incoming(MOST)
    with suppress(ProtocolError, Unavailable):
        for number, message in enumerate(strange, first):
            list(incoming.take(Batch(number, 0, [message]), 0.0))
            assert incoming.held_bytes <= MOST
    assert incoming.held_bytes <= MOST
    incoming.clear()
    assert incoming.held_bytes == 0


def take(*messages: Message) -> list[Message]:
    return list(Incoming(MOST).take(Batch(1, 0, list(messages)), 0.0))


def part(rest: int, body: bytes) -> Part:
    return Part(rest, memoryview(body))


WRONG: dict[str, tuple[str, Callable[[], object]]] = {
    "too large": ("the limit is 2000", lambda: take(part(MOST, b"x"))),
    "too much": ("leaves 0 of 2 bytes, and has 3", lambda: take(part(2, b"x"), part(0, b"xxx"))),
    "too little": ("leaves 0 of 2 bytes, and has 1", lambda: take(part(2, b"x"), part(0, b"x"))),
    "more": ("leaves 9 of 2 bytes, and has 1", lambda: take(part(2, b"x"), part(9, b"x"))),
    "empty": ("is empty", lambda: take(part(2, b"x"), part(2, b""))),
    "empty from the start": ("is empty", lambda: take(part(0, b""))),
    "between": ("a Cancel came between", lambda: take(part(2, b"x"), Cancel(1))),
    "malformed": ("malformed", lambda: take(part(2, b"\xff"), part(0, b"\xff\xff"))),
    "of a kind that is never large": ("malformed", lambda: take(part(0, encode(Cancel(1))))),
    "parts of parts": ("malformed", lambda: take(part(0, encode(part(0, b"x"))))),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_peer_says_is_an_error(name: str) -> None:
    says, say = WRONG[name]
    with pytest.raises(ProtocolError, match=says):
        say()


def test_a_message_in_parts_has_its_time_from_the_first() -> None:
    call = Call(1, "t", 1000, msgspec.Raw(encode(b"x" * 150)))
    _, batches = said([call, Item(1, msgspec.Raw(b"\x01"))])
    incoming = Incoming(MOST)
    for second, batch in enumerate(batches):
        for message in incoming.take(decode(batch), second):
            assert incoming.began_s == (0 if isinstance(message, Call) else second)
        if incoming.partial:
            assert incoming.heard_s == second
    assert incoming.heard_s == len(batches) - 2


def test_the_heads_fit() -> None:
    huge = 2**64 - 1
    assert len(encode(Batch(huge, huge, []))) + 4 <= BATCH_HEAD_BYTES
    body = memoryview(bytes(70_000))
    assert len(encode(Part(huge, body))) <= len(body) + PART_HEAD_BYTES
