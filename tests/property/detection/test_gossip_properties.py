"""Gossip among simulated nodes: what converges, how quickly, at what cost, and how seldom it is wrong."""

from __future__ import annotations

import math

import pytest
from gossip_network import Network, name
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
from hypothesis import given
from hypothesis import strategies as st

from coterie.detection import DetectionConfig, Gossip, Known, State
from coterie.detection.messages import Rumor

CONFIG = DetectionConfig()
rumors = st.builds(
    Rumor,
    st.sampled_from("ab"),
    st.sampled_from(State),
    st.integers(0, 3),
    st.sampled_from("cd"),
    st.just("x"),
    st.just("x:1"),
)


@given(st.lists(rumors, max_size=5))
def test_whatever_the_order_all_come_to_the_same_view(heard: list[Rumor]) -> None:
    all_come_to_the_same_view(Gossip, CONFIG, heard)


def rounds_until_all_know(size: int, *, loss: float, seed: int) -> float:
    """Return after how many periods all have heard of a node that only one of them was told of."""
    network = Network(size, loss=loss, seed=seed)
    network.run(1.0)
    new = network.start(Known("new", "new", "new:1"))
    new.sync({name(0): network.nodes[name(0)].me})
    began = network.now
    network.run(20, until=lambda: network.all_say("new", State.ALIVE, State.SUSPECT))
    return (network.now - began) / network.config.period_s


@pytest.mark.parametrize("size", [10, 100, 1000])
def test_news_reaches_all_in_a_logarithm_of_periods(size: int) -> None:
    assert rounds_until_all_know(size, loss=0.1, seed=2) <= 1.5 + math.log2(size)


@pytest.mark.parametrize("size", [3, 10, 100])
def test_the_cost_of_a_node_does_not_grow_with_the_cluster(size: int) -> None:
    network = Network(size)
    network.run(2.0)
    before = network.sent.copy()
    network.run(10.0)
    periods = 10.0 / CONFIG.period_s
    for id_ in network.nodes:
        # Heartbeats, a probe, and about as many answers; a probe may be one's turn more often by chance.
        assert (network.sent[id_] - before[id_]) / periods <= CONFIG.watchers + 1 + 2.5


@pytest.mark.parametrize(("size", "seed"), [(2, 1), (3, 2), (5, 3), (50, 4)])
def test_a_death_is_noticed_by_all_and_ends_in_dead(size: int, seed: int) -> None:
    a_death_is_noticed(Gossip, CONFIG, size, seed)


def test_with_slow_nodes_hardly_anybody_is_suspected_wrongly() -> None:
    slow_nodes_blame_nobody(Gossip, CONFIG)


def test_two_halves_that_held_each_other_to_be_dead_find_together() -> None:
    halves_find_together(Gossip, CONFIG)


def test_a_link_that_is_cut_between_two_is_no_death() -> None:
    a_cut_link_is_no_death(Gossip, CONFIG)


def test_a_pause_of_a_node_ends_with_its_return() -> None:
    the_pause_was_its_own(Gossip, CONFIG)


def test_a_sleeper_buries_nobody() -> None:
    a_sleeper_buries_nobody(Gossip, CONFIG)


def test_messages_stay_small() -> None:
    messages_stay_small(Gossip, CONFIG)
