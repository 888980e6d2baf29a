"""The gateway inside other ASGI apps."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from gateway_sample import SampleBackend
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Mount

from coterie.gateway import create_asgi


def _fastapi(backend: SampleBackend) -> Any:
    app = FastAPI()

    @app.get("/own")
    async def own() -> str:
        return "own"

    app.mount("/api", create_asgi(backend))
    return app


def _nested(backend: SampleBackend) -> Any:
    return Starlette(routes=[Mount("/v1", routes=[Mount("/api", create_asgi(backend))])])


@pytest.mark.parametrize(("make", "root"), [(_fastapi, "/api"), (_nested, "/v1/api")])
async def test_calls_and_links_respect_the_root_path(backend: SampleBackend, make: Any, root: str) -> None:
    transport = httpx.ASGITransport(make(backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        reply = await client.post(f"{root}/Shop/count", json={"to": 2})
        assert (reply.status_code, reply.text) == (200, "0\n1\n")
        reply = await client.post(f"{root}/Shop/buy", json={})
        assert reply.status_code == 400
        document = (await client.get(f"{root}/openapi.json")).json()
        OpenAPIV31SpecValidator(document).validate()
        assert document["servers"] == [{"url": root}]
        index = (await client.get(f"{root}/")).json()
        assert index["services"]["Shop"]["buy"]["path"] == f"{root}/Shop/buy"
        assert index["links"]["metrics"] == f"{root}/metrics"
        page = (await client.get(f"{root}/", headers={"accept": "text/html"})).text
        assert f'action="{root}/Shop/buy"' in page
        assert (await client.get(f"{root}/healthz")).status_code == 200
        assert (await client.post(f"{root}x/Shop/buy", json={})).status_code == 404


async def test_the_neighbours_keep_working(backend: SampleBackend) -> None:
    transport = httpx.ASGITransport(_fastapi(backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.get("/own")).json() == "own"
        assert "/own" in (await client.get("/openapi.json")).json()["paths"]


async def test_lifespan_and_websocket_are_answered(backend: SampleBackend) -> None:
    # As an ASGI server would ask that runs the app by itself.
    app = create_asgi(backend)
    for kind, sent in (
        ({"type": "lifespan"}, ["lifespan.startup.complete", "lifespan.shutdown.complete"]),
        ({"type": "websocket", "path": "/"}, ["websocket.close"]),
    ):
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        answers: list[str] = []
        first = "websocket.connect" if kind["type"] == "websocket" else "lifespan.startup"
        for message in (first, "lifespan.shutdown"):
            incoming.put_nowait({"type": message})

        async def send(message: Any, answers: list[str] = answers) -> None:
            answers.append(message["type"])

        await app(kind, incoming.get, send)
        assert answers == sent


async def test_a_cancellation_from_outside_stays_one(backend: SampleBackend) -> None:
    # The guard turns only its own cancellations into errors.
    app = create_asgi(backend)
    never = asyncio.Event()
    sent = []

    async def receive() -> dict[str, Any]:
        if not sent:
            sent.append("request")
            return {"type": "http.request", "body": b"", "more_body": False}
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        raise AssertionError("nothing is to be sent")

    scope = {
        "type": "http", "method": "POST", "path": "/Shop/hold", "query_string": b"", "headers": [],
    }  # fmt: skip
    task = asyncio.create_task(app(scope, receive, send))
    await backend.shop.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.running == 0
