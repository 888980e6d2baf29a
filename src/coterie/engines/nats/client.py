"""nats-py's client, made so that it can be ended at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any

from nats.aio.client import Client, Srv
from nats.errors import Error as NatsError

__all__ = ["EndableClient"]

_CLOSE_S = 2.0
"""How long it may take to write what is still to be written. The server may be silent."""


class EndableClient(Client):
    """A client of which nothing runs, and nothing is connected, once it was ended.

    nats-py's own `close` leaves tasks and a connection behind when it interrupts a reconnection: in Python
    3.11 `asyncio.wait_for` may swallow the cancellation, and then it connects, though closed; or, refused, it
    goes on trying for ever. It also waits without bound for a server that does not read, when it closes
    and before it reconnects.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reconnecting: set[asyncio.Task[Any]] = set()
        self._at_work: set[asyncio.Task[Any]] = set()

    async def connect(self, *servers: Any, **options: Any) -> None:
        """Connect, as nats-py's own; what that raises leaves nothing behind."""
        try:
            await super().connect(*servers, **options)
        except BaseException:
            await self.end()
            raise

    async def end(self) -> None:
        """Close, whatever is under way. Idempotent."""
        subscriptions: Iterable[Any] = self._subs.values()
        reading = {sub._wait_for_msgs_task for sub in subscriptions} - {None}  # noqa: SLF001 - no other way
        try:
            await _stopped(self._reconnecting)
            if not self.is_connected:
                # It would be sent over the connection that was lost, which uvloop refuses: that would end
                # the `close` half way.
                self._pending, self._pending_data_size = [], 0
            # One that never found a server cannot be closed, and asserts that it had.
            with suppress(NatsError, OSError, TimeoutError, RuntimeError, AssertionError):
                async with asyncio.timeout(_CLOSE_S):
                    await self.close()
            await _stopped(self._at_work | reading)
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Drop the connection, if there is one, and what was not written yet."""
        transport: Any = self._transport
        if transport:
            transport._io_writer.transport.abort()  # noqa: SLF001 - it has no other way

    async def _connect_to_server(self, s: Srv) -> None:
        self.hang_up()  # What it could not use before, nats-py leaves open.
        await super()._connect_to_server(s)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        # nats-py swallows a cancellation here, which all that writes comes through.
        task: Any = asyncio.current_task()
        before = task.cancelling()
        flushed = await super()._flush_pending(force_flush)
        if task.cancelling() > before:
            raise asyncio.CancelledError
        return flushed

    # What nats-py runs as tasks of its own.

    async def _attempt_reconnect(self) -> None:
        self.hang_up()  # nats-py waits until the server has read what was written, and it may be silent
        await _noted(self._reconnecting, super()._attempt_reconnect())

    async def _read_loop(self) -> None:
        await _noted(self._at_work, super()._read_loop())

    async def _ping_interval(self) -> None:
        await _noted(self._at_work, super()._ping_interval())

    async def _flusher(self) -> None:
        await _noted(self._at_work, super()._flusher())


async def _noted(tasks: set[asyncio.Task[Any]], work: Awaitable[None]) -> None:
    task: Any = asyncio.current_task()
    tasks.add(task)
    try:
        await work
    finally:
        tasks.discard(task)


async def _stopped(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel these tasks until they have ended. Each may swallow a cancellation, but not all that follow."""
    current = asyncio.current_task()
    while running := {task for task in tasks if task is not current and not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.01)
