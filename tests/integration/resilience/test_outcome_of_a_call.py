"""What an error that a method lets through says of the whole call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from resilience_place import calling

from coterie import App, Conflict, Outcome, RateLimited, Transaction
from coterie.context import Call
from coterie.testing import Cluster


@dataclass(frozen=True)
class Knobs:
    turned: int = 0


app = App("outcomes")
things = app.map("things", int)
knobs = app.config(Knobs)
scarce = app.rate_limit("scarce", rate=20.0, per=1.0, burst=2)
starts: list[str] = []


@app.transactional
async def move(txn: Transaction) -> None:
    txn.put(things, "moved", await txn.get(things, "moved", 0) + 1)


@app.transactional
async def look(txn: Transaction) -> None:
    await txn.get(things, "moved")
    await txn.get(things, "kept")


@app.service
class Worker:
    async def work(self, before: str) -> None:
        starts.append(before)
        if before == "a put":
            await things.put("kept", 1)
        elif before == "a deletion":
            await things.delete("kept")
        elif before == "an update":
            await things.update("kept", lambda n: n + 1, default=0)
        elif before == "a put in a task":
            await asyncio.gather(things.put("kept", 1))
        elif before == "a transaction":
            await move()
        elif before == "a setting":
            await knobs.set(Knobs(1))
        elif before == "reads":
            await things.get("kept")
            await look()
            assert [item async for item in things.scan("none")] == []
        elif before == "a refusal":
            with pytest.raises(Conflict):
                await things.put("a", 1, expect=9)
        await things.put("contested", 1, expect=9)

    async def stream(self, before: str) -> AsyncIterator[int]:
        if before == "a put":
            await things.put("kept", 1)
        yield 1
        await things.put("contested", 1, expect=9)

    async def knows_better(self) -> None:
        await things.put("kept", 1)
        await things.delete("kept")
        raise Conflict("it was undone")

    async def two_steps(self) -> None:
        starts.append("two steps")
        await things.put("first", 1)
        await scarce.acquire(units=2)
        await scarce.acquire(units=2)  # Refused, with the time when to come back.


worker = app.client(Worker)


@asynccontextmanager
async def caller(place: str) -> AsyncIterator[None]:
    """Run with the handles of a node that has the service, or of a client that calls it over the wire."""
    async with Cluster(app, nodes=2) as cluster:
        if place == "in process":
            yield
        else:
            async with calling(app, cluster):
                yield


PLACES = ["in process", "over the wire"]
ACTS = ["a put", "a deletion", "an update", "a put in a task", "a transaction", "a setting"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("before", [*ACTS, "reads", "a refusal", "nothing"])
async def test_not_applied_is_true_of_the_whole_call(before: str, place: str) -> None:
    async with caller(place):
        with pytest.raises(Conflict, match="is not at version 9") as caught:
            await worker.work(before)
    assert caught.value.outcome is (Outcome.UNKNOWN if before in ACTS else Outcome.NOT_APPLIED)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("before", ["a put", "nothing"])
async def test_so_it_is_of_a_stream(before: str, place: str) -> None:
    async with caller(place):
        items = worker.stream(before)
        assert await anext(items) == 1
        with pytest.raises(Conflict, match="is not at version 9") as caught:
            await anext(items)
    assert caught.value.outcome is (Outcome.UNKNOWN if before == "a put" else Outcome.NOT_APPLIED)


@pytest.mark.parametrize("place", PLACES)
async def test_a_method_that_knows_better_says_so(place: str) -> None:
    async with caller(place):
        with pytest.raises(Conflict, match="it was undone") as caught:
            await worker.knows_better()
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def fail_in_the_second_step() -> tuple[int, Outcome]:
    """Return how often the method was begun, and what the caller is told."""
    starts.clear()
    async with caller("over the wire"):
        with pytest.raises(RateLimited) as caught:
            await worker.two_steps()
    return len(starts), caught.value.outcome


async def test_a_call_of_which_one_half_happened_is_not_repeated() -> None:
    assert await fail_in_the_second_step() == (1, Outcome.UNKNOWN)


async def test_it_would_be_if_nobody_kept_in_mind_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Call, "acted", property(lambda _call: False, lambda _call, _value: None))
    begun, outcome = await fail_in_the_second_step()
    assert begun > 1
    assert outcome is Outcome.NOT_APPLIED
