"""Streams over real HTTP."""

from __future__ import annotations

import json

import httpx
import pytest
from gateway_sample import Raw, SampleBackend, eventually

from coterie.gateway import HttpServer


async def test_a_stream_is_one_item_a_line(client: httpx.AsyncClient) -> None:
    reply = await client.post("/Shop/count", json={"to": 3})
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.text == "0\n1\n2\n"


async def test_an_empty_stream_has_no_line(client: httpx.AsyncClient) -> None:
    reply = await client.post("/Shop/count", json={"to": 0})
    assert (reply.status_code, reply.text) == (200, "")


async def test_a_failing_stream_ends_with_a_problem(client: httpx.AsyncClient) -> None:
    reply = await client.post("/Shop/orders", json={"fail_after": 2})
    assert reply.status_code == 200
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert [line["id"] for line in lines[:-1]] == ["0", "1"]
    assert lines[-1]["$error"]["code"] == "SoldOut"
    assert lines[-1]["$error"]["status"] == 409


async def test_a_stream_that_fails_at_once_has_a_status_of_its_own(client: httpx.AsyncClient) -> None:
    reply = await client.post("/Shop/orders", json={"fail_after": 0})
    assert reply.status_code == 409
    assert reply.json()["code"] == "SoldOut"


async def test_server_sent_events(client: httpx.AsyncClient) -> None:
    headers = {"accept": "text/event-stream"}
    reply = await client.post("/Shop/count", json={"to": 2}, headers=headers)
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.text == "data: 0\n\ndata: 1\n\nevent: end\ndata: null\n\n"
    reply = await client.post("/Shop/orders", json={"fail_after": 1}, headers=headers)
    assert reply.text.split("\n\n")[1].startswith("event: error\ndata: {")


async def test_an_item_is_sent_before_the_next_is_there(
    client: httpx.AsyncClient, backend: SampleBackend
) -> None:
    async with client.stream("POST", "/Shop/trickle") as reply:
        lines = reply.aiter_lines()
        assert await anext(lines) == "0"
        await backend.shop.entered.wait()
        backend.shop.release.set()
        assert await anext(lines) == "1"


async def test_the_head_comes_though_no_item_does(server: HttpServer, backend: SampleBackend) -> None:
    # Otherwise a client could not tell a quiet stream from a node that does not answer.
    url = f"http://{server.address}/Shop/quiet"
    async with httpx.AsyncClient(timeout=20) as client, client.stream("POST", url) as reply:
        assert reply.status_code == 200
        backend.shop.release.set()
        assert [line async for line in reply.aiter_lines()] == ["1"]


async def test_a_late_error_after_the_head_is_a_last_line(client: httpx.AsyncClient) -> None:
    reply = await client.post("/Shop/quiet", headers={"Coterie-Timeout": "0.6"})
    assert reply.status_code == 200
    assert json.loads(reply.text)["$error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize("method", ["hold", "trickle"])
async def test_a_client_that_leaves_cancels_its_call(
    server: HttpServer, backend: SampleBackend, method: str
) -> None:
    raw = await Raw.connect(server)
    raw.post(f"/Shop/{method}", headers="Coterie-Timeout: 60\r\n")
    await backend.shop.entered.wait()
    raw.writer.transport.abort()
    await backend.shop.cancelled.wait()
    await eventually(lambda: server.gateway.running == 0)
