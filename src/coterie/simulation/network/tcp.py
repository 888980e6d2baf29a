"""The kernel's side of stream sockets: connections, listeners, and how they end.

An `Endpoint` is one end of a connection and keeps what TCP promises (RFC 9293): bytes in order,
none lost or doubled, a window that bounds what is under way, half-close, and reset. Losses and
partitions show as lateness, until the sender gives up. What the peer of a dead machine sees is
silence; what the peer of a dead process sees is the end of the stream, or a reset.

Events of the network run in the world's scope. `on_readable` and `on_writable` are how the owner of
an endpoint, a transport or a socket of some host, learns of them; it takes care of its own scope.
"""

# ruff: noqa: SLF001 - the two ends of a connection are one mechanism

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

from .links import RTO_MAX_S, RTO_S, Link
from .stack import Stack, os_error

__all__ = ["GIVE_UP_S", "WINDOW", "Endpoint", "Listener"]

WINDOW = 256 * 1024
"""How many bytes may be sent and not yet read by the receiving program."""

GIVE_UP_S = 924.0
"""How long a sender repeats itself before the connection fails: Linux with tcp_retries2 = 15."""

_FIN = b""


class Endpoint:
    """One end of a connection. `send` and `receive` never wait; the hooks tell when to try again."""

    __slots__ = (
        "_acked",
        "_blocked",
        "_fin_sent",
        "_incoming",
        "_last_arrival_s",
        "_owed",
        "_rto_s",
        "_sent",
        "_stuck_since_s",
        "_unread",
        "closed",
        "error",
        "finished",
        "local",
        "on_readable",
        "on_writable",
        "opaque",
        "out",
        "peer",
        "remote",
        "stack",
    )

    peer: Endpoint

    def __init__(
        self, stack: Stack, out: Link, local: tuple[str, int] | str, remote: tuple[str, int] | str
    ) -> None:
        self.stack: Stack = stack
        self.out: Link = out
        self.local: tuple[str, int] | str = local
        self.remote: tuple[str, int] | str = remote
        self.closed: bool = False
        """Whether the program has closed it."""
        self.finished: bool = False
        """Whether the peer has ended its side of the stream."""
        self.error: OSError | None = None
        self.opaque: bool = False
        """Whether its bytes are encrypted: they differ in every run, so only their number is traced."""
        self.on_readable: Callable[[], object] | None = None
        self.on_writable: Callable[[], object] | None = None
        self._incoming: deque[tuple[float, bytes]] = deque()
        self._unread: deque[bytes] = deque()
        self._sent = 0
        self._acked = 0
        self._owed = 0
        self._blocked = False
        self._fin_sent = False
        self._last_arrival_s = 0.0
        self._rto_s = RTO_S
        self._stuck_since_s: float | None = None
        stack.endpoints[self] = None

    def __repr__(self) -> str:
        return f"Endpoint({self.stack.name} {self.local} to {self.remote})"

    # The program's side.

    @property
    def readable(self) -> bool:
        """Whether `receive` has something to say: bytes, the end, or an error."""
        return bool(self._unread) or self.finished or self.error is not None

    @property
    def writable(self) -> bool:
        """Whether `send` would take something, or raise."""
        return self.error is not None or self._fin_sent or self._sent - self._acked < WINDOW

    def send(self, data: bytes | memoryview) -> int:
        """Send as much of `data` as the window takes and return how much that was.

        After less than all `on_writable` is called when there is room again. Raises the error that
        the connection failed with, or `BrokenPipeError` after `shutdown`.
        """
        if self.error is not None:
            raise self.error
        if self._fin_sent or self.closed:
            raise os_error(errno.EPIPE)
        room = WINDOW - (self._sent - self._acked)
        size = len(data)
        if size > room:
            self._blocked = True
            data, size = data[:room], room
        if size:
            self._sent += size
            data = bytes(data)
            cut = self.out.split(size)
            if cut:
                self._transmit(data[:cut])
                data = data[cut:]
            self._transmit(data)
        return size

    def receive(self, limit: int) -> bytes | None:
        """Return up to `limit` bytes that have come, b"" at the end of the stream, None while it is silent.

        Raises the error that the connection failed with.
        """
        unread = self._unread
        if unread:
            data = unread.popleft()
            if unread and len(data) < limit:
                parts = [data]
                size = len(data)
                while unread and size < limit:
                    parts.append(unread.popleft())
                    size += len(parts[-1])
                data = b"".join(parts)
            if len(data) > limit:
                unread.appendleft(data[limit:])
                data = data[:limit]
            self._acknowledge(len(data))
            return data
        if self.error is not None:
            raise self.error
        return b"" if self.finished else None

    def expect(self, arrival_s: float) -> None:
        """Let nothing that is sent from here on arrive before `arrival_s`."""
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)

    def shutdown(self) -> None:
        """End this side of the stream, after what was sent."""
        if not self._fin_sent and self.error is None and not self.closed:
            self._fin_sent = True
            self._transmit(_FIN)

    def close(self) -> None:
        """Close as a kernel does: with the end of the stream, or with a reset if something is unread."""
        if self.closed:
            return
        if self._unread:
            self.reset()
            return
        self.shutdown()
        self._release()

    hang_up = close
    """What happens when the process dies is what happens when it closes."""

    def reset(self) -> None:
        """Close with a reset, which the peer sees as ECONNRESET."""
        if self.closed:
            return
        if self.error is None:
            self._send_reset()
        self._release()

    def vanish(self) -> None:
        """Be no more, without a word to the peer."""
        self._release()

    def _release(self) -> None:
        self.closed = True
        self.on_readable = self.on_writable = None
        self._unread.clear()
        self.stack.endpoints.pop(self, None)

    # The network's side.

    def fail(self, error: OSError) -> None:
        """Break the connection with `error`, at this end."""
        if self.error is not None or self.closed:
            return
        self.error = error
        self._incoming.clear()
        self.stack.endpoints.pop(self, None)
        if self.on_readable is not None:
            self.on_readable()
        if self.on_writable is not None:
            self.on_writable()

    def break_off(self) -> None:
        """Fail at both ends at once, as when something in between sends a reset to each."""
        for end in (self, self.peer):
            end.fail(os_error(errno.ECONNRESET))

    def _transmit(self, payload: bytes) -> None:
        loop = self.stack.fabric.loop
        now = loop.time()
        trace = loop.trace
        if self.opaque:
            trace.mix(len(payload))
        else:
            trace.mix_bytes(payload)
        arrival = max(self.out.segment(now, len(payload)), self._last_arrival_s)
        self._last_arrival_s = arrival
        if trace.recording:
            self._note("packet", arrive_s=arrival, size=len(payload))
        incoming = self.peer._incoming
        incoming.append((arrival, payload))
        if len(incoming) == 1:
            loop.call_in_world(arrival, self.peer._pump)

    def _pump(self) -> None:
        """Take what has arrived by now."""
        loop = self.stack.fabric.loop
        now = loop.time()
        incoming = self._incoming
        while incoming:
            arrival, payload = incoming[0]
            if arrival > now:
                loop.call_in_world(arrival, self._pump)
                break
            if self.peer.out.cut or not self.stack.up:
                self._retry(now)
                break
            self._rto_s, self._stuck_since_s = RTO_S, None
            incoming.popleft()
            if self.closed or self.error is not None:
                if payload:
                    incoming.clear()
                    self._send_reset()
                continue
            if payload:
                self._unread.append(payload)
            else:
                self.finished = True
        if self.readable and self.on_readable is not None:
            self.on_readable()

    def _retry(self, now: float) -> None:
        """Let the peer send its first segment again, or give up."""
        if self._stuck_since_s is None:
            self._stuck_since_s = now
            self.peer._note("lost", waiting=len(self._incoming))
        elif now - self._stuck_since_s > GIVE_UP_S:
            self._incoming.clear()
            self.peer.fail(os_error(errno.ETIMEDOUT))
            return
        self.stack.fabric.loop.call_in_world(now + self._rto_s, self._pump)
        self._rto_s = min(2 * self._rto_s, RTO_MAX_S)

    def _acknowledge(self, size: int) -> None:
        """Give the peer `size` bytes of its window back, when it can hear of it."""
        loop = self.stack.fabric.loop
        if self.out.cut:
            if not self._owed:
                loop.call_in_world(loop.time() + RTO_S, self._settle)
            self._owed += size
            return
        peer = self.peer
        peer._acked += size
        if peer._blocked:
            peer._blocked = False
            loop.call_in_world(self.out.control(loop.time()), peer._has_room)

    def _settle(self) -> None:
        owed, self._owed = self._owed, 0
        self._acknowledge(owed)

    def _has_room(self) -> None:
        if self.on_writable is not None:
            self.on_writable()

    def _send_reset(self) -> None:
        if self.out.cut or not self.stack.up:
            return
        loop = self.stack.fabric.loop
        arrival = max(self.out.control(loop.time()), self._last_arrival_s)
        self._note("reset", arrive_s=arrival)
        loop.call_in_world(arrival, self.peer.fail, os_error(errno.ECONNRESET))

    def _note(self, kind: str, **detail: object) -> None:
        loop = self.stack.fabric.loop
        if loop.trace.recording:
            link = {"to": self.peer.stack.name, "local": self.local, "remote": self.remote}
            loop.trace.note(loop.time(), self.stack.name, kind, protocol="tcp", **link, **detail)


