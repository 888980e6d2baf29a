"""Whole programs in many universes: what is right passes, and what is wrong is found and made small."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from coterie.errors import InvalidConfiguration
from coterie.simulation import Verdict
from coterie.simulation.program import Campaign, Finding, Trial, importable

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
EXAMPLES = HERE.parents[2] / "examples"
PATH = (str(PROGRAMS), str(EXAMPLES), *sys.path)


def campaign(app: str, universes: int, *, seed: int = 0, **options: Any) -> Campaign:
    trial = Trial(app=app, **options)
    return Campaign(trial, path=PATH, seeds=range(seed, seed + universes), jobs=2)


def explored(app: str, universes: int, **options: Any) -> Campaign:
    tried = campaign(app, universes, **options)
    for _ in tried.run():
        pass
    return tried


def found(app: str, universes: int, *, budget: int = 20, **options: Any) -> Finding:
    tried = explored(app, universes, **options)
    assert tried.failing is not None, f"nothing was found: {tried.progress}"
    return tried.find(tried.failing, budget=budget)


def test_the_shop_keeps_its_promises() -> None:
    progress = explored("shop:app", 8).progress
    assert progress.verdicts == {Verdict.OK: 8}
    assert progress.done == progress.total == 8
    assert progress.time_s >= 8 * 60
    assert progress.operations["ok"] > 4000
    assert progress.calls["ok"] > 400
    assert progress.looks > 20
    assert len(progress.faults) > 8
    assert progress.idle() == []


def test_the_shop_keeps_its_promises_while_nodes_join_and_leave() -> None:
    progress = explored("shop:app", 3, faults=("scale",)).progress
    assert progress.verdicts == {Verdict.OK: 3}
    assert progress.faults["scale"] >= 6
    assert progress.calls["unknown"] == 0  # Whoever leaves answers first.


def test_idempotent_methods_have_one_effect_and_the_first_reply() -> None:
    progress = explored("counters:keyed", 3, duration_s=30.0).progress
    assert progress.verdicts == {Verdict.OK: 3}
    assert progress.calls["ok"] > 500
    finding = found("forgets_replies:app", 3, budget=10, duration_s=10.0)
    assert finding.result.promise == "idempotent"
    assert "had different replies to one key of Till.spend" in finding.result.message


@pytest.mark.timeout(180)
def test_a_shop_that_charges_again_is_found_and_made_small() -> None:
    finding = found("charges_again:app", 100, budget=60, seed=8)
    result = finding.result
    assert result.verdict is Verdict.VIOLATED
    assert result.promise == "always nothing_is_sold_twice"
    assert "'nothing_is_sold_twice' does not hold" in result.message
    assert 1 <= len(result.fired) <= 3
    assert finding.repeatable
    assert finding.runs > 1
    assert "books.charged <= books.owed" in result.detail
    assert "During handling of the above exception" not in result.detail
    kinds = {event.kind for event in result.record}
    assert {"operation", "call", "fault"} <= kinds


# An old answer needs no fault. The others need one, and may need a second before it.
@pytest.mark.parametrize(
    ("weak", "faults"), [("stale-reads", {0}), ("lost-writes", {1, 2}), ("repeated-writes", {1, 2})]
)
def test_a_weak_engine_is_found_without_any_test_code(weak: str, faults: set[int]) -> None:
    finding = found("shop:app", 200, weak=(weak,), faults=("engine",), duration_s=30)
    assert finding.result.promise.startswith("map ")
    assert "is not linearizable: " in finding.result.message
    assert len(finding.result.fired) in faults
    assert finding.repeatable
    assert any(event.detail.get("witness") for event in finding.result.record)


def test_what_is_right_passes() -> None:
    progress = explored("counters:right", 6, duration_s=20).progress
    assert progress.verdicts == {Verdict.OK: 6}
    assert progress.looks > 0


def test_a_look_at_the_end_counts() -> None:
    assert explored("counters:hopeful", 2, duration_s=5).progress.looks == 2


def test_transactions_keep_pairs_equal() -> None:
    assert explored("counters:pairs", 6, duration_s=20).progress.verdicts == {Verdict.OK: 6}


def test_a_lost_update_is_found_without_any_fault() -> None:
    result = found("counters:torn", 10, duration_s=20, faults=()).result
    assert result.promise == "eventually nothing_is_lost"
    assert result.message.endswith("5 s after the last fault")
    assert result.fired == ()


def test_a_client_that_is_stuck_is_found() -> None:
    result = found("counters:stuck", 1, duration_s=5).result
    assert (result.verdict, result.promise) == (Verdict.VIOLATED, "liveness")
    assert "the client waits-1 is stuck" in result.message


def test_a_workload_without_end_passes_if_it_gets_answers() -> None:
    assert explored("counters:endless", 2, duration_s=5).failing is None


def test_a_bug_of_a_workload_is_told_with_its_own_traceback() -> None:
    result = found("counters:faulty", 1, duration_s=5).result
    assert result.promise == "workload divides"
    assert "the client divides-1 met with ZeroDivisionError" in result.message
    assert "_ = 1 // 0" in result.detail
    assert "clients.py" not in result.detail


def test_leaving_a_campaign_ends_it() -> None:
    tried = campaign("counters:right", 100)
    steps = tried.run()
    assert next(steps).done == 1
    steps.close()
    assert tried.progress.done == 1


def test_targets_are_named_by_module_or_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROGRAMS)
    assert importable("counters:right") == ("counters:right", str(Path.cwd()))
    assert importable(f"{PROGRAMS / 'counters.py'}:right") == ("counters:right", str(PROGRAMS))
    with pytest.raises(InvalidConfiguration, match="'idle' of counters:idle has no workload") as caught:
        importable("counters:idle")
    assert "@app.workload" in (caught.value.hint or "")


def test_a_program_that_cannot_be_imported_by_its_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # Others are to find the `queue` of the standard library.
    text = (PROGRAMS / "counters.py").read_text()
    for name in ("queue.py", "my-program.py"):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidConfiguration, match="cannot be imported by its name"):
            importable(f"{tmp_path / name}:right")
