"""Channels are closed when their address has left the cluster."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from coterie.ports import Wire
from coterie.services import Channels


class SlowChannel:
    """Takes a turn of the loop to close."""

    def __init__(self) -> None:
        self.pending = 0
        self.closed = 0

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


class Channelled:
    """A wire that makes such channels."""

    def connect(self, address: str) -> Any:
        return SlowChannel()


async def test_two_changes_of_the_view_at_once_close_each_channel_once() -> None:
    channels = Channels(cast("Wire", Channelled()))
    made = [cast("SlowChannel", channels.get(f"host:{port}")) for port in range(3)]
    kept = channels.get("host:9")
    await asyncio.gather(channels.retain(["host:9"]), channels.retain(["host:9"]))
    assert [channel.closed for channel in made] == [1, 1, 1]
    assert channels.get("host:9") is kept


async def test_a_channel_that_is_in_use_stays() -> None:
    channels = Channels(cast("Wire", Channelled()))
    busy = cast("SlowChannel", channels.get("host:1"))
    busy.pending = 1
    await channels.retain([])
    assert busy.closed == 0
