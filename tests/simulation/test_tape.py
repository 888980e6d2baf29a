"""The tape: repeatable by label, editable without failing, calm where nothing is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import InvalidArgument
from coterie.simulation.tape import Edit, Edits, Tape


def draws(tape: Tape, label: str, count: int = 5) -> list[float | None]:
    stream = tape.stream(label)
    return [stream.fraction() for _ in range(count)]


def test_a_seed_and_a_label_determine_the_draws() -> None:
    assert draws(Tape(7), "link") == draws(Tape(7), "link")
    assert draws(Tape(7), "link") != draws(Tape(8), "link")
    assert draws(Tape(7), "link") != draws(Tape(7), "other")


def test_streams_do_not_disturb_each_other() -> None:
    tape = Tape(7)
    draws(tape, "noise", 100)
    assert draws(tape, "link") == draws(Tape(7), "link")


def test_a_stream_goes_on_where_it_was() -> None:
    tape = Tape(7)
    assert draws(tape, "link", 3) + draws(tape, "link", 2) == draws(Tape(7), "link", 5)


def test_a_recording_replays_and_is_calm_beyond_its_end() -> None:
    tape = Tape(7, keep=True)
    drawn = draws(tape, "link", 3)
    again = Tape.recorded(tape.values())
    assert draws(again, "link", 5) == [*drawn, None, None]
    assert draws(again, "never drawn", 2) == [None, None]


def test_edits_change_the_draws_they_name_and_no_others() -> None:
    plain = draws(Tape(7), "link", 4)
    edited = Tape(7, Edits({"link": Edit(3, {1: 0.5})}))
    assert draws(edited, "link", 4) == [plain[0], 0.5, plain[2], None]


def test_the_longest_prefix_wins() -> None:
    edits = Edits({"*": Edit(), "link/*": Edit(2), "link/a": Edit(None, {0: 0.25})})
    assert edits.find("link/a") == Edit(None, {0: 0.25})
    assert edits.find("link/b") == Edit(2)
    assert edits.find("fault/1") == Edit()
    assert Edits({"link/*": Edit()}).find("fault/1") is None


def test_calm_choices_disturb_least() -> None:
    stream = Tape.recorded({}).stream("any")
    assert stream.uniform(1.0, 2.0) == 1.0
    assert stream.uniform(1.0, 2.0, calm=1.5) == 1.5
    assert stream.spread(1.0, 100.0) == 1.0
    assert stream.exponential(3.0) == 0.0
    assert stream.chance(1.0) is False
    assert stream.below(10) == 0
    assert stream.choose("abc") == "a"


@given(st.lists(st.none() | st.floats(0, 1, exclude_max=True), max_size=20))
def test_any_tape_is_legal_in_every_domain(values: list[float | None]) -> None:
    stream = Tape.recorded({"x": values}).stream("x")
    for _ in range(4):
        assert 1.0 <= stream.uniform(1.0, 2.0) <= 2.0
        assert 0.001 <= stream.spread(0.001, 10.0) <= 10.001
        assert stream.exponential(1.0) >= 0.0
        assert 0 <= stream.below(3) < 3
        assert stream.choose("abc") in "abc"


@given(st.dictionaries(st.text(max_size=8), st.builds(Edit, st.none() | st.integers(0, 9))))
def test_edits_survive_json(plain: dict[str, Edit]) -> None:
    edits = Edits(plain)
    assert Edits.from_json(edits.to_json()) == edits


def test_edited_values_survive_json() -> None:
    edits = Edits({"link": Edit(None, {3: 0.25, 4: None})})
    assert Edits.from_json(edits.to_json()) == edits


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": "b"}', '{"a": [0, {"x": 1}]}', '{"a": [0, {"0": 2}]}']
)
def test_what_is_no_edit_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Edits.from_json(text)


def test_values_need_a_recording() -> None:
    with pytest.raises(InvalidArgument, match="keep=True"):
        Tape(1).values()
