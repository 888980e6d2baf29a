"""What coordination promises is judged without test code: what is right passes, mutants are found."""

from __future__ import annotations

import pytest

from coterie.simulation import Verdict

from .test_campaign import explored, found


@pytest.mark.parametrize("app", ["locked", "numbered", "ticking"])
def test_what_coordinates_keeps_its_promises(app: str) -> None:
    progress = explored(f"coordinated:{app}", 5, duration_s=20.0).progress
    assert progress.verdicts == {Verdict.OK: 5}
    assert progress.idle() == []


@pytest.mark.parametrize(
    ("program", "sentence"),
    [("two_holders", " while node-"), ("same_tokens", " acquired with the token 1")],
)
def test_a_lock_with_a_safeguard_taken_away_is_found(program: str, sentence: str) -> None:
    result = found(f"{program}:app", 3, budget=2, duration_s=10.0).result
    assert result.promise == "locks"
    assert sentence in result.message
    assert any(event.detail.get("witness") for event in result.record)


@pytest.mark.parametrize(
    ("program", "promise", "sentence"),
    [
        ("unchecked_numbers", "sequences", " were both given the number "),
        ("unchecked_ticks", "schedules", " both ran "),
    ],
)
def test_what_is_decided_without_a_check_is_found(program: str, promise: str, sentence: str) -> None:
    result = explored(f"{program}:app", 5, duration_s=10.0).failing
    assert result is not None
    assert result.promise == promise
    assert sentence in result.message
