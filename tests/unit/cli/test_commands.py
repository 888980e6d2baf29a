"""Each command in this process: what it prints, on which stream, and with which exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coterie.cli import main

PROGRAM = '''
from coterie import App, CoterieError, InvalidArgument

app = App("sample")
numbers = app.map("numbers", int)
notes = app.map("notes", str)

@app.service
class Sums:
    async def add(self, a: int, b: int = 1) -> int:
        """Add them."""
        return a + b
'''


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "sample_for_commands.py").write_text(PROGRAM)

    def run(*words: str) -> Ran:
        words = tuple(word.replace("APP", "sample_for_commands.py") for word in words)
        code: Any = 0
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code or 0
        return Ran(code, *capsys.readouterr())

    return run


COMMANDS = (
    "run", "up", "call", "status", "config", "policies", "jobs",
    "map get", "map put", "map delete", "map scan",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples(run: Run, command: str) -> None:
    ran = run(*command.split(), "--help")
    assert ran.code == 0
    assert f"\nExamples:\n  coterie {command} " in ran.out
    assert "--json" in ran.out


def test_the_help_lists_commands_and_exit_codes(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    for word in ("run", "up", "call", "status", "map", "config", "Exit codes:", "130"):
        assert word in ran.out


def test_policies_say_where_each_value_comes_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "quick.py"
    program.write_text(
        "from coterie import App, Policy, idempotent, priority\n"
        "app = App('quick', policy=Policy(timeout_s=2.0))\n"
        "@app.service(limit=9)\nclass Shop:\n"
        "    @idempotent\n    @priority(3)\n    async def buy(self) -> None: ...\n"
        "hasty = app.client(Shop, policy=Policy.none())\n"
    )
    (tmp_path / "coterie.toml").write_text('[policy."Shop.buy".retry]\nattempts = 7\n')
    monkeypatch.chdir(tmp_path)
    listed = [line.split() for line in run("policies", "quick.py").out.splitlines()]
    assert ["Shop.buy", "yes", "2", "7", "off", "50%", "off", "9", "off", "3", "App(policy=...),"] in [
        line[:11] for line in listed
    ]
    assert ["Shop.buy", "(client", "1)", "yes", "off"] in [line[:5] for line in listed]
    as_json = json.loads(run("policies", "quick.py", "--json").out)["Shop.buy"]
    assert (as_json["limit_at_a_node"], as_json["priority"], as_json["idempotent"]) == (9, 3, True)
    assert as_json["admission"]["service"]["limit"] == {
        "value": 9,
        "source": "@app.service(limit=...) of Shop",
    }
    lines = run("policies", "quick.py", "Shop.buy").out.splitlines()
    told = [line.split(None, 2) for line in lines]
    assert ["timeout_s", "2", "App(policy=...)"] in told
    assert ["retry.attempts", "7", 'coterie.toml [policy."Shop.buy"]'] in told
    (tmp_path / "coterie.toml").write_text(
        "[admission]\nlimit = 7\nqueue.length = 5\n"
        '[admission."Shop.buy"]\nlimit = { highest = 64 }\npriority = 0\n'
    )
    lines = run("policies", "quick.py", "Shop.buy").out.splitlines()
    told = [line.split(None, 2) for line in lines]
    assert ["service.limit", "7", "coterie.toml [admission]"] in told
    assert ["service.queue.length", "5", "coterie.toml [admission]"] in told
    assert ["service.queue.target_s", "0.005", "@app.service(limit=...) of Shop"] in told
    assert ["method.limit.highest", "64", 'coterie.toml [admission."Shop.buy"]'] in told
    assert ["method.priority", "0", 'coterie.toml [admission."Shop.buy"]'] in told
    (tmp_path / "coterie.toml").write_text("[admission.Shop]\nlimit = 0\n")
    ran = run("policies", "quick.py")
    assert ran.code == 2
    assert "coterie.toml [admission.Shop]: limit must be between 1 and 1,000,000, not 0" in ran.err
    (tmp_path / "coterie.toml").write_text("[policy.Shpo]\n")
    ran = run("policies", "quick.py")
    assert ran.code == 2
    assert "did you mean 'Shop'?" in ran.err


def test_jobs_are_listed_without_a_node(run: Run, tmp_path: Path) -> None:
    assert run("jobs", "APP").out == "The app 'sample' schedules nothing.\n"
    assert run("jobs", "APP", "--json").json["jobs"] == []
    ran = run("jobs", "APP", "sweep")
    assert (ran.code, "schedules nothing called 'sweep'" in ran.err) == (1, True)
    assert "it declares none: @app.every" in ran.err
    (tmp_path / "ticking_for_commands.py").write_text(
        "from coterie import App\n"
        "app = App('ticking')\n"
        "@app.cron('0 3 * * *', tz='Europe/Berlin')\nasync def close_the_day() -> None: ...\n"
        "@app.every(60)\nasync def sweep() -> None: ...\n"
    )
    lines = run("jobs", "ticking_for_commands.py").out.splitlines()
    assert [line.split()[0] for line in lines] == ["job", "close_the_day", "sweep"]
    assert "at 03:00, Europe/Berlin" in lines[1]
    assert "never" in lines[1]
    lines = run("jobs", "ticking_for_commands.py", "close_the_day").out.splitlines()
    assert lines[0] == "close_the_day: at 03:00, Europe/Berlin  (0 3 * * *)"
    assert lines[-1] == "No node of the app has run yet."
    ran = run("jobs", "ticking_for_commands.py", "close_day")
    assert (ran.code, "did you mean close_the_day?" in ran.err) == (1, True)
    ran = run("jobs", "ticking_for_commands.py", "zzz", "--json")
    assert (ran.code, ran.json["error"]["hint"]) == (1, "there are: close_the_day, sweep")
    ran = run("jobs", "ticking_for_commands.py", "--history", "0")
    assert (ran.code, "coterie jobs --help" in ran.err) == (2, True)


WRONG = [
    (("statsu", "APP"), "no such command 'statsu'. Did you mean 'status'?", "coterie --help"),
    (("zzz",), "no such command 'zzz'. There are: run, up,", "coterie --help"),
    (("run",), "TARGET is missing", "coterie run shop.py"),
    (("run", "APP", "--htp", "x"), "no such option '--htp'", "coterie run --help"),
    (("run", "APP", "--lease-s", "soon"), "'soon' is not a valid float", "coterie run --help"),
    (("run", "APP", "--lease-s", "0"), "lease_s must be between 0.2 and 3600 seconds", ""),
    (("run", "APP", "--http", "80"), "http must be HOST:PORT, or off, not '80'", "port 0"),
    (("up", "APP", "--nodes", "0"), "0 is not in the range", "coterie up --help"),
    (("up", "APP", "--http", "127.0.0.1:65535"), "not '127.0.0.1:65536'", "port 0"),
    (("up", "APP", "--engine", "memory:"), "lives within one process, so 3 nodes", "--nodes 1"),
    (("run", "APP", "--engine", "sqlit:///x"), "no engine is called 'sqlit'", "'sqlite'"),
    (("run", "no_such_module"), "there is no module 'no_such_module'", "on the path"),
    (("run", "sample_for_comands.py"), "there is no file", "did you mean sample_for_commands.py?"),
    (("run", "."), ". is a folder, not a program", "sample_for_commands.py"),
    (("run", "./"), "is a folder, not a program", "sample_for_commands.py"),
    (("run", "APP:numbers"), "is a StrongMap, not a coterie.App", "APP:app"),
    (("run", "APP:ap"), "has no attribute 'ap'", "APP:app"),
    (("call", "APP", "Sums.ad"), "no method 'Sums.ad'", "did you mean Sums.add?"),
    (("call", "APP", "Sum.add"), "no method 'Sum.add'", "did you mean Sums.add?"),
    (("call", "APP", "add"), "no method 'add'", "did you mean Sums.add?"),
    (("call", "APP", "qqq"), "no method 'qqq'", "there are: Sums.add"),
    (("call", "APP", "Sums.add", "{a: 1}"), "ARGUMENTS is not JSON", """'{"a": ..., "b": ...}'"""),
    (("call", "APP", "Sums.add", "3"), "expected `object`, got `int`", "it takes (a: int, b: int)"),
    (("call", "APP", "Sums.add", '{"b": 1}'), "missing required field `a`", "it takes"),
    (("call", "APP", "Sums.add", '{"a": "1"}'), "expected `int`, got `str` at parameter `a`", "it takes"),
    (("call", "APP", "Sums.add", '{"a": 1, "c": 1}'), "unknown field `c`", "it takes"),
    (("call", "APP", "Sums.add", '{"a": 1}', "--timeout", "0"), "0.0 is not in the range", "--help"),
    (("policies", "APP", "Sums.ad"), "no service or method 'Sums.ad'", "did you mean Sums.add?"),
    (("policies", "APP", "qqq"), "no service or method 'qqq'", "there are: Sums, Sums.add"),
    (("map", "gett"), "no such command 'gett'. Did you mean 'get'?", "coterie map --help"),
    (("map", "watch"), "no such command 'watch'. There are: delete, get, put, scan", "coterie map --help"),
    (("lab", "start"), "no such command 'start'. There are: install, list, up", "coterie lab --help"),
    (("map", "get", "APP", "number", "x"), "no map 'number'", "did you mean numbers?"),
    (("map", "get", "APP", "qqq", "x"), "no map 'qqq'", "there are: notes, numbers"),
    (("map", "put", "APP", "numbers", "x", "ten"), "VALUE is not JSON", "quotes"),
    (("map", "put", "APP", "numbers", "x", '"ten"'), "numbers: not a valid int", ""),
    (("map", "put", "APP", "numbers", "", "1"), "key", ""),
    (("map", "scan", "APP", "numbers", "--limit", "0"), "0 is not in the range", "--help"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message", "hint"), WRONG, ids=[" ".join(words) for words, *_ in WRONG])
def test_what_is_wrong_is_told_to_people_and_machines(
    run: Run, words: tuple[str, ...], message: str, hint: str
) -> None:
    hint = hint.replace("APP", "sample_for_commands.py")
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    first, *rest = ran.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert hint in "\n".join(rest)
    assert "\x1b" not in ran.err
    if words[0] in {"map", "lab"} and len(words) == 2:
        return  # There is no command yet that could know --json.
    ran = run(*words, "--json")
    assert (ran.code, ran.err) == (2, "")
    error = ran.json["error"]
    assert message in error["message"]
    assert hint in (error["hint"] or "")
    assert error["outcome"] == "not_applied"


@pytest.mark.parametrize("words", [(), ("map",), ("lab",)], ids=["coterie", "map", "lab"])
def test_a_group_alone_shows_its_help(run: Run, words: tuple[str, ...]) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"Usage: {' '.join(('coterie', *words))} [OPTIONS] COMMAND")


def test_a_call_says_where_it_found_nobody(run: Run) -> None:
    ran = run("call", "APP", "Sums.add", '{"a": 1}', "--engine", "sqlite:///other.db", "--timeout", "0.1")
    assert ran.code == 1
    assert ran.err.startswith("error: no node of sample runs on sqlite:///other.db\n")
    assert "name the engine of the nodes that run: --engine or COTERIE_ENGINE" in ran.err


def test_maps_are_read_and_written(run: Run) -> None:
    put = run("map", "put", "APP", "numbers", "a", "1", "--json").json
    assert put["key"] == "a"
    assert run("map", "get", "APP", "numbers", "a").out == "1\n"
    assert run("map", "get", "APP", "numbers", "a", "--json").json == {**put, "value": 1}
    assert run("map", "put", "APP", "notes", "a", '"x"').code == 0  # Maps are apart.
    assert run("map", "put", "APP", "numbers", "b", "2", "--expect", "0").code == 0
    scanned = run("map", "scan", "APP", "numbers").out.splitlines()
    assert [line.split()[:2] for line in scanned] == [["key", "value"], ["a", "1"], ["b", "2"]]
    lines = run("map", "scan", "APP", "numbers", "--prefix", "b", "--json").out.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [2]
    assert run("map", "delete", "APP", "numbers", "a", "--json").json == {"key": "a", "absent": True}
    gone = run("map", "get", "APP", "numbers", "a")
    assert (gone.code, gone.err) == (1, "error: numbers['a'] is absent\n")


def test_a_map_is_not_written_when_it_is_at_another_version(run: Run) -> None:
    version = run("map", "put", "APP", "numbers", "a", "1", "--json").json["version"]
    refused = run("map", "put", "APP", "numbers", "a", "2", "--expect", str(version + 1), "--json")
    assert refused.code == 1
    assert refused.json["error"]["code"] == "conflict"
    assert run("map", "get", "APP", "numbers", "a").out == "1\n"


def test_a_value_may_come_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO('"from a pipe"\n'))
    assert run("map", "put", "APP", "notes", "a", "-").code == 0
    assert run("map", "get", "APP", "notes", "a").out == '"from a pipe"\n'


def test_brackets_in_keys_and_values_are_no_markup(run: Run) -> None:
    run("map", "put", "APP", "notes", "[bold]k[/]", '"[red]v[/]"')
    assert '[bold]k[/]  "[red]v[/]"' in run("map", "scan", "APP", "notes").out


def test_long_values_are_neither_cut_nor_wrapped_without_a_terminal(run: Run) -> None:
    run("map", "put", "APP", "notes", "k", json.dumps("x" * 5000))
    assert "x" * 5000 in run("map", "scan", "APP", "notes").out


def test_methods_are_listed(run: Run) -> None:
    assert run("call", "APP").out.splitlines()[1].split("  ") == [
        "Sums.add(a: int, b: int = 1) -> int",
        "Add them.",
    ]
    [method] = run("call", "APP", "--json").json["methods"]
    assert method == {"method": "Sums.add", "signature": "(a: int, b: int = 1) -> int", "doc": "Add them."}


def test_an_app_without_services_and_a_file_with_two_apps(run: Run, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("from coterie import App\na, b = App('a'), App('b')\n")
    assert run("call", "two.py:a").out == "the app 'a' has no service\n"
    assert run("call", "two.py:a", "--json").json == {"app": "a", "methods": []}
    assert "name one of its apps: two.py:a, two.py:b" in run("call", "two.py").err


def test_no_node_is_told(run: Run) -> None:
    ran = run("status", "APP")
    assert ran.code == 0
    assert ran.out.startswith("no node of sample runs on sqlite:///.coterie/sample.db")
    assert "coterie run sample_for_commands.py" in ran.out
    assert run("status", "APP", "--json").json == {"app": "sample", "nodes": []}


def test_a_folder_that_cannot_be_used_is_no_bug_of_coterie(run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    ran = run("lab", "up", "postgres", "--folder", "taken/x")
    assert ran.code == 1
    assert f"error: {tmp_path}/taken/x cannot be used: Not a directory\ntry:   may this user" in ran.err
    assert "Traceback" not in ran.err


def test_a_damaged_and_a_newer_database_are_told_and_left(run: Run, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    run("map", "put", "APP", "numbers", "a", "1")
    path = tmp_path / ".coterie/sample.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma user_version = 99")
        db.commit()
    for command in (("run", "APP"), ("up", "APP"), ("status", "APP")):
        ran = run(*command, "--json")
        assert ran.code == 1
        assert ran.json["error"]["code"] == "corrupt_data"
        assert "written by a newer Coterie (format 99" in ran.json["error"]["message"]
        assert "upgrade" in ran.json["error"]["hint"]
    for other in path.parent.iterdir():
        other.unlink()
    path.write_bytes(b"not a database" * 1000)
    ran = run("run", "APP")
    assert ran.code == 1
    assert "is no SQLite database, or a damaged one" in ran.err
    assert path.read_bytes() == b"not a database" * 1000
