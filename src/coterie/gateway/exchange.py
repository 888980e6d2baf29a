"""One request and its response."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from .request import Headers, Scope, Send

__all__ = ["NDJSON", "SSE", "Exchange", "ResponseHeaders", "StreamFormat", "stream_format"]

ResponseHeaders = list[tuple[bytes, bytes]]


class Exchange:
    """What was asked, and how far the answer is."""

    __slots__ = ("_lock", "_send", "extra", "headers", "method", "path", "root", "scope", "status", "stream")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._lock: asyncio.Lock | None = None
        self.scope: Scope = scope
        self.headers: Headers = dict(scope["headers"])
        self.method: str = scope["method"]
        self.root: str = scope.get("root_path", "")
        self.path: str = _below(self.root, scope["path"])
        self.extra: ResponseHeaders = []
        """Headers that go with the response, whatever it will be."""
        self.status: int = 0
        """The status that was sent, 0 as long as none was."""
        self.stream: StreamFormat | None = None

    async def respond(self, status: int, headers: ResponseHeaders, body: bytes) -> None:
        """Send a whole response."""
        length = [] if status == HTTPStatus.NO_CONTENT else [(b"content-length", b"%d" % len(body))]
        start = {"type": "http.response.start", "status": status, "headers": headers + self.extra + length}
        await self._send(start)
        self.status = status
        # HEAD tells the length of a body that does not follow.
        await self._send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    async def start_stream(self, stream: StreamFormat) -> None:
        """Send the head of a streamed response, unless it was sent before."""
        lock = self._lock = self._lock or asyncio.Lock()
        async with lock:
            if self.status:
                return
            headers = [
                (b"content-type", stream.content_type),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),  # Some proxies would hold items back.
                *self.extra,
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            self.status = 200
            self.stream = stream

    async def send_part(self, part: bytes, *, more: bool = True) -> None:
        """Send a part of a streamed response; waits while the client is slow to read."""
        await self._send({"type": "http.response.body", "body": part, "more_body": more})


class StreamFormat:
    """How items, the end and an error look in a stream."""

    __slots__ = ("_end", "_error", "_item", "content_type")

    def __init__(self, content_type: bytes, *, item: bytes, error: bytes, end: bytes) -> None:
        self.content_type: bytes = content_type
        self._item = item
        self._error = error
        self._end = end

    def item(self, encoded: bytes) -> bytes:
        return self._item % encoded

    def error(self, problem: bytes) -> bytes:
        return self._error % problem

    def end(self) -> bytes:
        return self._end


NDJSON = StreamFormat(b"application/x-ndjson", item=b"%b\n", error=b'{"$error":%b}\n', end=b"")
"""One item a line. After an error, a last line with the key `$error`, which no field can have."""

SSE = StreamFormat(
    b"text/event-stream",
    item=b"data: %b\n\n",
    error=b"event: error\ndata: %b\n\n",
    end=b"event: end\ndata: null\n\n",
)
"""Server-sent events. `end` tells a client that would otherwise connect again."""


def stream_format(headers: Headers) -> StreamFormat:
    """Return the format that a request's Accept header asks for."""
    return SSE if b"text/event-stream" in headers.get(b"accept", b"").lower() else NDJSON


def _below(root: str, path: str) -> str:
    # An app that is mounted gets the whole path and is told which part led to it.
    if root and path.startswith(root):
        rest = path[len(root) :]
        if not rest or rest[0] == "/":
            return rest or "/"
    return path
