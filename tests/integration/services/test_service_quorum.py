"""Quorum calls: the first answer that enough nodes give, and what is said when there is none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from service_place import Place, eventually, open_place

from coterie import Replicated, quorum
from coterie.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    NotRunning,
    Outcome,
    Unavailable,
)
from coterie.services import idempotent


class Stale(Exception):
    pass


class Shelf(Replicated):
    """A copy that each node keeps for itself."""

    def __init__(self, value: object = 0, *, hangs: bool = False) -> None:
        self.value = value
        self.hangs = hangs
        self.asked = 0
        self.cancelled = 0

    async def read(self, key: str) -> dict[str, int]:
        self.asked += 1
        if self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(self.value, Exception):
            raise self.value
        # The order of the keys differs between nodes; that is no disagreement.
        pairs = [(key, self.value), ("other", 1)]
        return dict(reversed(pairs) if id(self) % 32 else pairs)  # type: ignore[arg-type]

    async def watch(self) -> AsyncIterator[int]:
        yield 1

    @idempotent
    async def write(self) -> int:
        return 1


@pytest.fixture(params=["memory", "tcp"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with open_place(request.param, timeout_s=5.0, patience_s=0.1) as place:
        place.errors.register(Stale)
        yield place


async def serve(place: Place, *shelves: Shelf) -> Any:
    client = None
    for number, shelf in enumerate(shelves):
        client = await place.serve(shelf, node=f"n{number}")
    return client


async def test_the_first_that_agree_decide_and_the_rest_is_cancelled(place: Place) -> None:
    shelves = [Shelf(7), Shelf(hangs=True), Shelf(7)]
    shelf = await serve(place, *shelves)
    assert await shelf.quorum(2, of=3).read("a") == {"a": 7, "other": 1}
    await eventually(lambda: shelves[1].cancelled == 1)
    assert [each.asked for each in shelves] == [1, 1, 1]


async def test_one_that_differs_is_outvoted(place: Place) -> None:
    shelf = await serve(place, Shelf(7), Shelf(8), Shelf(7))
    for _ in range(10):
        assert (await quorum(shelf, 2, of=3).read("a"))["a"] == 7


async def test_exactly_as_many_as_asked_for_are_asked(place: Place) -> None:
    shelves = [Shelf(7) for _ in range(5)]
    shelf = await serve(place, *shelves)
    await shelf.quorum(3, of=3).read("a")
    assert sum(each.asked for each in shelves) == 3


async def test_when_nobody_agrees_each_answer_is_told(place: Place) -> None:
    shelf = await serve(place, Shelf(1), Shelf(2), Shelf(3))
    with pytest.raises(Conflict, match=r"no 2 of 3 nodes gave the same answer") as caught:
        await shelf.quorum(2, of=3).read("a")
    for value in (1, 2, 3):
        assert f"'a': {value}" in str(caught.value)
    for listener in place.listeners.values():
        assert listener.address in str(caught.value)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_it_gives_up_as_soon_as_there_is_no_hope(place: Place) -> None:
    shelves = [Shelf(1), Shelf(2), Shelf(hangs=True)]
    shelf = await serve(place, *shelves)
    with pytest.raises(Conflict, match="was not waited for"):
        await shelf.quorum(3, of=3).read("a")


async def test_too_few_in_time_is_a_deadline(place: Place) -> None:
    shelf = await serve(place, Shelf(1), Shelf(hangs=True), Shelf(hangs=True))
    with place.calling(0.3), pytest.raises(DeadlineExceeded, match="gave no answer") as caught:
        await shelf.quorum(2, of=3).read("a")
    assert "answered {" in str(caught.value)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_dead_nodes_are_named_and_a_quorum_of_the_rest_answers(place: Place) -> None:
    shelf = await serve(place, Shelf(1), Shelf(1), Shelf(1))
    dead = place.listeners["n1"]
    await dead.close()
    assert (await shelf.quorum(2, of=3).read("a"))["a"] == 1
    with pytest.raises(Unavailable, match="Unavailable") as caught:
        await shelf.quorum(3, of=3).read("a")
    assert f"{dead.address} gave no answer: Unavailable" in str(caught.value)


async def test_without_enough_nodes_nobody_is_asked(place: Place) -> None:
    shelves = [Shelf(1), Shelf(1)]
    shelf = await serve(place, *shelves)
    with pytest.raises(Unavailable, match="2 nodes offer Shelf, and 3 are to be asked") as caught:
        await shelf.quorum(2, of=3).read("a")
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert [each.asked for each in shelves] == [0, 0]


async def test_they_may_agree_on_a_declared_error(place: Place) -> None:
    shelf = await serve(place, Shelf(Stale("old")), Shelf(Stale("old")), Shelf(1))
    with pytest.raises(Stale, match="old"):
        await shelf.quorum(2, of=3).read("a")
    await place.serve(Shelf(Stale("a")), node="n3")
    with pytest.raises(Conflict, match="answered Stale: "):
        await shelf.quorum(3, of=4).read("a")


@pytest.mark.parametrize(("agreeing", "of"), [(0, 3), (4, 3), (-1, 1), (1, 65)])
async def test_a_quorum_that_cannot_be_is_refused(place: Place, agreeing: int, of: int) -> None:
    shelf = await serve(place, Shelf())
    with pytest.raises(InvalidArgument, match=r"client\.quorum\(2, of=3\)"):
        shelf.quorum(agreeing, of=of)


async def test_methods_that_have_no_quorum_say_why(place: Place) -> None:
    shelf = await serve(place, Shelf())
    with pytest.raises(InvalidArgument, match="stream"):
        await shelf.quorum(1, of=1).watch()
    with pytest.raises(InvalidArgument, match="keeps its replies"):
        await shelf.quorum(1, of=1).write()
    with pytest.raises(InvalidArgument, match=r"app\.client"):
        quorum(Shelf(), 1, of=1)


async def test_the_caller_is_cancelled_with_its_attempts(place: Place) -> None:
    shelves = [Shelf(hangs=True), Shelf(hangs=True)]
    shelf = await serve(place, *shelves)
    calling = asyncio.create_task(shelf.quorum(1, of=2).read("a"))
    await eventually(lambda: all(each.asked for each in shelves))
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await eventually(lambda: all(each.cancelled for each in shelves))


def test_outside_of_a_node_it_says_so() -> None:
    from coterie import App

    client = App("x").client(Shelf)
    with pytest.raises(NotRunning):
        quorum(client, 1, of=1).read("a")  # type: ignore[unused-coroutine]


TYPED = """
from typing import assert_type
from coterie import App, Replicated, quorum

class Plain:
    async def read(self, key: str) -> int: ...

class Shelf(Replicated):
    async def read(self, key: str) -> int: ...

app = App("typed")
plain, shelf = app.client(Plain), app.client(Shelf)

async def use() -> None:
    assert_type(await quorum(plain, 2, of=3).read("a"), int)
    assert_type(await quorum(shelf, 2, of=3).read("a"), int)
    assert_type(await shelf.quorum(2, of=3).read("a"), int)
    await shelf.quorum(2, of=3).read(1)  # type: ignore[arg-type]
    await quorum(plain, 2).read("a")  # type: ignore[call-arg]
"""


@pytest.mark.slow
def test_it_is_typed_as_the_client_is(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED.replace(": ...", ":\n        raise NotImplementedError"))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "typed.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
