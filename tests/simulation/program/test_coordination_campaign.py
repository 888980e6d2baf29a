"""What coordination promises is judged without test code: what is right passes, mutants are found."""

from __future__ import annotations

import pytest

from coterie.simulation import Verdict

from .test_campaign import explored, found


def test_locks_and_leaders_keep_their_promises() -> None:
    progress = explored("coordinated:locked", 6, duration_s=20.0).progress
    assert progress.verdicts == {Verdict.OK: 6}
    assert progress.idle() == []


@pytest.mark.parametrize(
    ("program", "sentence"),
    [("two_holders", " while node-"), ("same_tokens", " acquired with the token 1")],
)
def test_a_lock_with_a_safeguard_taken_away_is_found(program: str, sentence: str) -> None:
    result = found(f"{program}:app", 3, budget=5, duration_s=10.0).result
    assert result.promise == "locks"
    assert sentence in result.message
    assert any(event.detail.get("witness") for event in result.record)
