"""Each safeguard of gossip is needed: without it, what must hold of a crowd does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from gossip_scenarios import (
    a_cut_link_is_no_death,
    a_death_is_noticed,
    a_sleeper_buries_nobody,
    all_come_to_the_same_view,
    halves_find_together,
    messages_stay_small,
    slow_nodes_blame_nobody,
    the_pause_was_its_own,
)

from coterie.detection import DetectionConfig, Gossip, State
from coterie.detection.messages import Rumor

CONFIG = DetectionConfig()


class RefutesNothing(Gossip):
    def _defend(self, rumor: Rumor) -> None: ...


class TakesOldNewsForNew(Gossip):
    def _hear(self, rumor: Rumor, now: float) -> None:
        known = self._members.get(rumor.id)
        if known is not None and rumor.state is State.ALIVE:
            self._learn(known, rumor, now)
        super()._hear(rumor, now)


class TakesNobodysWord(Gossip):
    def _confirm(self, rumor: Rumor) -> None: ...


class NeverVisitsTheDead(Gossip):
    def _visit_the_dead(self, now: float, out: list[Any]) -> None: ...


class HoldsItsPauseAgainstOthers(Gossip):
    def _overslept(self, late_s: float, now: float) -> None: ...


class TellsNothing(Gossip):
    def _send(self, to: str, kind: Any, *details: object) -> Any:
        self._rumors.drop([rumor_of for rumor_of in self._members if rumor_of != to])
        return super()._send(to, kind, *details)


class TellsAll(Gossip):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._rumors._most = 10**6


def crossed(machine: type[Gossip], config: DetectionConfig) -> None:
    heard = [Rumor("a", State.DEAD, 1, "b"), Rumor("a", State.ALIVE, 0, "", "x", "x:1")]
    for pair in (heard, [*heard, Rumor("b", State.ALIVE, 0, "", "x", "x:1"), Rumor("a", State.SUSPECT, 1)]):
        all_come_to_the_same_view(machine, config, pair)


MUTANTS: dict[str, tuple[type[Gossip], DetectionConfig, Callable[..., None]]] = {
    "no refutation": (RefutesNothing, CONFIG, the_pause_was_its_own),
    "no incarnations": (TakesOldNewsForNew, CONFIG, crossed),
    "no indirect probes": (Gossip, replace(CONFIG, helpers=0), a_cut_link_is_no_death),
    "no confirmations": (TakesNobodysWord, CONFIG, a_death_is_noticed),
    "no visits to the dead": (NeverVisitsTheDead, CONFIG, halves_find_together),
    "no excuse for an own pause": (HoldsItsPauseAgainstOthers, CONFIG, a_sleeper_buries_nobody),
    "no doubt about oneself": (Gossip, replace(CONFIG, doubts=0), slow_nodes_blame_nobody),
    "no local health": (Gossip, replace(CONFIG, max_health=0), slow_nodes_blame_nobody),
    "no gossip": (TellsNothing, CONFIG, a_death_is_noticed),
    "no bound on news": (TellsAll, CONFIG, messages_stay_small),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_without_a_safeguard_it_is_noticed(mutant: str) -> None:
    machine, config, scenario = MUTANTS[mutant]
    with pytest.raises(AssertionError):
        scenario(machine, config)
