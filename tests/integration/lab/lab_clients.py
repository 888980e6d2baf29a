"""Plain clients, as anybody would write them: what the lab does must show through them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

T = TypeVar("T")


async def eventually(act: Callable[[], Awaitable[T]], within_s: float = 30.0) -> T:
    """Repeat `act` until it does not fail: what a client does while an engine elects."""
    failure: BaseException | None = None
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await asyncio.wait_for(act(), 2.0)
                except (TypeError, AttributeError, AssertionError):
                    raise  # a mistake in the test
                except Exception as error:
                    failure = error
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"still fails after {within_s} s: {failure!r}") from failure


class Etcd:
    """etcd's JSON gateway at one member."""

    def __init__(self, address: object, *, scheme: str = "http", **how: Any) -> None:
        self.http = httpx.AsyncClient(base_url=f"{scheme}://{address}", timeout=2.0, trust_env=False, **how)

    async def __aenter__(self) -> Etcd:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def call(self, path: str, **body: Any) -> dict[str, Any]:
        reply = await self.http.post(path, json=body)
        reply.raise_for_status()
        return reply.json()

    async def put(self, key: str, value: str) -> None:
        await self.call("/v3/kv/put", key=_encode(key), value=_encode(value))

    async def get(self, key: str) -> str | None:
        found = (await self.call("/v3/kv/range", key=_encode(key))).get("kvs")
        return base64.b64decode(found[0]["value"]).decode() if found else None


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
