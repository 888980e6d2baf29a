"""Records, their pairing, their files and the recorder."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from simulated import history

from coterie.errors import DeadlineExceeded, InvalidArgument, NotFound, Overloaded
from coterie.history import (
    NEVER,
    History,
    Operation,
    Recorder,
    check,
    decode_history,
    encode_history,
    merge_histories,
    read_history,
    write_history,
)

LINE = '{"process": 0, "type": "invoke", "f": "write", "key": "x", "value": 1, "time": 1000}\n'
DONE = '{"process": 0, "type": "ok", "f": "write", "key": "x", "value": 1, "time": 2000}\n'


def ticking() -> Recorder:
    return Recorder(itertools.count(0, 10).__next__)


def test_intervals_pair_each_invocation_with_its_completion() -> None:
    recorded = history(
        (0, "invoke", "write", "x", 1),
        (1, "invoke", "read", "x", None),
        (0, "ok", "write", "x", 1),
        (1, "info", "read", "x", None),
        (2, "invoke", "cas", "x", [1, 2]),
        (2, "fail", "cas", "x", None),
        (3, "invoke", "read", "x", None),
    )
    assert [(op.process, op.outcome, op.start, op.end) for op in recorded.intervals] == [
        (0, "ok", 0, 2),
        (1, "unknown", 1, NEVER),
        (2, "fail", 4, 5),
        (3, "unknown", 6, NEVER),
    ]


def test_records_of_jepsens_nemesis_are_skipped() -> None:
    text = LINE + '{"process": "nemesis", "type": "info", "f": "start", "time": 1500, "index": 7}\n' + DONE
    assert len(decode_history(text).intervals) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LINE + "{nonsense}\n", "h.jsonl, line 2: JSON is malformed"),
        (LINE + "\n\n" + LINE, r"h.jsonl, line 4: process 0 begins 'write' inside what it began on line 1"),
        (DONE, "h.jsonl, line 1: process 0 completes 'write', which it did not begin"),
        (
            LINE + DONE.replace("write", "read"),
            'h.jsonl, line 2: process 0 completes read "x", but it began write',
        ),
        (
            LINE + DONE.replace('"x"', '"y"'),
            'h.jsonl, line 2: process 0 completes write "y", but it began write',
        ),
        (LINE + DONE.replace("2000", "2"), "h.jsonl, line 2: time goes back from 1000 to 2 ns"),
        (LINE.replace("invoke", "begin"), "h.jsonl, line 1: Invalid enum value 'begin'"),
        (LINE.replace('"process": 0, ', ""), "h.jsonl, line 1: Object missing required field `process`"),
        (LINE.replace("1000", '"soon"'), "h.jsonl, line 1: Expected `int`, got `str`"),
        ("[1, 2]\n", "h.jsonl, line 1: Expected `object`, got `array`"),
        (LINE.encode().replace(b'"x"', b'"\xff"').decode("latin-1"), None),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path: Path, text: str, said: str | None) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidArgument, match=said) as caught:
        _ = read_history(path).intervals
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"absent\.jsonl cannot be read"):
        read_history(tmp_path / "absent.jsonl")


def test_an_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert check(read_history(tmp_path / "empty.jsonl"), "register").ok


def test_histories_survive_a_file(tmp_path: Path) -> None:
    recorded = history((0, "invoke", "write", ["k", 1], {"a": 1}), ("p", "invoke", "read", None, None))
    write_history(tmp_path / "h.jsonl", recorded)
    assert read_history(tmp_path / "h.jsonl").operations == recorded.operations


def test_values_that_are_not_json_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="record 0 of the history is not JSON"):
        encode_history([Operation(process=0, type="invoke", f="write", value=object())])


def test_merging_sorts_by_time_and_lets_what_touches_overlap() -> None:
    first = [
        Operation(process=0, type="invoke", f="write", value=1, time=0),
        Operation(process=0, type="ok", f="write", time=5),
    ]
    second = [
        Operation(process=1, type="invoke", f="read", time=5),
        Operation(process=1, type="ok", f="read", time=9),
    ]
    assert check([*first, *second], "register").status == "violated"
    merged = merge_histories(second, first)
    assert [(r.process, r.type) for r in merged] == [(0, "invoke"), (1, "invoke"), (0, "ok"), (1, "ok")]
    assert check(merged, "register").ok


def test_the_recorder_records_outcomes() -> None:
    recorder = ticking()
    with recorder.operation(0, "write", key="x", value=1):
        pass
    with recorder.operation(0, "read", key="x") as running:
        running.result = 1
    for error in (NotFound("no"), DeadlineExceeded("late"), OSError()):
        with pytest.raises(type(error)), recorder.operation(0, "write", key="x", value=2):
            raise error
    with pytest.raises(asyncio.CancelledError), recorder.operation(0, "write", key="x", value=3):
        raise asyncio.CancelledError
    recorder.invoke(1, "write", key="x", value=4)
    recorder.info(1, "gone")
    intervals = recorder.history.intervals
    assert [op.outcome for op in intervals] == [
        "ok",
        "ok",
        "fail",
        "unknown",
        "unknown",
        "unknown",
        "unknown",
    ]
    assert [(op.start_ns, op.end_ns) for op in intervals[:2]] == [(0, 10), (20, 30)]
    assert intervals[1].result == 1
    assert intervals[2].error == "NotFound: no"


def test_the_recorder_refuses_what_is_no_history() -> None:
    recorder = ticking()
    with pytest.raises(InvalidArgument, match="completes an operation that it did not invoke"):
        recorder.ok(0)
    recorder.invoke(0, "read")
    with pytest.raises(InvalidArgument, match="has not completed 'read'"):
        recorder.invoke(0, "write")


def test_the_recorder_is_bounded_and_leaves_room_for_completions() -> None:
    recorder = Recorder(lambda: 0, limit=4)
    recorder.invoke(0, "read")
    recorder.invoke(1, "read")
    with pytest.raises(Overloaded):
        recorder.invoke(2, "read")
    recorder.ok(0)
    recorder.ok(1)
    assert len(recorder) == 4
    with pytest.raises(InvalidArgument, match="at least 2"):
        Recorder(lambda: 0, limit=1)


def test_unknown_models_and_options_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="no model 'regster'") as caught:
        check([], "regster")
    assert "register" in str(caught.value)
    with pytest.raises(InvalidArgument, match="has no option 'inital'"):
        check([], "register", inital=0)


def test_a_verdict_is_no_truth_value() -> None:
    with pytest.raises(TypeError, match=r"verdict\.ok"):
        bool(check([], "register"))


def test_iterating_gives_the_records() -> None:
    recorded = history((0, "invoke", "read", None, None))
    assert list(recorded) == list(recorded.operations)
    assert len(recorded) == 1
    assert isinstance(recorded, History)
