from __future__ import annotations

import time

from coterie.engines.system import SystemClock, SystemEntropy

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_an_identifier_begins_with_its_time() -> None:
    before = int(time.time() * 1000)
    identifier = SystemEntropy().identifier()
    after = int(time.time() * 1000)
    milliseconds = 0
    for character in identifier[:10]:
        milliseconds = milliseconds * 32 + ALPHABET.index(character)
    assert before <= milliseconds <= after


def test_two_sources_draw_differently() -> None:
    first, second = SystemEntropy(), SystemEntropy()
    assert [first.random() for _ in range(4)] != [second.random() for _ in range(4)]
    assert first.identifier() != second.identifier()


def test_boottime_is_the_same_for_every_clock_of_the_machine() -> None:
    first, second = SystemClock(), SystemClock()
    readings = [first.boottime(), second.boottime(), first.boottime()]
    assert readings == sorted(readings)
    assert 0 < readings[0] < time.time()
