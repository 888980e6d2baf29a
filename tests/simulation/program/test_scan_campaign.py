"""What scans of maps promise is judged without test code: what is right passes, mutants are found."""

from __future__ import annotations

import pytest

from coterie.simulation import Verdict

from .test_campaign import explored


def test_scans_keep_their_promises() -> None:
    progress = explored("scanning:app", 6, duration_s=20.0).progress
    assert progress.verdicts == {Verdict.OK: 6}
    assert progress.idle() == []


@pytest.mark.parametrize(
    ("mutant", "sentence"),
    [("torn_scans", " did not find "), ("cached_scans", ", which ")],
)
def test_a_scan_that_misses_something_or_is_old_is_found(mutant: str, sentence: str) -> None:
    result = explored(f"{mutant}:app", 3, duration_s=20.0).failing
    assert result is not None
    assert result.promise == "map things"
    assert result.message.startswith('a scan of "things/')
    assert sentence in result.message
