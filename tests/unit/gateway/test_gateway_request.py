from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coterie.errors import TooLarge
from coterie.gateway.request import Disconnected, read_body


class Body:
    """Sends the same part for ever, or as often as it is told, or leaves."""

    def __init__(self, part: bytes, times: int | None = None, *, leaves: bool = False) -> None:
        self.part = part
        self.times = times
        self.leaves = leaves
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.times is not None and self.asked > self.times:
            await asyncio.Event().wait()
        if self.leaves and self.asked == self.times:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self.part, "more_body": self.asked != self.times}


@pytest.mark.parametrize("times", [1, 2, 10])
async def test_a_body_in_parts_is_put_together(times: int) -> None:
    assert await read_body(Body(b"ab", times).receive, {}, 20) == b"ab" * times


@pytest.mark.parametrize("times", [11, 40])
async def test_a_body_over_the_limit_is_read_to_its_end_if_that_is_near(times: int) -> None:
    body = Body(b"ab", times)
    with pytest.raises(TooLarge, match="20 bytes"):
        await read_body(body.receive, {}, 20)
    assert body.asked == times


async def test_a_body_without_end_is_given_up() -> None:
    body = Body(b"ab")
    with pytest.raises(TooLarge):
        await read_body(body.receive, {}, 20)
    assert body.asked <= 81


async def test_a_length_that_lies_does_not_count() -> None:
    with pytest.raises(TooLarge):
        await read_body(Body(b"ab", 11).receive, {b"content-length": b"2"}, 20)
    assert await read_body(Body(b"ab", 1).receive, {b"content-length": b"9" * 5000}, 20) == b"ab"


@pytest.mark.parametrize("times", [1, 3])
async def test_a_client_that_leaves_meanwhile(times: int) -> None:
    with pytest.raises(Disconnected):
        await read_body(Body(b"ab", times, leaves=True).receive, {}, 20)
