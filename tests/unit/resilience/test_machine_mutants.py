"""Take one rule of a pure machine away, and a test of it must fail: the tests can fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import test_balance as balance
import test_breaker as breaker
import test_retry as retry
import test_transcripts as transcripts

from coterie.resilience import (
    AdaptiveLimit,
    AdmissionQueue,
    Breaker,
    ConsistentHash,
    Ejection,
    Gcra,
    Loads,
    Local,
    PeakEwma,
    Retry,
    RetryBudget,
)
from coterie.resilience.breaker import Window

transcript = transcripts.test_the_transcript


@dataclass(frozen=True)
class Mutant:
    owner: type
    attribute: str
    replacement: Any
    caught_by: Callable[[], None]


def no_panic(self: Ejection, targets: Any, now: float) -> Any:
    shut = [target for target in targets if not self.of(target.address).would_admit(now)]
    ejected = {target.address for target in shut[: len(targets) // 2]}
    return [target for target in targets if target.address not in ejected]


def no_cap(self: Ejection, targets: Any, now: float) -> Any:
    return [target for target in targets if self.of(target.address).would_admit(now)]


def no_bound(self: ConsistentHash, targets: Any, loads: Any, **_: Any) -> Any:
    return targets[0]


def take_oldest(self: AdmissionQueue[Any], now: float) -> Any:
    for level in self._levels:
        if level:
            place = level[0]
            self.leave(place)
            return place
    return None


def saves_for_ever(self: RetryBudget, now: float) -> bool:
    self._saved = self.saved + (now - self._since) * self._floor
    self._since, self.fresh = now, 0
    if self._saved < 1:
        return False
    self._saved -= 1
    return True


def never_probes(self: Breaker, now: float) -> bool:
    return self.state.value == "closed"


half_ejected = partial(breaker.test_never_more_than_half_is_ejected_and_none_in_a_panic, 3, 3)
panic = partial(breaker.test_never_more_than_half_is_ejected_and_none_in_a_panic, 4, 5)

MUTANTS: Mapping[str, Mutant] = {
    "ejects more than half": Mutant(Ejection, "admitted", no_cap, half_ejected),
    "ejects in a panic": Mutant(Ejection, "admitted", no_panic, panic),
    "ejects for ever": Mutant(Breaker, "would_admit", never_probes, breaker.test_the_transcript),
    "counts no failures": Mutant(Window, "add", lambda self, now, **_: None, breaker.test_the_transcript),
    "a late answer is a probe": Mutant(
        Breaker, "forget", lambda self, now, took_s: setattr(self, "_probing", 0),
        breaker.test_a_call_from_before_is_no_probe,
    ),
    "saves up repeats for ever": Mutant(
        RetryBudget, "spend", saves_for_ever, partial(transcript, "retry_budget")
    ),
    "repeats whatever failed": Mutant(
        Retry, "worth", lambda self, error, idempotent: True,
        partial(retry.test_only_what_is_worth_it_and_safe_is_repeated, ValueError(), False, False),
    ),
    "all pause equally long": Mutant(
        Retry, "pause_s", lambda self, repeat, chance, error=None: 0.02,
        retry.test_the_ceiling_of_the_pause_doubles,
    ),
    "what failed looks fast": Mutant(
        Loads, "measured", lambda self, load, now, took_s, failed: load.latency.add(now, took_s),
        balance.test_what_fails_at_once_does_not_look_fast,
    ),
    "does not look at latency": Mutant(
        PeakEwma, "at", lambda self, now: 0.0, balance.test_a_slow_target_gets_little
    ),
    "a new target gets all at once": Mutant(
        Loads, "warmth", lambda self, address, now: 1.0,
        balance.test_a_new_target_starts_slowly_and_those_of_the_start_do_not,
    ),
    "piles keys up": Mutant(
        ConsistentHash, "choose", no_bound, balance.test_no_target_is_loaded_beyond_its_bound
    ),
    "leaves the zone": Mutant(
        Local, "choose", lambda self, targets, loads, **given: self.inner.choose(targets, loads, **given),
        balance.test_calls_stay_in_the_zone_while_it_is_a_fair_part,
    ),
    "serves the oldest under overload": Mutant(
        AdmissionQueue, "take", take_oldest, partial(transcript, "admission_queue")
    ),
    "takes more than the burst": Mutant(
        Gcra, "wait_s", lambda self, now, units=1.0: 0.0, partial(transcript, "gcra")
    ),
    "learns nothing from what is dropped": Mutant(
        AdaptiveLimit, "_move", lambda self, exact: None, balance.test_dropped_calls_shrink_the_limit
    ),
    "never measures anew": Mutant(
        AdaptiveLimit, "_halve", lambda self, now, took_s: None, partial(transcript, "adaptive_limit")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.caught_by()
    monkeypatch.setattr(mutant.owner, mutant.attribute, mutant.replacement)
    with pytest.raises(AssertionError):
        mutant.caught_by()
