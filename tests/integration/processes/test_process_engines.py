"""`coterie up` starts real engines for its nodes, and leaves nothing of them behind."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from process_harness import PATIENCE_S, SAMPLE, Coterie, alive, command, eventually

from coterie import lab

Start = Callable[..., Coterie]
UP = ("up", str(SAMPLE), "--http", "127.0.0.1:0", "--json")


def ready(up: Coterie, count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what was told of the engine, and of each node."""
    engine = up.wait_event("engine")
    return engine, [up.wait_event("ready") for _ in range(count)]


def count(node: dict[str, Any], key: str) -> int:
    """Count on, again and again while the engine has no leader; what failed may have been counted."""
    for _ in range(200):
        answer = httpx.post(f"{node['http']}/Work/count", json={"key": key}, timeout=PATIENCE_S)
        if answer.status_code != 503:
            break
        time.sleep(0.05)
    return int(answer.raise_for_status().json())


@pytest.mark.slow
def test_nodes_on_three_members_of_which_one_is_killed_and_started_again(start: Start) -> None:
    up = start(*UP, "--nodes", "3", "--engine", "etcd")
    engine, nodes = ready(up, 3)
    assert engine["engine"] == "etcd"
    assert [member["name"] for member in engine["members"]] == ["etcd-0", "etcd-1", "etcd-2"]
    assert [count(node, "k") for node in nodes] == [1, 2, 3]
    victim = engine["members"][0]
    os.kill(victim["pid"], signal.SIGKILL)
    assert up.wait_event("member_died", member="etcd-0")["code"] == -9
    again = up.wait_event("member_restarted", member="etcd-0")
    later = [count(node, "k") for node in nodes]
    assert 4 <= later[0] < later[1] < later[2]
    up.signal(signal.SIGTERM)
    assert up.wait() == 0
    pids = [process["pid"] for process in (*nodes, *engine["members"], again)]
    assert not any(map(alive, pids))
    assert not Path(victim["log"]).exists()


def test_all_ends_when_up_is_killed(start: Start) -> None:
    up = start(*UP, "--nodes", "1", "--engine", "postgres")
    engine, nodes = ready(up, 1)
    assert count(nodes[0], "k") == 1
    up.kill()
    pids = [process["pid"] for process in (*nodes, *engine["members"])]
    eventually(lambda: not any(map(alive, pids)), "the node and its engine ended")
    eventually(lambda: not Path(engine["members"][0]["log"]).exists(), "the data are removed")


def test_redis_may_be_valkey_and_takes_one_member(start: Start, tmp_path: Path) -> None:
    up = start(*UP, "--nodes", "1", "--store", "redis")
    engine, nodes = ready(up, 1)
    assert engine["engine"] in {"redis", "valkey"}
    assert len(engine["members"]) == 1
    assert count(nodes[0], "k") == 1
    up.signal(signal.SIGTERM)
    assert up.wait() == 0
    told = command("up", str(SAMPLE), "--engine", "redis", "--members", "3", folder=tmp_path)
    assert told.returncode == 2
    assert "runs with one member" in told.stderr


def test_it_tells_how_other_commands_find_the_engine(start: Start, tmp_path: Path) -> None:
    up = start("up", str(SAMPLE), "--nodes", "1", "--http", "off", "--engine", "redis")
    prefix = "for other commands: export "
    told = shlex.split(up.wait_line(prefix).removeprefix(prefix))
    up.wait_line("sample-1 (pid ")  # It starts.
    up.wait_line("sample-1 (pid ")  # It is ready.
    found = dict(setting.split("=", 1) for setting in told)
    assert list(found) == ["COTERIE_ENGINE"]
    called = command("call", str(SAMPLE), "Work.count", '{"key": "k"}', environment=found, folder=tmp_path)
    assert (called.returncode, called.stdout) == (0, "1\n"), called.stderr
    up.signal(signal.SIGTERM)
    assert up.wait() == 0


@pytest.mark.parametrize(
    "engine", [("--engine", "nats", "--members", "1"), ("--members", "1")], ids=["same", "alone"]
)
def test_nats_that_is_started_carries_the_calls_as_well(
    start: Start, tmp_path: Path, engine: tuple[str, ...]
) -> None:
    up = start(*UP, "--nodes", "2", *engine, "--wire", "nats")
    servers, nodes = ready(up, 2)
    assert (servers["engine"], len(servers["members"])) == ("nats", 1)
    assert all(node["wire"].startswith("nats:") for node in nodes)
    assert count(nodes[0], "k") == 1
    options = ("--wire", servers["url"], *(("--engine", servers["url"]) if "--engine" in engine else ()))
    called = command("call", str(SAMPLE), "Work.count", '{"key": "k"}', *options, folder=tmp_path)
    assert (called.returncode, called.stdout) == (0, "2\n"), called.stderr
    assert sum(event["event"] == "engine" for event in up.events) == 1
    up.signal(signal.SIGTERM)
    assert up.wait() == 0


def test_names_and_numbers_that_make_no_sense_are_told_at_once(tmp_path: Path) -> None:
    told = command("up", str(SAMPLE), "--engine", "mongo", folder=tmp_path)
    assert told.returncode == 2
    assert "--engine is a URL or the name of an engine to start, not 'mongo'" in told.stderr
    assert all(name in told.stderr for name in lab.ENGINES)
    told = command("up", str(SAMPLE), "--engine", "etcd", "--wire", "etcd", folder=tmp_path)
    assert told.returncode == 2
    assert "--wire is the URL of NATS servers, or nats to start them here, not 'etcd'" in told.stderr
    told = command("run", str(SAMPLE), "--wire", "nats", folder=tmp_path)
    assert told.returncode == 2
    assert "coterie up --wire nats starts servers" in " ".join(told.stderr.split())
    told = command("up", str(SAMPLE), "--members", "3", folder=tmp_path)
    assert told.returncode == 2
    assert "--members is of an engine that is started here" in told.stderr


def test_an_app_that_asks_for_more_than_the_engine_keeps_is_refused_once(tmp_path: Path) -> None:
    program = tmp_path / "bank.py"
    program.write_text(
        "from coterie import App\nfrom coterie.ports import Durability\napp = App('bank')\n"
        "app.map('ledger', int, durability=Durability.MACHINE_LOSS)\n"
    )
    told = command("up", str(program), "--engine", "redis", folder=tmp_path)
    assert told.returncode == 2
    assert told.stderr.count("the map 'ledger' of the app 'bank' needs writes that outlive machine loss") == 1
    assert "those of the engine 'redis' outlive only power loss" in told.stderr
    assert "nats with three replicas that sync always, etcd with three members" in told.stderr
