"""What a program may declare, and what it is told when it may not."""

from __future__ import annotations

import abc
import sys
from pathlib import Path
from typing import Any

import pytest

from coterie import App, Transaction
from coterie.app import load_app
from coterie.errors import InvalidConfiguration


class Greeter:
    async def greet(self, name: str) -> str:
        return f"hello {name}"


@pytest.mark.parametrize("name", ["", "1a", "a b", "a/b", "x" * 65, None, "é"])
def test_names_are_checked(name: str) -> None:
    with pytest.raises(InvalidConfiguration, match="must be a letter followed by"):
        App(name)
    with pytest.raises(InvalidConfiguration, match="a map"):
        App("a").map(name, int)


def test_nothing_is_declared_twice() -> None:
    app = App("a")
    app.map("m", int)
    app.service(Greeter)
    with pytest.raises(InvalidConfiguration, match="map 'm' twice"):
        app.map("m", str)
    with pytest.raises(InvalidConfiguration, match="service 'Greeter' twice"):
        app.service(Greeter)


def test_a_service_may_have_another_name() -> None:
    app = App("a")
    assert app.service(name="Hello")(Greeter) is Greeter
    assert list(app.services) == ["Hello"]


def test_a_client_of_a_service_shares_its_declaration() -> None:
    app = App("a")
    app.service(Greeter)
    client = app.client(Greeter)
    assert app.clients["Greeter"] is app.services["Greeter"]
    assert client.greet.__name__ == "greet"


class Opened:
    def __init__(self, path: str) -> None:
        self.path = path

    async def read(self) -> str:
        return self.path


class Unfinished(abc.ABC):
    async def read(self) -> str:
        return self._path()

    @abc.abstractmethod
    def _path(self) -> str: ...


def test_a_service_that_no_node_can_make_is_refused() -> None:
    with pytest.raises(
        InvalidConfiguration, match=r"Opened is made without .*: missing a required arg.* 'path'"
    ):
        App("a").service(Opened)
    with pytest.raises(InvalidConfiguration, match="Unfinished is abstract: it lacks _path"):
        App("a").service(Unfinished)
    for elsewhere in (Opened, Unfinished):
        App("a").client(elsewhere)  # Others may run it, under this name.


def test_what_runs_by_itself_must_be_async_and_take_what_it_gets() -> None:
    app = App("a")

    def plain(*_: Any) -> None: ...

    async def bare() -> None: ...

    declared = (
        (app.leader("x"), "leader 'x'"),
        (app.every(1), "schedule"),
        (app.transactional, "transaction"),
    )
    for declare, what in declared:
        with pytest.raises(InvalidConfiguration, match=f"{what}.* must be an `async def` function, not "):
            declare(plain)  # type: ignore[operator]
    for declare, first in ((app.leader("x"), "lease"), (app.transactional, "txn")):
        with pytest.raises(InvalidConfiguration, match=rf"must take its {first} .*async def bare\({first}, "):
            declare(bare)  # type: ignore[operator]

    @app.every(1, name="sweep")
    @app.transactional
    async def sweep(txn: Transaction) -> None: ...

    assert list(app.jobs) == ["sweep"]


def test_values_that_cannot_be_stored_are_refused_at_once() -> None:
    with pytest.raises(InvalidConfiguration, match=r"object cannot be .*use a dataclass"):
        App("a").map("m", object)


def test_errors_are_declared_once_and_with_an_error_status() -> None:
    app = App("a")

    @app.error(status=409)
    class Gone(Exception):
        pass

    assert app.errors.find(Gone("x")) == ("Gone", 409)
    with pytest.raises(InvalidConfiguration, match="declared already"):
        app.error(Gone)
    with pytest.raises(InvalidConfiguration, match="between 400 and 599"):
        app.error(status=200, name="Other")(Gone)


PROGRAM = "from coterie import App\napp = App('found')\nother = 3\n"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "program_for_target_tests.py"
    path.write_text(PROGRAM)
    yield path  # type: ignore[misc]
    sys.modules.pop("program_for_target_tests", None)


def test_an_app_is_found_by_file_and_by_module(program: Path) -> None:
    app = load_app(str(program))
    assert app.name == "found"
    assert load_app(f"{program}:app") is app
    assert load_app("program_for_target_tests") is app


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "names no module"),
        ("nowhere.py", r"there is no file nowhere\.py"),
        ("program_for_target_test.py", r"did you mean program_for_target_tests\.py"),
        ("no_such_module_at_all", "there is no module 'no_such_module_at_all'"),
        ("program_for_target_tests:ap", r"no attribute 'ap'.*did you mean program_for_target_tests:app"),
        ("program_for_target_tests:other", "is a int, not a coterie.App"),
    ],
)
def test_a_wrong_target_is_explained(program: Path, target: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        load_app(target)


def test_an_error_of_the_program_is_its_own(program: Path) -> None:
    program.write_text("import no_such_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load_app("program_for_target_tests")
    program.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_app(str(program))
