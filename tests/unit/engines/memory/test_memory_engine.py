from __future__ import annotations

import pytest

from coterie.engines.memory import MemoryEngine, open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import InvalidConfiguration, Unavailable
from coterie.ports import Consistency, Durability, Engine, Scope
from coterie.ports.log import Record
from coterie.ports.store import Commit, Put


async def opened(url: str = "memory:") -> MemoryEngine:
    return await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())


@pytest.mark.parametrize("url", ["memory:", "memory://", "memory://shop"])
async def test_a_url_opens_an_empty_engine(url: str) -> None:
    engine: Engine = await opened(url)
    assert engine.name == "memory"
    assert engine.store is not None
    assert engine.log is not None
    assert (await engine.store.scan("")).entries == ()
    assert await engine.log.topics() == {}
    await engine.close()


@pytest.mark.parametrize(
    "url", ["memory:shop", "memory:///shop", "memory://shop/1", "memory://?a=1", "memory:#x", "sqlite:", ""]
)
async def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="memory://name"):
        await opened(url)


async def test_two_engines_share_nothing_even_under_one_name() -> None:
    first, second = await opened("memory://shop"), await opened("memory://shop")
    await first.store.commit(Commit((Put("key", b"1"),)))
    assert await second.store.get("key") is None
    await first.close()
    await second.close()


async def test_closing_the_engine_closes_both_ports() -> None:
    engine = await opened()
    await engine.close()
    await engine.close()
    with pytest.raises(Unavailable):
        await engine.store.get("key")
    with pytest.raises(Unavailable):
        await engine.log.topics()


async def test_statistics_count_what_is_there() -> None:
    engine = await opened()
    lease = await engine.store.grant(60)
    await engine.store.commit(Commit((Put("a", b""), Put("b", b"", lease))))
    await engine.log.create("topic", 3)
    await engine.log.append("topic", 1, [Record(b""), Record(b"")])
    async with engine.store.watch("") as watch:
        await anext(watch)
        assert engine.statistics() == {
            "store_revision": 1,
            "store_keys": 2,
            "store_leases": 1,
            "store_watches": 1,
            "log_topics": 1,
            "log_partitions": 3,
            "log_records": 2,
        }
    assert engine.statistics()["store_watches"] == 0
    await engine.close()


async def test_the_guarantees_are_those_of_one_process() -> None:
    engine = await opened()
    given = engine.store.guarantees
    assert given.consistency is Consistency.LINEARIZABLE
    assert (given.durability, given.scope) == (Durability.NONE, Scope.PROCESS)
    assert engine.log.guarantees.durability is Durability.NONE
    await engine.close()
