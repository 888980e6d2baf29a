"""What the benchmarks' numbers mean: turns, medians, ratios of pairs, goals. And that they still run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks._harness import Goal, Sample, compare, percentile, take_turns

ROOT = Path(__file__).resolve().parents[3]


def samples(*values: float) -> list[Sample]:
    return [Sample(value) for value in values]


def test_candidates_take_turns_and_the_first_rounds_warm_up() -> None:
    order: list[str] = []

    def candidate(name: str) -> Sample:
        order.append(name)
        return Sample(len(order))

    taken = take_turns({"a": lambda: candidate("a"), "b": lambda: candidate("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert taken == {"a": samples(3, 5), "b": samples(4, 6)}


def test_a_ratio_is_the_median_of_each_rounds_own_pair() -> None:
    # The machine was ten times slower in the second round: the ratio does not feel it.
    rows = compare("put", {"raw": samples(100, 10, 110), "ours": samples(80, 8, 88)}, in_flight=64)
    raw, ours = rows
    assert (ours.median, ours.low, ours.high) == (80, 8, 88)
    assert (ours.ratio, ours.beside, raw.ratio) == (0.8, "raw", 1)
    assert (ours.part, ours.in_flight, ours.unit) == ("put", 64, "per s")


def test_goals_are_judged_by_ratio_or_by_median() -> None:
    of = {"raw": samples(100), "ours": samples(80)}
    goals = [
        Goal("ours", of="raw", at_least=0.8),
        Goal("ours", of="raw", at_least=0.81),
        Goal("ours", at_most=80),
        Goal("ours", at_most=79),
    ]
    raw, ours = compare("put", of, unit="ms", goals=goals)
    assert not raw.goals
    assert [verdict.reached for verdict in ours.goals] == [True, False, True, False]
    assert [verdict.goal for verdict in ours.goals[1:3]] == [">= 0.81x raw", "<= 80 ms"]


def test_a_goal_has_one_bound() -> None:
    with pytest.raises(ValueError, match="either at least or at most"):
        Goal("ours")


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert (percentile(ordered, 50), percentile(ordered, 99), percentile(ordered, 100)) == (50, 99, 100)
    assert percentile([7.0], 99) == 7
    assert Sample.of(1.0, [0.003, 0.001, 0.002]).p50_ms == 2


def test_an_unknown_benchmark_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["stroe"])
    assert ended.value.code == 2
    assert "there is no benchmark 'stroe'; did you mean store? there are: " in capsys.readouterr().err


def test_saved_results_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = compare("put", {"raw": samples(1000), "ours": samples(800)}, goals=[Goal("ours", at_least=900)])
    saved = tmp_path / "saved.json"
    report = {
        "machine": command.machine(),
        "benchmarks": {"store": {"title": "Keys", "rows": [asdict(row) for row in rows]}},
    }
    saved.write_text(json.dumps(report), encoding="utf-8")
    assert command.main(["--show", str(saved)]) == 0
    shown = capsys.readouterr().out
    assert "**Keys**" in shown
    assert "| put | 1 | ours | 800 per s | 800 to 800 |  | 0.80x raw | >= 900 per s: missed (800) |" in shown


def test_the_harness_runs(tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "start", "--quick", "--json", "--save", str(saved)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    report = json.loads(done.stdout)
    assert json.loads(saved.read_text(encoding="utf-8")) == report
    assert report["machine"]["cpus"] >= 1
    rows = report["benchmarks"]["start"]["rows"]
    assert {"coterie", "coterie run"} <= {row["name"] for row in rows}
    assert all(row["median"] > 0 for row in rows if row["name"].startswith("coterie"))
    assert any(row["goals"] for row in rows)
