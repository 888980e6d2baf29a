"""Every engine keeps every promise of its ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from coterie.conformance import Check, StoreFixture, StoreSuite, run_check

from .engines import STORES


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=f"store-{check.name}") for check in StoreSuite().checks()]
)
@pytest.mark.parametrize("engine", STORES)
async def test_store(engine: str, check: Check[StoreFixture], tmp_path: Path) -> None:
    await run_check(check, lambda: STORES[engine](tmp_path))
