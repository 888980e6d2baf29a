"""A pooler that does not keep prepared statements is told of, and what the URL must say then."""

from __future__ import annotations

import asyncio

from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import InvalidConfiguration
from coterie.node.engines import open_engine
from coterie.ports.store import Commit, Put

from .engines import pooled_url


async def test_statements_that_stay_prepared_are_refused() -> None:
    url = pooled_url(prepared="on")
    results = await asyncio.gather(*(_use(url, who) for who in range(4)), return_exceptions=True)
    errors = [each for each in results if each is not None]
    assert errors
    for error in errors:
        assert isinstance(error, InvalidConfiguration)
        assert "does not keep prepared statements" in error.message
        assert error.hint == "add prepared=off to the URL"


async def _use(url: str, who: int) -> None:
    engine = await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
    assert engine.store is not None
    try:
        for number in range(100):
            await engine.store.commit(Commit((Put(f"{who}-{number % 7}", b"value"),)))
            await engine.store.scan(f"{who}", limit=3)
    finally:
        await engine.close()
