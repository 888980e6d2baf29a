"""Clients that call a node over HTTP until it is gone, and know exactly how far each request got."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from process_harness import PATIENCE_S, Coterie

__all__ = ["Buyer", "hammer_until_gone"]


class Buyer:
    """A plain HTTP/1.1 client that knows exactly how far each request got."""

    def __init__(self, name: str, url: str, *, keep_alive: bool) -> None:
        self._name = name
        self._address = httpx.URL(url)
        self._keep_alive = keep_alive
        self.answered: list[str] = []
        self.refused: list[str] = []
        """Refused by the operating system, or by a 503 that says when to come again."""
        self.closed: list[str] = []
        """Sent on a connection that had served before and was closed at that moment, without an answer."""
        self.dropped: list[str] = []
        """Accepted, and yet without a whole answer: what must not be."""

    async def hammer(self) -> None:
        """Send one request after the other until the node is gone."""
        number, streams = 0, None
        while True:
            mark = f"{self._name}-{number}"
            number += 1
            used = streams is not None
            try:
                if streams is None:
                    streams = await asyncio.open_connection(self._address.host, self._address.port)
            except ConnectionRefusedError:
                self.refused.append(mark)
                return
            status, closing = await self._ask(streams, mark)
            if status == 200:
                self.answered.append(mark)
            elif status == 503:
                self.refused.append(mark)
            else:
                (self.closed if used else self.dropped).append(mark)
            if closing or not self._keep_alive:
                streams[1].close()
                streams = None

    async def _ask(self, streams: Any, mark: str) -> tuple[int, bool]:
        """Return the status (0 for no whole answer) and whether the connection ends."""
        reader, writer = streams
        body = json.dumps({"mark": mark, "seconds": 0.01}).encode()
        head = "POST /Work/do HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        try:
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in answer.split("\r\n")[1:] if line)
            await reader.readexactly(int(fields["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, True
        status = int(answer.split(" ", 2)[1])
        if status == 503:
            assert int(fields["retry-after"]) > 0
        return status, fields.get("connection") == "close"


async def hammer_until_gone(node: Coterie, number: int) -> list[Buyer]:
    """Let many buyers call `node`, send it a signal in their midst, and return them when it is gone."""
    url = node.events[-1]["http"]
    buyers = [Buyer(f"b{n}", url, keep_alive=n % 2 == 0) for n in range(16)]
    hammering = asyncio.gather(*(buyer.hammer() for buyer in buyers))
    async with asyncio.timeout(PATIENCE_S):
        while any(len(buyer.answered) < 10 for buyer in buyers):
            await asyncio.sleep(0.005)
        node.signal(number)
        await hammering
    return buyers
