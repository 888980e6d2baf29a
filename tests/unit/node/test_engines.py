"""Engines by URL, and what an app needs of them."""

from __future__ import annotations

import asyncio
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coterie import App
from coterie.engines.memory import MemoryStore
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import InvalidConfiguration, Unsupported
from coterie.node import check_guarantees, open_engine
from coterie.node.engines import KEEPERS
from coterie.ports import Consistency, Durability


async def opened(url: str) -> Any:
    return await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())


async def test_an_engine_is_found_by_its_scheme() -> None:
    engine = await opened("memory:")
    assert engine.name == "memory"
    await engine.close()


async def test_an_unknown_engine_is_explained() -> None:
    with pytest.raises(InvalidConfiguration, match=r"'sqlte'.*did you mean 'sqlite'"):
        await opened("sqlte:///x.db")
    with pytest.raises(InvalidConfiguration, match=r"'quux'.*there are: .*memory.*sqlite"):
        await opened("quux://x")


async def test_an_app_is_not_started_on_an_engine_that_cannot_keep_its_promises() -> None:
    app = App("a")
    app.map("ledger", int, durability=Durability.POWER_LOSS)
    store = MemoryStore(clock=SystemClock())
    with pytest.raises(Unsupported, match=r"'ledger'.*outlive power loss.*'memory'.*give it: sqlite, nats"):
        check_guarantees(app, store)
    await store.close()


def test_the_engines_that_are_named_then_are_those_that_give_it() -> None:
    # The same facts as in the matrix of docs/engines.md, which asks the engines themselves.
    matrix = runpy.run_path(str(Path(__file__).parents[3] / "docs/generate.py"))
    table = asyncio.run(matrix["guarantee_tables"]()).partition("Log:")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    for needed, named in KEEPERS.items():
        kept = [row[0] for row in rows if Durability[row[2].replace(" ", "_").upper()] >= needed]
        schemes = {scheme for row in kept for scheme in re.findall(r"`(\w+):`", row)}
        assert {scheme for scheme in schemes if not any(scheme in text for text in named)} == set()
        assert {text.split()[0] for text in named} <= schemes


async def test_a_strong_map_needs_a_linearizable_store() -> None:
    class Weak:
        guarantees = replace(MemoryStore(clock=SystemClock()).guarantees, consistency=Consistency.EVENTUAL)

    app = App("a")
    app.map("stock", int)
    weak: Any = Weak()
    with pytest.raises(Unsupported, match=r"'stock'.*needs linearizable reads.*only eventual"):
        check_guarantees(app, weak)
