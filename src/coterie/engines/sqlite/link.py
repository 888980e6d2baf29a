"""The connection between the process that writes and the others, over a Unix socket beside the file.

Frames are a 32-bit length and a msgpack array. Both ends are the same version of Coterie on the same
machine and of the same user: the socket can be opened by nobody else.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec

from ...codec.frames import PREFIX, FrameSplitter
from ...errors import ProtocolError, TooLarge
from .operations import Operation, Result

__all__ = ["Answers", "Do", "Follow", "Following", "Join", "Link", "News", "Resync"]

_MAX_FRAME_BYTES = 256 * 1024 * 1024  # A commit of 128 values of 1 MiB fits.


class Join(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A process's first message: its session."""

    session: str


class Do(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Do `operation`. Results up to the number `heard` need not be kept any more."""

    number: int
    heard: int
    operation: Operation


class Follow(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Send what is committed under these prefixes, and answer once that is so."""

    number: int
    prefixes: tuple[str, ...]


class Answers(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Results by number."""

    results: list[tuple[int, Result]]


class News(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Commits, as revision and key with new value, and partitions with their next offsets."""

    commits: list[tuple[int, list[tuple[str, bytes | None]]]]
    appended: list[tuple[str, int, int]]


class Following(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The answer to `Follow`; with number 0 that to `Join`: appended records are told from now on."""

    number: int


class Resync(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """News were left out because they were not read in time."""


Message = Join | Do | Follow | Answers | News | Following | Resync

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode
_pack = PREFIX.pack


class Link(asyncio.Protocol):
    """One end of a connection. Messages of one iteration of the loop leave together."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self.congested: bool = False
        self._transport: asyncio.Transport | None = None
        self._splitter = FrameSplitter(_MAX_FRAME_BYTES)
        self._out: list[bytes] = []

    @property
    def open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=8 * 1024 * 1024)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._splitter.feed(data):
                self.received(_decode(frame))
        except (msgspec.DecodeError, ProtocolError):
            self.abort()  # Not one of ours. What it had under way it can ask for again.

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._out.clear()
        if not self.lost.done():
            self.lost.set_result(None)
        self.ended()

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False

    def send(self, message: Any) -> None:
        """Send `message`; it is lost if the connection is. Raises `TooLarge`, or what msgspec raises."""
        if self._transport is None:
            return
        frame = _encode(message)
        if len(frame) > _MAX_FRAME_BYTES:
            raise TooLarge(f"an operation of {len(frame)} bytes; the limit is {_MAX_FRAME_BYTES}")
        if not self._out:
            self.loop.call_soon(self.flush)
        self._out += (_pack(len(frame)), frame)

    def flush(self) -> None:
        if self._out and self._transport is not None:
            data, self._out = b"".join(self._out), []
            self._transport.write(data)

    def close(self) -> None:
        """Close after what waits to be written."""
        if self._transport is not None:
            self.flush()
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def received(self, message: Message) -> None:
        """Take a message. May raise `ProtocolError`."""
        raise NotImplementedError

    def ended(self) -> None:
        """The connection is gone."""
