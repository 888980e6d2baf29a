"""`coterie check-history`: exit codes, tables, JSON and errors that teach."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from simulated import done

from coterie.cli.main import main
from coterie.history import History, encode_history, write_history

OK = done((0, "write", "x", 1, None), (1, "read", "x", None, 1))
STALE = done((0, "write", "x", 1, None), (1, "read", "x", None, None))


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(history: History, *arguments: str) -> tuple[int, str, str]:
        path = tmp_path / "history.jsonl"
        write_history(path, history)
        with pytest.raises(SystemExit) as exit_:
            main(["check-history", str(path), *arguments])
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


def test_a_right_history_exits_0(run) -> None:
    code, out, _ = run(OK, "--model", "register")
    assert code == 0
    assert "2 operations" in out


def test_a_violated_history_exits_1_and_shows_the_witness(run) -> None:
    code, out, _ = run(STALE, "--model", "register")
    assert code == 1
    assert "violated (stale-read)" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["1-2", "0", "write", '"x"', "1", "null", "0.000", "0.000"] in lines
    assert ["3-4", "1", "read", '"x"', "null", "0.000", "0.000"] in lines


def test_an_undecided_history_exits_3(run) -> None:
    code, out, _ = run(
        done((0, "transfer", None, {"from": "a", "to": "b", "amount": 1}, None)), "--model", "bank"
    )
    assert code == 3
    assert "inconclusive" in out


def test_a_history_without_operations_is_no_pass(run) -> None:
    code, out, _ = run(History([]), "--model", "map")
    assert code == 3
    assert "The history has no operations." in out


def test_a_history_comes_from_the_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(encode_history(STALE.operations))))
    with pytest.raises(SystemExit) as exit_:
        main(["check-history", "-", "--model", "map"])
    assert exit_.value.code == 1
    assert "violated (stale-read)" in capsys.readouterr().out


def test_json_names_the_lines(run) -> None:
    code, out, _ = run(STALE, "--model", "map", "--json")
    answer = json.loads(out)
    assert code == 1
    assert (answer["verdict"], answer["anomaly"], answer["operations"]) == ("violated", "stale-read", 2)
    assert [(op["invoked"], op["completed"]) for op in answer["witness"]] == [(1, 2), (3, 4)]


def test_options_are_passed_to_the_model(run) -> None:
    code, _, _ = run(done((0, "read", "x", None, 7)), "--model", "register", "-o", "initial=7")
    assert code == 0
    code, _, _ = run(OK, "--model", "append", "-o", "isolation=acid")
    assert code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "regster"), "regster"),
        (("--model", "register", "-o", "initial"), "has no value"),
        (("--model", "register", "-o", "f=1"), "has no option 'f'"),
        (("--model", "queue"), "does not fit the model"),
        ((), "--model"),
    ],
)
def test_wrong_arguments_exit_2_and_say_what_is_wrong(run, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run(OK, *arguments)
    assert code == 2
    assert said in err


def test_a_missing_file_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["check-history", str(tmp_path / "absent.jsonl"), "--model", "register"])
    assert exit_.value.code == 2
    assert "absent.jsonl cannot be read" in capsys.readouterr().err


def test_the_models_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check-history", "--list-models"])
    out = capsys.readouterr().out
    for model in ("register", "map", "set", "queue", "log", "counter", "mutex", "append", "bank", "causal"):
        assert model in out
