"""A strong map: typed values, versions, updates, scans and watches."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import Any

import pytest

from coterie.context import CURRENT, Call
from coterie.engines.memory import MemoryStore
from coterie.errors import Conflict, CorruptData, DeadlineExceeded, InvalidArgument, NotRunning, Outcome
from coterie.ports.store import Commit, Put
from coterie.state import MapChange, StrongMap, Transaction, Transactional


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


async def test_a_value_comes_back_as_it_was_put(home: Any) -> None:
    points: StrongMap[Point] = home.add(StrongMap("points", Point))
    await points.put("a", Point(1, 2))
    assert await points.get("a") == Point(1, 2)


async def test_what_could_not_be_read_again_is_not_written(home: Any) -> None:
    points: StrongMap[Point] = home.add(StrongMap("points", Point))
    crooked: Any = Point("one")  # type: ignore[arg-type]

    async def put(txn: Transaction) -> None:
        txn.put(points, "a", crooked)

    for write in (
        points.put("a", crooked),
        points.update("a", lambda _: crooked),
        Transactional(put)(),
    ):
        with pytest.raises(InvalidArgument, match=r"`int`, got `str` - at `\$\.x`"):
            await write
    assert await points.get("a") is None


async def test_an_absent_key_gives_the_default(numbers: StrongMap[int]) -> None:
    assert await numbers.get("a") is None
    assert await numbers.get("a", 7) == 7
    assert await numbers.get_item("a") is None


async def test_a_version_guards_a_write(numbers: StrongMap[int]) -> None:
    first = await numbers.put("a", 1, expect=0)
    second = await numbers.put("a", 2, expect=first)
    assert second > first
    with pytest.raises(Conflict, match="not at version") as caught:
        await numbers.put("a", 3, expect=first)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert await numbers.get("a") == 2


async def test_zero_expects_an_absent_key(numbers: StrongMap[int]) -> None:
    await numbers.put("a", 1)
    with pytest.raises(Conflict, match="exists"):
        await numbers.put("a", 2, expect=0)


async def test_delete_can_expect_a_version(numbers: StrongMap[int]) -> None:
    version = await numbers.put("a", 1)
    with pytest.raises(Conflict):
        await numbers.delete("a", expect=version + 1)
    await numbers.delete("a", expect=version)
    await numbers.delete("a")
    assert await numbers.get("a") is None


async def test_updates_of_one_key_are_not_lost(numbers: StrongMap[int]) -> None:
    await asyncio.gather(*(numbers.update("a", lambda n: n + 1, default=0) for _ in range(50)))
    assert await numbers.get("a") == 50


async def test_update_raises_what_its_function_raises(numbers: StrongMap[int]) -> None:
    with pytest.raises(ZeroDivisionError):
        await numbers.update("a", lambda n: 1 // n, default=0)
    assert await numbers.get("a") is None


async def test_update_ends_with_the_deadline(numbers: StrongMap[int], home: Any) -> None:
    await numbers.put("a", 0)
    store = home.store

    class Racing:
        """Somebody else is always first."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def commit(self, commit: Commit) -> int:
            await store.commit(Commit((Put("app/map/numbers/a", b"\x05"),)))
            return int(await store.commit(commit))

    home.use(Racing())
    CURRENT.set(Call("test", home.bindings, asyncio.get_running_loop().time() + 0.05))
    with pytest.raises(DeadlineExceeded) as caught:
        await numbers.update("a", lambda n: (n or 0) + 1)
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_wrong_value_is_refused_before_it_is_stored(numbers: StrongMap[int]) -> None:
    with pytest.raises(InvalidArgument, match="int"):
        await numbers.put("a", "one")  # type: ignore[arg-type]
    assert await numbers.get("a") is None


@pytest.mark.parametrize("key", ["", None, 3, "a\0b", "x" * 2000, "\ud800"])
async def test_a_wrong_key_is_refused(numbers: StrongMap[int], key: Any) -> None:
    with pytest.raises(InvalidArgument):
        await numbers.put(key, 1)


