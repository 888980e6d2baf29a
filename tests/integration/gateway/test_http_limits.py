"""Every bound, met on a raw socket; after each one the server still answers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import httpx
import pytest
from gateway_sample import Raw, SampleBackend, Serve, eventually

from coterie.gateway import HttpServer


@pytest.fixture(params=["httptools", "h11"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bounds hold with either of uvicorn's parsers."""
    if request.param == "h11":
        monkeypatch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
    return str(request.param)


@pytest.fixture
async def tight(serve: Serve) -> AsyncIterator[HttpServer]:
    server = await serve(
        max_body_bytes=1000, max_head_bytes=2000, head_timeout_s=1.0, body_timeout_s=0.3, keep_alive_s=1
    )
    yield server
    assert await _alive(server)


async def _alive(server: HttpServer) -> bool:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{server.address}/healthz")).status_code == 200


async def test_the_parser_is_the_one_that_is_asked_for(tight: HttpServer, parser: str) -> None:
    raw = await Raw.connect(tight)
    await eventually(lambda: len(tight._connections()) == 1)
    [connection] = tight._connections()
    assert parser in {
        base.__module__.rpartition(".")[2].partition("_")[0] for base in type(connection).__mro__
    }
    await raw.close()


async def test_a_body_over_the_limit(tight: HttpServer, backend: SampleBackend) -> None:
    for size, status in ((1000, 400), (1001, 413), (7000, 413), (500_000, 413)):
        raw = await Raw.connect(tight)
        raw.post("/Shop/buy", b"x" * size)
        got, headers, body = await raw.reply()
        assert got == status, size
        if status == 413:
            assert json.loads(body)["code"] == "too_large"
            assert headers["connection"] == "close"
        await raw.close()


async def test_a_chunked_body_over_the_limit(tight: HttpServer) -> None:
    raw = await Raw.connect(tight)
    raw.post("/Shop/buy", headers="Transfer-Encoding: chunked\r\n")
    for _ in range(20):
        raw.writer.write(b"40\r\n" + b" " * 64 + b"\r\n")
        await raw.writer.drain()
    raw.writer.write(b"0\r\n\r\n")
    status, _, body = await raw.reply()
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    await raw.close()


async def test_a_body_without_end_is_cut(tight: HttpServer) -> None:
    raw = await Raw.connect(tight)
    raw.post("/Shop/buy", headers="Transfer-Encoding: chunked\r\n")
    sending = asyncio.create_task(_send_for_ever(raw))
    with pytest.raises(ConnectionError):
        await sending
    await raw.close()


async def _send_for_ever(raw: Raw) -> None:
    while True:
        raw.writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
        await raw.writer.drain()
        await asyncio.sleep(0)


async def test_expect_continue_is_answered_before_the_body(tight: HttpServer) -> None:
    raw = await Raw.connect(tight)
    raw.writer.write(
        b"POST /Shop/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    raw.writer.write(b"{}")
    assert (await raw.reply())[0] == 200
    raw.writer.write(
        b"POST /Shop/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n"
    )
    assert (await raw.reply())[0] == 413  # Without the client having sent the body.
    await raw.close()


async def test_a_body_that_does_not_come(tight: HttpServer, backend: SampleBackend) -> None:
    raw = await Raw.connect(tight)
    raw.writer.write(
        b"POST /Shop/buy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 500\r\n\r\n{"
    )
    status, headers, body = await raw.reply()
    assert (status, json.loads(body)["outcome"]) == (408, "not_applied")
    assert headers["connection"] == "close"
    await raw.close()


async def test_the_time_for_the_body_ends_with_the_body(tight: HttpServer) -> None:
    raw = await Raw.connect(tight)
    raw.writer.write(
        b"POST /Shop/hold HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Coterie-Timeout: 0.6\r\nContent-Length: 2\r\n\r\n{"
    )
    await asyncio.sleep(0.15)  # Slow enough for the limit to be watched, and within it.
    raw.writer.write(b"}")
    assert (await raw.reply())[0] == 504
    await raw.close()


async def test_a_head_over_the_limit(tight: HttpServer) -> None:
    for head in (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 9000, b"GET /" + b"x" * 9000):
        raw = await Raw.connect(tight)
        raw.writer.write(head)
        answer = await raw.rest()
        assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
        assert b"application/problem+json" in answer
        await raw.close()


async def test_a_complete_head_over_the_limit(tight: HttpServer, parser: str) -> None:
    raw = await Raw.connect(tight)
    raw.writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 3000 + b"\r\n\r\n")
    status, _, body = await raw.reply()
    assert (status, json.loads(body)["code"]) == (431, "request_header_fields_too_large")
    await raw.close()


async def test_headers_of_one_name_count_each(tight: HttpServer, parser: str) -> None:
    raw = await Raw.connect(tight)
    raw.writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: xxxxxxxx\r\n" * 300 + b"\r\n")
    status, _, body = await raw.reply()
    assert (status, json.loads(body)["code"]) == (431, "request_header_fields_too_large")
    await raw.close()


