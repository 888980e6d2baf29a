from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from coterie.gateway.exchange import Exchange
from coterie.gateway.streams import send_stream
from coterie.services.spec import describe


class Numbers:
    async def count(self) -> AsyncIterator[int]:
        yield 1


class Items:
    """An iterator that is no generator, so that nothing but `aclose` ends it."""

    def __init__(self, *items: object) -> None:
        self._items = iter(items)
        self.closed = False

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> object:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.closed = True


async def _stream(items: Items) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    exchange = Exchange({"method": "POST", "path": "/Numbers/count", "headers": []}, send)
    try:
        await send_stream(exchange, describe(Numbers).methods["count"], items)
    except TypeError:
        sent.append("failed")
    return sent


END = {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize(("items", "end"), [((1, 2), END), ((1, object()), "failed")])
async def test_the_iterator_is_closed_however_it_ends(items: tuple[object, ...], end: object) -> None:
    source = Items(*items)
    sent = await _stream(source)
    assert source.closed
    assert sent[-1] == end
    assert sent[1]["body"] == b"1\n"
