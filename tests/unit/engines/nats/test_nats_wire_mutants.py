"""Take one rule of the order of a session away, and a test of it must fail: the tests can fail."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import test_nats_wire_order as order

from coterie.engines.nats import _wire_order
from coterie.errors import CoterieError

whole = order.test_everything_arrives_in_messages_that_fit
gap = order.test_a_gap_is_an_error_and_nothing_behind_it_arrives
time = order.test_a_message_in_parts_has_its_time_from_the_first


def wrong(name: str) -> Callable[[], None]:
    return partial(order.test_what_no_peer_says_is_an_error, name)


CAUGHT = (AssertionError, pytest.fail.Exception, CoterieError, BaseExceptionGroup)
SIZE = "elif size + part.rest != self._rest:"
HEARD = "        self.heard_s = now_s\n"

MUTANTS: dict[str, tuple[str, str, Callable[[], None]]] = {
    "takes what comes after a gap": ("batch.first != self.taken + 1", "False", gap),
    "a gap has had no effect": ("outcome=Outcome.UNKNOWN", "outcome=Outcome.NOT_APPLIED", gap),
    "gives the number of the first part": (
        "        return self.numbered\n",
        "        return self.numbered - isinstance(self._queue[-1], _Cut)\n",
        whole,
    ),
    "parts are as large as messages": ("frame_bytes - PART_HEAD_BYTES", "frame_bytes + 64", whole),
    "adds a part to what is full": ("if taken:\n", "if False:\n", whole),
    "forgets the other parts": ("if not part.rest:", "if True:", whole),
    "keeps what it has given": ("whole, self._half = self._half, bytearray()", "whole = self._half", whole),
    "holds messages of any size": ("> self._max_message_bytes:", "> 1 << 62:", wrong("too large")),
    "takes less than was said": (SIZE, "elif False:", wrong("too little")),
    "takes more than was said": (SIZE, "elif size + part.rest < self._rest:", wrong("too much")),
    "takes empty parts": ("if not size:", "if False:", wrong("empty")),
    "takes what comes between parts": (
        "                if self._rest:",
        "                if False:",
        wrong("between"),
    ),
    "takes anything in parts": ("decode_large(whole)", "Part(0, whole)", wrong("malformed")),
    "counts the time from the last part": (HEARD, "        self.heard_s = self.began_s = now_s\n", time),
    "does not notice that parts come": (HEARD, "", time),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_rule_a_test_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, replacement, test = MUTANTS[name]
    source = inspect.getsource(_wire_order)
    assert source.count(rule) == 1
    broken: dict[str, Any] = {"__name__": _wire_order.__name__, "__package__": _wire_order.__package__}
    exec(compile(source.replace(rule, replacement), name, "exec"), broken)
    monkeypatch.setattr(order, "Incoming", broken["Incoming"])
    monkeypatch.setattr(order, "Outgoing", broken["Outgoing"])
    with pytest.raises(CAUGHT):
        test()