async def test_a_head_that_does_not_come(tight: HttpServer) -> None:
    silent, slow, second = [await Raw.connect(tight) for _ in range(3)]
    slow.writer.write(b"POST /Shop/buy HTT")
    second.post("/Shop/nothing")
    assert (await second.reply())[0] == 200
    second.writer.write(b"POST /Shop")
    assert await silent.rest() == b""
    for raw in (slow, second):
        assert (await raw.rest()).startswith(b"HTTP/1.1 408")
    for raw in (silent, slow, second):
        await raw.close()
    await eventually(lambda: not tight._connections())


async def test_an_idle_connection_is_closed(tight: HttpServer) -> None:
    raw = await Raw.connect(tight)
    raw.post("/Shop/nothing")
    await raw.reply()
    assert await raw.rest() == b""
    await raw.close()


async def test_a_peer_that_reads_nothing_does_not_keep_its_connection(
    serve: Serve, backend: SampleBackend
) -> None:
    server = await serve(stall_timeout_s=1.0, keep_alive_s=1)
    raw = await Raw.connect(server)
    raw.writer.transport.pause_reading()
    raw.reader._limit = 1
    body = json.dumps(
        {
            "when": "2026-01-02T03:04:05Z",
            "key": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "anything": "x" * 900_000,
        }
    ).encode()
    for _ in range(20):
        raw.post("/Shop/everything", body)
    await eventually(lambda: not server._connections())
    raw.writer.transport.abort()


async def test_too_many_connections(serve: Serve) -> None:
    server = await serve(max_connections=2)
    kept = [await Raw.connect(server) for _ in range(2)]
    for raw in kept:
        raw.post("/Shop/nothing")
        assert (await raw.reply())[0] == 200
    third = await Raw.connect(server)
    third.post("/Shop/nothing")
    status, headers, body = await third.reply()
    assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
    assert json.loads(body)["code"] == "overloaded"
    await kept[0].close()
    await third.close()
    await eventually(lambda: len(server._connections()) == 1)
    again = await Raw.connect(server)
    again.post("/Shop/nothing")
    assert (await again.reply())[0] == 200
    for raw in (again, kept[1]):
        await raw.close()


async def test_too_many_requests(serve: Serve, backend: SampleBackend) -> None:
    server = await serve(max_requests=1)
    first, second = [await Raw.connect(server) for _ in range(2)]
    first.post("/Shop/hold")
    await backend.shop.entered.wait()
    second.post("/Shop/nothing")
    status, headers, body = await second.reply()
    assert (status, json.loads(body)["code"], headers["retry-after"]) == (503, "overloaded", "1")
    backend.shop.release.set()
    assert (await first.reply())[2] == b'"released"'
    second.post("/Shop/nothing")
    assert (await second.reply())[0] == 200
    for raw in (first, second):
        await raw.close()


async def test_pipelined_requests_are_answered_in_order(tight: HttpServer) -> None:
    raw = await Raw.connect(tight)
    for number in range(20):
        raw.post("/Shop/buy", b'{"order":{"id":"%d","sku":"a","quantity":1}}' % number)
    for number in range(20):
        assert (await raw.reply())[2] == b'"receipt-%d"' % number
    await raw.close()


async def test_a_pipelined_head_without_end(tight: HttpServer, backend: SampleBackend) -> None:
    raw = await Raw.connect(tight)
    raw.post("/Shop/hold")
    await backend.shop.entered.wait()
    raw.writer.write(b"POST /" + b"x" * 50_000)
    assert await raw.rest() == b""  # Nothing can be said while the first answer is due.
    await backend.shop.cancelled.wait()
    await raw.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"\x00" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /Shop/buy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /Shop/buy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /Shop/buy HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://[/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /ü HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),
    ],
)
async def test_what_is_not_http_gets_an_error(tight: HttpServer, garbage: bytes) -> None:
    raw = await Raw.connect(tight)
    raw.writer.write(garbage)
    raw.writer.write_eof() if garbage[:1] == b"\x00" else None
    first = await raw.reader.read(12)
    assert first == b"" or first[9:10] == b"4", first
    await raw.close()


async def test_the_answer_to_garbage_is_not_lost_in_a_reset(tight: HttpServer) -> None:
    raw = await Raw.connect(tight)
    for _ in range(300):  # A client that sends all that it has before it reads.
        raw.writer.write(b"\x00" * 4096)
        await raw.writer.drain()
        await asyncio.sleep(0)
    status, headers, _ = await raw.reply()
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    await raw.close()


async def test_an_upgrade_is_ignored(tight: HttpServer) -> None:
    raw = await Raw.connect(tight)
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"
    raw.writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}\r\n".encode())
    assert (await raw.reply())[0] == 200
    await raw.close()
