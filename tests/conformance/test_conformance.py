"""Every engine keeps every promise of its ports."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from coterie.conformance import (
    Check,
    ClockSuite,
    EntropySuite,
    LogFixture,
    LogSuite,
    StoreFixture,
    StoreSuite,
    Suite,
    WireFixture,
    WireSuite,
    run_check,
)
from coterie.ports import Clock, Entropy

from .engines import CLOCKS, ENTROPIES, LOGS, NOT_PROMISED, STORES, WIRES


def each(engines: Iterable[str], suite: Suite[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("engine", "check"),
        [
            pytest.param(engine, check, id=f"{engine}-{suite.port}-{check.name}")
            for engine in engines
            for check in suite.checks()
        ],
    )


@each(STORES, StoreSuite())
async def test_store(engine: str, check: Check[StoreFixture], tmp_path: Path) -> None:
    kept = await run_check(check, lambda: STORES[engine](tmp_path))
    assert kept == (check.name not in NOT_PROMISED.get(f"{engine}-store", ()))


@each(LOGS, LogSuite())
async def test_log(engine: str, check: Check[LogFixture], tmp_path: Path) -> None:
    kept = await run_check(check, lambda: LOGS[engine](tmp_path))
    assert kept == (check.name not in NOT_PROMISED.get(f"{engine}-log", ()))


@each(WIRES, WireSuite())
async def test_wire(engine: str, check: Check[WireFixture], tmp_path: Path) -> None:
    kept = await run_check(check, lambda: WIRES[engine](tmp_path))
    assert kept == (check.name not in NOT_PROMISED.get(f"{engine}-wire", ()))


@each(CLOCKS, ClockSuite())
async def test_clock(engine: str, check: Check[Clock], tmp_path: Path) -> None:
    assert await run_check(check, lambda: CLOCKS[engine](tmp_path))


@each(ENTROPIES, EntropySuite())
async def test_entropy(engine: str, check: Check[Entropy], tmp_path: Path) -> None:
    assert await run_check(check, lambda: ENTROPIES[engine](tmp_path))
