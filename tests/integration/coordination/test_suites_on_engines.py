"""What the unit tests say of locks, elections, sequences and barriers in memory holds on every engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import test_elections as elections
import test_locks as locks
import test_sequences_and_barriers as others
from coordination_place import Place
from real_engines import ENGINES, engine_url

from coterie.conformance.store.fixture import view
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.node.engines import open_engine
from coterie.ports.store import Commit, Store

SCENARIOS: list[Callable[[Place], Awaitable[None]]] = [
    locks.test_tokens_rise_with_each_holder,
    locks.test_many_nodes_take_turns_in_the_order_of_asking,
    locks.test_a_newcomer_does_not_overtake_who_waits,
    locks.test_waiters_watch_and_do_not_poll,
    locks.test_waits_are_bounded_and_leave_nothing_behind,
    locks.test_a_dead_holder_is_followed_when_its_lease_ends,
    locks.test_a_leaving_node_gives_back_at_once,
    locks.test_the_body_is_cancelled_when_the_lease_is_lost,
    locks.test_a_lock_that_was_taken_away_by_force_is_noticed,
    locks.test_writes_of_a_former_holder_are_refused,
    locks.test_a_lost_answer_leaves_no_ghost_in_the_queue,
    locks.test_a_commit_that_arrives_late_takes_no_lock,
    locks.test_readers_share_and_writers_do_not,
    partial(locks.test_a_semaphore_lets_so_many_in, places=3),
    elections.test_everybody_may_look_up_who_leads,
    elections.test_a_watch_tells_each_change_of_the_leader,
    partial(others.test_no_number_is_handed_out_twice, block=7),
    others.test_with_blocks_of_one_later_numbers_are_greater,
    others.test_all_go_on_when_the_last_one_comes,
    others.test_who_gives_up_is_not_counted,
    others.test_a_party_whose_node_died_is_not_counted,
]


async def clear(store: Store) -> None:
    for key in await view(store):
        await store.commit(Commit((), (key,)))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ENGINES)
async def test_the_scenarios_of_the_unit_tests(name: str, tmp_path: Path) -> None:
    async with engine_url(name, tmp_path) as url:
        engine = await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
        try:
            for scenario in SCENARIOS:
                place = Place(engine.store)
                try:
                    await scenario(place)
                except BaseException as error:
                    error.add_note(f"on {name}: {scenario}")
                    raise
                finally:
                    await place.close()
                await clear(engine.store)
        finally:
            await engine.close()
