"""A program's error is shown with its own frames only."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import coterie
from coterie.cli.options import load
from coterie.cli.program import ProgramError, program_error
from coterie.errors import InvalidConfiguration


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "program_for_cli_tests.py"


def failure(program: Path, text: str) -> ProgramError:
    program.write_text(text)
    with pytest.raises(ProgramError) as caught:
        load(program.name, {})
    assert caught.value.outcome.value == "not_applied"
    return caught.value


def test_only_frames_of_the_program_are_shown(program: Path) -> None:
    error = failure(program, "def f():\n    return 1 / 0\nf()\n")
    assert error.message == f"{program.name} cannot be loaded: ZeroDivisionError: division by zero"
    files = [line.split('"')[1] for line in error.trace.splitlines() if line.startswith("  File ")]
    assert files == [str(program), str(program)]
    assert error.trace.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_what_the_program_calls_is_kept(program: Path) -> None:
    error = failure(program, "import json\njson.loads('{')\n")
    assert "decoder.py" in error.trace
    assert error.trace.index(program.name) < error.trace.index("decoder.py")


def test_causes_are_shown_with_their_frames(program: Path) -> None:
    text = "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('so') from e\n"
    trace = failure(program, text).trace
    assert trace.count(f'File "{program}"') == 2
    assert "importlib" not in trace
    assert "coterie/cli" not in trace


def test_a_syntax_error_has_its_place_and_no_frames(program: Path) -> None:
    error = failure(program, "x = (\n")
    assert f'File "{program}", line 1' in error.trace
    assert "Traceback" not in error.trace
    assert "importlib" not in error.trace


def test_a_missing_module_is_named_with_its_interpreter(program: Path) -> None:
    error = failure(program, "import surely_no_such_module\n")
    assert "No module named 'surely_no_such_module'" in error.message
    assert "surely_no_such_module" in (error.hint or "")


def test_a_wrong_declaration_has_its_place(program: Path) -> None:
    program.write_text("from coterie import App\n\napp = App('a b')\n")
    with pytest.raises(InvalidConfiguration, match="the name of an app") as caught:
        load(program.name, {})
    assert caught.value.__notes__ == [f"{program}, line 3: app = App('a b')"]


def test_a_program_that_ends_itself_is_told(program: Path) -> None:
    program.write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(InvalidConfiguration, match=r"ended itself.*sys.exit\(3\)") as caught:
        load(program.name, {})
    assert "__main__" in (caught.value.hint or "")


def test_an_error_of_ours_is_not_blamed_on_the_program() -> None:
    ours = Path(coterie.__file__).with_name("anything.py")
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", str(ours), "exec"))
    error = caught.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next  # Without the test, which counts as the program.
    assert program_error(error, "it failed") is None
