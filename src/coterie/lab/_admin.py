"""The lab's own questions to members, in the fewest lines that work, so that no client library is needed."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any

from .network import Address

__all__ = ["NotYet", "http_json", "redis_command"]

_TIMEOUT_S = 2.0


class NotYet(Exception):
    """The member does not answer, or answers that it is not ready; the text says what it said."""


async def http_json(
    address: Address,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """GET `path`, or POST `body` to it as JSON, and return the decoded reply.

    Raises:
        NotYet: no connection, no reply in two seconds, or a status other than 200.
    """
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {address}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    request = "\r\n".join([*lines, "", ""]).encode() + content
    reply = await _exchange(address, request, tls)
    head, _, rest = reply.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    if "transfer-encoding: chunked" in [field.lower() for field in fields]:
        rest = _dechunked(rest)
    if status.split(" ")[1:2] != ["200"]:
        raise NotYet(f"{path}: {status} {rest[:300].decode(errors='replace')}")
    try:
        return json.loads(rest)
    except ValueError as error:
        raise NotYet(f"{path}: {error}") from error


async def _exchange(address: Address, request: bytes, tls: ssl.SSLContext | None) -> bytes:
    writer = None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*address, ssl=tls)
            writer.write(request)
            return await reader.read()
    except (OSError, TimeoutError) as error:
        raise NotYet(f"{address}: {str(error) or 'no answer'}") from error
    finally:
        if writer is not None:
            writer.transport.abort()


def _dechunked(content: bytes) -> bytes:
    whole = bytearray()
    while content:
        size, _, content = content.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            break
        whole += content[:length]
        content = content[length + 2 :]
    return bytes(whole)


async def redis_command(
    address: Address, *words: str, login: tuple[str, ...] = (), tls: ssl.SSLContext | None = None
) -> str:
    """Send a command, after AUTH with `login` if given, and return its reply as text.

    Raises:
        NotYet: no connection, no reply in two seconds, or an error.
    """
    writer = None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(*address, ssl=tls)
            reply = "+OK"
            for command in [("AUTH", *login), words] if login else [words]:
                parts = [word.encode() for word in command]
                writer.write(
                    b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
                )
                reply = (await reader.readline()).decode().rstrip()
                if reply.startswith("-") or not reply:
                    raise NotYet(f"{address}: {reply or 'closed'}")
                if reply.startswith("$"):
                    reply = (await reader.readexactly(int(reply[1:]) + 2)).decode().rstrip()
            return reply
    except (OSError, TimeoutError, EOFError) as error:
        raise NotYet(f"{address}: {str(error) or 'no answer'}") from error
    finally:
        if writer is not None:
            writer.transport.abort()
