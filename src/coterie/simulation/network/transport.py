"""The loop's side of a connection: a transport with the semantics of asyncio's own.

Who relies on a detail of the selector loop's transport finds it here: writing at once, the buffer
and its marks, one read a pass, `eof_received` and half-close, `connection_lost` exactly once.
"""

from __future__ import annotations

import asyncio
import contextvars
import warnings
from asyncio import constants
from typing import TYPE_CHECKING, Any

from ..loop import VirtualLoop
from ..scope import SCOPE
from .flow import FlowControl
from .tcp import Endpoint

if TYPE_CHECKING:
    from .server import SimulatedServer
    from .sockets import SimulatedSocket

__all__ = ["READ_SIZE", "StreamTransport", "scoped_context"]

READ_SIZE = 256 * 1024
"""How much is read in one pass, as in asyncio."""


def scoped_context(loop: VirtualLoop, base: contextvars.Context | None = None) -> contextvars.Context:
    """Return a copy of `base`, or of the current context, that belongs to the scope that runs now."""
    context = contextvars.copy_context() if base is None else base.copy()
    if SCOPE not in context:
        context.run(SCOPE.set, loop.scope)
    return context


class StreamTransport(FlowControl):
    """Carries a protocol over an endpoint."""

    # What asyncio asks for before it wraps a transport in TLS, or sends a file.
    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK  # noqa: SLF001

    def __init__(
        self,
        loop: VirtualLoop,
        endpoint: Endpoint,
        sock: SimulatedSocket,
        protocol: asyncio.BaseProtocol,
        *,
        context: contextvars.Context,
        waiter: asyncio.Future[None] | None = None,
        server: SimulatedServer | None = None,
    ) -> None:
        extra = {"socket": sock, "sockname": sock.getsockname(), "peername": sock.getpeername()}
        self._endpoint = endpoint
        self._sock = sock
        self._context = context
        self._server = server
        self._buffer = bytearray()
        super().__init__(loop, extra)
        self._eof = False
        self._closing = False
        self._lost = 0
        self._paused = True
        self._read_waiting = False
        self._write_waiting = False
        self._writes_after_loss = 0
        self.set_protocol(protocol)
        if server is not None:
            server.attach(self)
        loop.call_soon(self._begin, waiter, context=context)

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<StreamTransport {state} {self._endpoint!r}>"

    def _begin(self, waiter: asyncio.Future[None] | None) -> None:
        self._protocol.connection_made(self)
        self._endpoint.on_readable = self._wake_reader
        self._endpoint.on_writable = self._wake_writer
        self._paused = False
        if waiter is not None and not waiter.cancelled():
            waiter.set_result(None)
        if self._endpoint.readable:
            self._wake_reader()

    def conceal(self) -> None:
        """Leave the contents of what is sent from here on out of the trace: they are encrypted."""
        self._endpoint.opaque = True

    # Protocols.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    # Reading.

    def _wake_reader(self) -> None:
        if not self._read_waiting and not self._paused and not self._lost and not self._closing:
            self._read_waiting = True
            self._loop.call_soon(self._read, context=self._context)

    def _read(self) -> None:
        self._read_waiting = False
        if self._paused or self._lost or self._closing:
            return
        try:
            data = self._endpoint.receive(READ_SIZE)
        except OSError as error:
            self._fatal_error(error, "Fatal read error on socket transport")
            return
        if data is None:
            return
        if not data:
            self._end_of_stream()
            return
        try:
            if self._buffered:
                self._feed(data)
            else:
                self._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does
            self._fatal_error(error, "Fatal error: protocol.data_received() call failed.")
            return
        if self._endpoint.readable:
            self._wake_reader()

    def _feed(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            buffer = self._protocol.get_buffer(-1)
            if not buffer:
                raise RuntimeError("get_buffer() returned an empty buffer")
            size = min(len(buffer), len(view))
            memoryview(buffer)[:size] = view[:size]
            view = view[size:]
            self._protocol.buffer_updated(size)

    def _end_of_stream(self) -> None:
        self._endpoint.on_readable = None
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does
            self._fatal_error(error, "Fatal error: protocol.eof_received() call failed.")
            return
        if not keep_open:
            self.close()

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        if not self._closing:
            self._paused = True

    def resume_reading(self) -> None:
        if self._closing or not self._paused:
            return
        self._paused = False
        if self._endpoint.readable and self._endpoint.on_readable is not None:
            self._wake_reader()

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data:
            return
        if self._lost:
            self._writes_after_loss += 1
            if self._writes_after_loss == 5:
                warnings.warn("socket.send() raised exception.", RuntimeWarning, stacklevel=2)
            return
        if not self._buffer:
            try:
                sent = self._endpoint.send(data if isinstance(data, bytes) else bytes(data))
            except OSError as error:
                self._fatal_error(error, "Fatal write error on socket transport")
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._buffer += data
        self.maybe_pause()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _wake_writer(self) -> None:
        if self._buffer and not self._write_waiting and not self._lost:
            self._write_waiting = True
            self._loop.call_soon(self._flush, context=self._context)

    def _flush(self) -> None:
        self._write_waiting = False
        if self._lost or not self._buffer:
            return
        try:
            sent = self._endpoint.send(bytes(self._buffer))
        except OSError as error:
            self._buffer.clear()
            self._fatal_error(error, "Fatal write error on socket transport")
            return
        del self._buffer[:sent]
        self.maybe_resume()
        if not self._buffer:
            if self._closing:
                self._end(None)
            elif self._eof:
                self._endpoint.shutdown()

    def write_eof(self) -> None:
        if self._closing or self._eof:
            return
        self._eof = True
        if not self._buffer:
            self._endpoint.shutdown()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    # Ending.

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._buffer:
            self._end(None)

    def abort(self) -> None:
        self._force_close(None)

    def _fatal_error(self, error: BaseException, message: str = "Fatal error on transport") -> None:
        if not isinstance(error, OSError):
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        # The TLS protocol of asyncio calls this by name.
        self._buffer.clear()
        self._closing = True
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if not self._lost:
            self._lost = 1
            self._loop.call_soon(self._tell_lost, error, context=self._context)

    def _tell_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._endpoint.close()
            self._sock.detach()
            server, self._server = self._server, None
            if server is not None:
                server.release(self)
