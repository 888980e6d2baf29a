"""Sends the items of a stream as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ..services.spec import MethodSpec
from .exchange import Exchange, stream_format

__all__ = ["send_stream"]

_HEAD_AFTER_S = 0.25
"""An error before the first item still gets a status of its own, if it comes within this time."""


async def send_stream(exchange: Exchange, method: MethodSpec, items: AsyncIterator[Any]) -> None:
    """Send `items`, each when it is there, and close the iterator whatever happens.

    An error goes to the caller; what has been sent by then is told by `exchange.status`.
    """
    stream = stream_format(exchange.headers)
    encode = method.result.encode_json
    starter = asyncio.create_task(_start_late(exchange))
    try:
        async for item in items:
            part = stream.item(encode(item))
            if not exchange.status:
                await exchange.start_stream(stream)
            await exchange.send_part(part)
    finally:
        starter.cancel()
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
    await exchange.start_stream(stream)
    await exchange.send_part(stream.end(), more=False)


async def _start_late(exchange: Exchange) -> None:
    await asyncio.sleep(_HEAD_AFTER_S)
    await exchange.start_stream(stream_format(exchange.headers))