async def test_stored_data_of_another_type_is_named(numbers: StrongMap[int], store: MemoryStore) -> None:
    await store.commit(Commit((Put("app/map/numbers/a", b"\xa1x"),)))
    with pytest.raises(CorruptData, match=r"numbers.*was the map's type changed") as caught:
        await numbers.get("a")
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_scan_goes_in_the_order_of_keys_and_over_pages(numbers: StrongMap[int]) -> None:
    keys = sorted(f"{n % 7}-{n:04}" for n in range(1203))
    for key in keys:
        await numbers.put(key, 1)
    assert [item.key async for item in numbers.scan()] == keys
    assert [item.key async for item in numbers.scan("3-")] == [k for k in keys if k.startswith("3-")]
    assert [item.key async for item in numbers.scan(limit=700)] == keys[:700]


async def test_maps_do_not_see_each_other(home: Any) -> None:
    one, other = home.add(StrongMap("a", int)), home.add(StrongMap("a-b", int))
    await one.put("x", 1)
    await other.put("x", 2)
    assert [(item.key, item.value) async for item in one.scan()] == [("x", 1)]


async def take(changes: Any, count: int) -> list[MapChange[int]]:
    return [await anext(changes) for _ in range(count)]


async def test_a_watch_begins_with_what_is_there(numbers: StrongMap[int]) -> None:
    version = await numbers.put("a", 1)
    changes = numbers.watch()
    assert await take(changes, 1) == [MapChange("a", 1, version)]
    later = await numbers.put("b", 2)
    await numbers.delete("a")
    seen = await take(changes, 2)
    assert seen[0] == MapChange("b", 2, later)
    assert (seen[1].key, seen[1].value, seen[1].deleted) == ("a", None, True)
    await changes.aclose()


async def test_a_watch_may_begin_with_what_comes(numbers: StrongMap[int]) -> None:
    await numbers.put("a", 1)
    changes = numbers.watch(initial=False)
    coming = asyncio.create_task(take(changes, 1))
    await asyncio.sleep(0)
    version = await numbers.put("b", 2)
    assert await coming == [MapChange("b", 2, version)]
    await changes.aclose()


async def test_a_watcher_that_fell_behind_still_sees_the_newest_state(numbers: StrongMap[int]) -> None:
    await numbers.put("gone", 0)
    changes = numbers.watch()
    seen: dict[str, int | None] = {change.key: change.value for change in await take(changes, 1)}
    for round_ in range(3000):  # more than the engine buffers
        await numbers.put(f"k{round_ % 5}", round_)
    await numbers.delete("gone")
    while seen.get("gone", 0) is not None or len(seen) < 6 or seen["k4"] != 2999:
        change = await anext(changes)
        seen[change.key] = change.value
    assert seen == {"gone": None, "k0": 2995, "k1": 2996, "k2": 2997, "k3": 2998, "k4": 2999}
    await changes.aclose()


async def test_a_map_of_another_app_is_not_found() -> None:
    with pytest.raises(NotRunning, match="not declared"):
        await StrongMap("stray", int).get("a")


class Colour(enum.StrEnum):
    RED = "red"


async def test_a_key_is_text_for_every_method(numbers: StrongMap[int]) -> None:
    for bad in ("", 3, None):
        for use in (numbers.get, numbers.get_item, numbers.delete):
            with pytest.raises(InvalidArgument, match="a key of the map 'numbers' must be a non-empty str"):
                await use(bad)  # type: ignore[operator]
        with pytest.raises(InvalidArgument, match="a key of the map 'numbers' must be a non-empty str"):
            await numbers.put(bad, 1)  # type: ignore[arg-type]
    await numbers.put(Colour.RED, 1)
    assert await numbers.get("red") == 1


@pytest.mark.parametrize(
    ("value", "why"),
    [(2**70, "can't serialize ints"), ("\ud800", "surrogates not allowed"), ([object()], "of type object")],
    ids=["integer of 71 bits", "lone surrogate", "object"],
)
async def test_a_value_that_cannot_be_encoded_is_refused(home: Any, value: Any, why: str) -> None:
    anything: StrongMap[Any] = home.add(StrongMap("anything", Any))

    async def write(txn: Transaction) -> None:
        txn.put(anything, "a", value)

    for attempt in (anything.put("a", value), anything.update("a", lambda _: value), Transactional(write)()):
        with pytest.raises(InvalidArgument, match="cannot be kept in the map 'anything'") as caught:
            await attempt
        assert why in caught.value.message
    assert await anything.get("a") is None
