"""The plan of faults and work follows from the seed alone."""

from __future__ import annotations

import random
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.verify import CLASSES, DEFAULT_CLASSES, WORKLOADS, plan_faults
from coterie.verify.plan import random_for
from coterie.verify.workload import Action

seeds = st.integers(0, 10_000)
kinds = st.lists(st.sampled_from(list(CLASSES)), min_size=1, unique=True)
times = st.floats(1, 600)


@given(seeds, kinds, times)
def test_the_same_seed_makes_the_same_plan(seed: int, chosen: list[str], time_s: float) -> None:
    assert plan_faults(seed, chosen, time_s=time_s, members=3) == plan_faults(
        seed, chosen, time_s=time_s, members=3
    )


def test_another_seed_makes_another_plan() -> None:
    plans = {plan_faults(seed, DEFAULT_CLASSES, time_s=60, members=3) for seed in range(20)}
    assert len(plans) == 20


@given(seeds, kinds, times)
def test_one_fault_comes_after_the_other_and_the_ends_are_calm(
    seed: int, chosen: list[str], time_s: float
) -> None:
    plan = plan_faults(seed, chosen, time_s=time_s, members=3)
    for before, after in pairwise(plan):
        assert before.at_s + before.duration_s < after.at_s
    for fault in plan:
        assert fault.at_s > 0
        assert fault.duration_s > 0
        assert fault.at_s + fault.duration_s < time_s


@given(seeds, kinds)
def test_each_class_comes_once_before_any_comes_again(seed: int, chosen: list[str]) -> None:
    plan = plan_faults(seed, chosen, time_s=120, members=3)
    assert {fault.kind for fault in plan[: len(chosen)]} == set(chosen)
    assert {fault.kind for fault in plan[len(chosen) : 2 * len(chosen)]} == set(chosen)


def test_most_faults_aim_at_the_leader_and_some_at_each_member() -> None:
    aims = [fault.aim for seed in range(40) for fault in plan_faults(seed, ["kill"], time_s=60, members=3)]
    assert aims.count("leader") > len(aims) / 2
    assert set(aims) == {"leader", "0", "1", "2"}


def test_of_one_member_only_the_clients_can_be_cut_off() -> None:
    plan = plan_faults(3, ["partition"], time_s=120, members=1)
    assert {fault.cut for fault in plan} == {"from-clients"}


def test_a_failover_aims_at_the_primary() -> None:
    plan = plan_faults(3, ["failover"], time_s=120, members=3)
    assert {fault.aim for fault in plan} == {"leader"}


def test_no_faults_are_planned_of_no_classes() -> None:
    assert plan_faults(1, [], time_s=60, members=3) == ()


def actions(workload: str, seed: int, client: int, count: int = 400) -> list[Action]:
    plan = WORKLOADS[workload].actions(random_for(seed, workload, client), client)
    return list(islice(plan, count))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_work_of_a_client_follows_from_the_seed(workload: str) -> None:
    assert actions(workload, 7, 2) == actions(workload, 7, 2)
    assert actions(workload, 7, 2) != actions(workload, 8, 2)
    assert actions(workload, 7, 2) != actions(workload, 7, 3)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_plan_of_work_touches_no_random_numbers_but_its_own(workload: str) -> None:
    random.seed(1)
    before = random.getstate()
    actions(workload, 7, 2)
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        ("register", {"read", "write", "cas"}),
        ("set", {"add", "read"}),
        ("log", {"append", "read"}),
        ("lock", {"hold"}),
        ("bank", {"transfer", "read"}),
        ("append", {"txn"}),
    ],
)
def test_every_kind_of_action_is_planned(workload: str, expected: set[str]) -> None:
    assert {action.f for action in actions(workload, 1, 0)} == expected


@pytest.mark.parametrize("workload", ["register", "set", "log"])
def test_no_value_is_written_twice(workload: str) -> None:
    written = [
        action.value
        for client in range(12)
        for action in actions(workload, 1, client)
        if action.f in {"write", "cas", "add", "append"}
    ]
    assert len(written) == len(set(written))


def test_no_element_is_appended_twice_to_a_list() -> None:
    appended = [
        (key, element)
        for client in range(12)
        for action in actions("append", 1, client)
        for f, key, element in action.value
        if f == "append"
    ]
    assert len(appended) == len(set(appended))


def test_some_holders_of_locks_outlast_their_lease() -> None:
    holds = [action.value["dawdles"] for action in actions("lock", 1, 0)]
    assert 0 < sum(holds) < len(holds) / 3


@pytest.mark.parametrize("workload", ["register", "set", "log", "append"])
def test_the_last_reads_are_of_all_that_was_written(workload: str) -> None:
    used = [action for client in range(3) for action in actions(workload, 5, client)]

    def keys(some: list[Action]) -> set[str]:
        if workload == "append":
            return {key for action in some for _, key, _ in action.value}
        return {action.key or "" for action in some}

    assert keys(WORKLOADS[workload].closing(used)) == keys(used)
