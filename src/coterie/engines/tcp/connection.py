"""What both ends of a connection do: frames in, coalesced writes out, signs of life, bounds."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any, cast

import msgspec

from ...codec.frames import PREFIX, FrameSplitter
from ...errors import CoterieError, PermissionDenied, ProtocolError, Unavailable
from ..common.calls import printable, too_large
from .config import WireConfig
from .messages import Message, Ping, Pong, Reject, decode, encode

__all__ = ["Connection", "tls_error"]

_log = logging.getLogger("coterie.wire")
_HELLO_BYTES = 4096
_LARGE_BYTES = 65_536
_MANY_PARTS = 512
"""What is larger, or are more, leave at once, so that what waits to leave together stays small."""
_CLOSING_S = 1.0
"""How long what waits to be written may hold the end of a connection up."""
_pack = PREFIX.pack


class Connection(asyncio.Protocol):
    """One connection. The two subclasses are the calling and the answering end.

    Messages of one iteration of the loop leave in one write. A peer that is silent is pinged, and
    dropped if it stays silent; one that does not read is dropped after a while.
    """

    portion: int = sys.maxsize
    """How many messages are taken in one iteration of the loop, before all else has its turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: WireConfig) -> None:
        self.loop = loop
        self.config = config
        self.peer: str = ""
        """The peer's address, for people."""
        self.host: str = ""
        """The peer's host, or empty for a Unix socket."""
        self.closed: asyncio.Future[Any] = loop.create_future()
        """Done, with the reason, once the connection is lost."""
        self.reason: Exception | None = None
        """Why it is closed or about to be."""
        self.greeted: bool = False
        """Whether the handshake is complete."""
        self.draining = False
        """Whether the peer takes no new calls."""
        self.usable: bool = False
        """Whether calls may be sent: it is open, greeted, not draining and not congested."""
        self._transport: asyncio.Transport | None = None
        self._splitter = FrameSplitter(_HELLO_BYTES)
        self._frames: Iterator[bytes | bytearray | memoryview] | None = None
        """What was received and is not taken yet."""
        self._held = False
        """Whether nothing more is taken for now."""
        self._out: list[bytes] = []
        self._max_frame_bytes = config.max_frame_bytes
        self._time = loop.time
        self.arrived: float = 0.0
        """When what is being read came."""
        self._heard = True
        self._pinged = False
        self.pings: int = 0
        self.pongs: int = 0
        """How many pings were sent, and how many of them the peer has answered."""
        self._watchdog: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.config.write_buffer_bytes)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.host, self.peer = peer[0], f"{peer[0]}:{peer[1]}"
        else:
            self.peer = printable(str(peer or "unix"))
        self._watchdog = self.loop.call_later(self.config.hello_timeout_s, self._no_hello)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._frames is not None:
            self._proceed(sys.maxsize)
        self.arrived = self._time()
        frames = self._splitter.feed(data)
        self._frames = frames if self._frames is None else chain(self._frames, frames)
        self._proceed(self.portion)

    def _proceed(self, most: int) -> None:
        """Take so many of the messages that were received, and answer those that can be at once."""
        frames = self._frames
        if frames is None or self.reason is not None or self._held:
            return
        received = self.received
        left = most
        try:
            for frame in frames:
                received(decode(frame))
                left -= 1
                if not left or self._held:
                    if not self._held:
                        self.loop.call_soon(self._proceed, most)
                    break
            else:
                self._frames = None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.abort(ProtocolError(f"a malformed frame: {error}"))
        except (ProtocolError, PermissionDenied, Unavailable) as error:
            self.abort(error)
        if self._out:
            self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._watchdog, self._stalled, self._closing):
            if timer is not None:
                timer.cancel()
        self._transport = None
        self._frames = None
        self._out.clear()
        self._writable.set()
        if self.reason is None:
            self.reason = exc or ConnectionResetError("the peer closed the connection")
        self.judge()
        if not self.closed.done():
            self.closed.set_result(self.reason)
        self.lost(self.reason)

    def pause_writing(self) -> None:
        self._writable.clear()
        self.judge()
        self._stalled = self.loop.call_later(self.config.stall_s, self._stuck)

    def resume_writing(self) -> None:
        self._writable.set()
        self.judge()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def hold(self, held: bool) -> None:
        """Take nothing more from the peer, or go on with what it has sent."""
        self._held = held
        if self._transport is not None:
            if held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
                self.loop.call_soon(self._proceed, self.portion)

    # What the two ends define.

    def received(self, message: Message) -> None:
        """Take a message. May raise one of the three errors that end the connection."""
        raise NotImplementedError

    def lost(self, reason: Exception) -> None:
        """The connection is gone: end what was under way on it."""
        raise NotImplementedError

    def worth_a_warning(self) -> bool:
        """Whether the end of the connection by an error is to be noticed."""
        return True

    # What the two ends use.

    @property
    def open(self) -> bool:
        return self._transport is not None and self.reason is None

    def judge(self) -> None:
        """Say anew whether the connection is `usable`."""
        self.usable = self.open and self.greeted and not self.draining and self._writable.is_set()

    def established(self) -> None:
        """The handshake is complete: take frames of full size, and look for signs of life from now on."""
        self.greeted = True
        self.judge()
        self._splitter.max_bytes = self.config.max_frame_bytes
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = self.loop.call_later(self.config.keepalive_s, self._look)

    def send(self, message: Message) -> None:
        """Send `message` with the others of this iteration of the loop. Lost if the connection is."""
        frame = encode(message)
        size = len(frame)
        if size > self._max_frame_bytes:
            raise too_large(size, self._max_frame_bytes)
        self.push(_pack(size), frame)

    def push(self, head: bytes, rest: bytes) -> None:
        """Send a frame, its length at the start of its `head`."""
        if self._transport is None:
            return
        out = self._out
        if not out:
            self.loop.call_soon(self.flush)
        out += (head, rest)
        if len(rest) > _LARGE_BYTES or len(out) > _MANY_PARTS:
            self.flush()

    def flush(self) -> None:
        """Write what waits to be sent."""
        out = self._out
        if out and self._transport is not None:
            data = b"".join(out)
            out.clear()
            self._transport.write(data)

    async def writable(self) -> None:
        """Return when the peer reads what it was sent."""
        await self._writable.wait()

    @property
    def congested(self) -> bool:
        """Whether much waits to be written because the peer does not read."""
        return not self._writable.is_set()

    @property
    def unread_bytes(self) -> int:
        """How much waits to be written because the peer does not read."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self, reason: Exception) -> None:
        """Tell the peer why, if it listens, and close."""
        if self.reason is not None:
            return
        self.reason = reason
        self.judge()
        level = logging.WARNING if self.worth_a_warning() else logging.DEBUG
        _log.log(level, "the connection with %s is closed: %s", self.peer, printable(str(reason)))
        if self._transport is not None:
            if isinstance(reason, CoterieError) and not self.congested:
                self.send(Reject(reason.code, reason.message[:500]))
                self._finish()
            else:
                self._transport.abort()

    def close(self, reason: Exception) -> None:
        """Close without a word, after what waits to be written."""
        if self.reason is None:
            self.reason = reason
        self.judge()
        if self._transport is not None:
            self._finish()

    def _finish(self) -> None:
        """Close the transport once it has written what waits, but soon."""
        self.flush()
        if self._transport is not None:
            self._transport.close()
            # TLS, and a peer that reads nothing or little, could take as long as they like.
            if self._closing is None:
                self._closing = self.loop.call_later(_CLOSING_S, self._force)

    def _force(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _no_hello(self) -> None:
        self.abort(ProtocolError(f"no handshake within {self.config.hello_timeout_s:g} s"))

    def _stuck(self) -> None:
        self.abort(ProtocolError(f"the peer read nothing for {self.config.stall_s:g} s"))

    def _look(self) -> None:
        """Look for signs of life: anything received counts."""
        if self._heard or self.congested:
            self._heard = self._pinged = False
        elif self._pinged:
            self.abort(ConnectionResetError(f"the peer was silent for {2 * self.config.keepalive_s:g} s"))
            return
        else:
            self._pinged = True
            self.ping()
        self._watchdog = self.loop.call_later(self.config.keepalive_s, self._look)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.pings += 1
        self.send(Ping())

    def ponder(self, message: Message) -> None:
        """Answer the messages that both ends know alike; raise `ProtocolError` for any other."""
        if type(message) is Ping:
            self.send(Pong())
        elif type(message) is Pong:
            self.pongs = min(self.pongs + 1, self.pings)  # What was not asked for answers nothing.
        elif type(message) is Reject:
            raise ProtocolError(f"the peer closed the connection: {printable(message.message)}")
        else:
            raise ProtocolError(f"a {type(message).__name__} was not expected here")


def tls_error(error: ssl.SSLError) -> str:
    """Return what went wrong in a TLS handshake, as a person would say it."""
    return getattr(error, "verify_message", "") or error.reason or str(error)