class Listener:
    """A socket that connections come to. They wait in `queue` until the program accepts them."""

    def __init__(self, stack: Stack, address: str, port: int, backlog: int, path: str = "") -> None:
        self.stack = stack
        self.address = address
        self.port = port
        self.path = path
        self.backlog: int = max(1, backlog)
        self.queue: deque[Endpoint] = deque()
        self.closed: bool = False
        self.on_readable: Callable[[], object] | None = None
        table: dict[object, Listener] = stack.unix if path else stack.listeners  # type: ignore[assignment]
        key = path or (address, port)
        if key in table or (not path and stack.listener_at(address, port) is not None):
            raise os_error(errno.EADDRINUSE)
        table[key] = self

    @property
    def local(self) -> tuple[str, int] | str:
        return self.path or (self.address, self.port)

    def offer(self, endpoint: Endpoint) -> None:
        """Queue a new connection."""
        self.queue.append(endpoint)
        if self.on_readable is not None:
            self.on_readable()

    def close(self) -> None:
        """Take no more connections; those that wait are reset."""
        if self.closed:
            return
        self.closed = True
        self.on_readable = None
        if self.path:
            self.stack.unix.pop(self.path, None)
        else:
            self.stack.listeners.pop((self.address, self.port), None)
        while self.queue:
            self.queue.popleft().reset()
