"""Who may call."""

from __future__ import annotations

import httpx
import pytest
from gateway_sample import SampleBackend, Serve, SystemClock

from coterie.errors import InvalidConfiguration
from coterie.gateway import GatewayConfig, HttpServer

TOKEN = "correct-horse-battery"


async def test_a_token_is_asked_for(serve: Serve) -> None:
    server = await serve(token=TOKEN)
    async with httpx.AsyncClient(base_url=f"http://{server.address}") as client:
        reply = await client.post("/Shop/nothing")
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        for wrong in ("Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer é"):
            reply = await client.post("/Shop/nothing", headers={"Authorization": wrong.encode()})
            assert reply.status_code == 401, wrong
            assert "error=" in reply.headers["www-authenticate"]
        for path in ("/", "/openapi.json", "/metrics", "/no/such"):
            assert (await client.get(path)).status_code == 401
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200
        for right in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
            reply = await client.post("/Shop/nothing", headers={"Authorization": right})
            assert reply.status_code == 200


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_beyond_loopback_needs_a_token(backend: SampleBackend, address: str) -> None:
    server = HttpServer(backend, GatewayConfig(address=address), clock=SystemClock())
    with pytest.raises(InvalidConfiguration, match="needs a token"):
        await server.start()


async def test_beyond_loopback_with_a_token(serve: Serve) -> None:
    server = await serve(address="0.0.0.0:0", token=TOKEN)
    port = server.address.rpartition(":")[2]
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        reply = await client.post(f"http://127.0.0.1:{port}/Shop/nothing", headers={"host": "shop.example"})
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://{host}"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:8000"}, 403),
        ({"host": "localhost"}, 200),
        ({"host": "LOCALHOST:1234"}, 200),
        ({"host": "[::1]:1234"}, 200),
        ({"host": "localhost.evil.example"}, 403),
    ],
)
async def test_web_pages_of_others_stay_out(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    host = client.base_url.netloc.decode()
    given = {name: value.replace("{host}", host) for name, value in headers.items()}
    reply = await client.post("/Shop/nothing", headers=given)
    assert reply.status_code == status
    if status == 403:
        assert reply.json()["code"] == "permission_denied"


async def test_a_link_from_anywhere_leads_to_the_page_and_to_no_call(client: httpx.AsyncClient) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert (await client.get("/", headers=followed)).status_code == 200
    assert (await client.post("/Shop/nothing", headers=followed)).status_code == 403
    framed = {**followed, "sec-fetch-dest": "iframe"}
    assert (await client.get("/", headers=framed)).status_code == 403


async def test_no_answer_allows_other_origins_to_read_it(client: httpx.AsyncClient) -> None:
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    reply = await client.options("/Shop/nothing", headers=preflight)
    assert reply.status_code == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_trusted_hosts_replace_those_of_loopback(serve: Serve) -> None:
    server = await serve(trusted_hosts=("shop.example",))
    async with httpx.AsyncClient(base_url=f"http://{server.address}") as client:
        assert (await client.get("/healthz", headers={"host": "shop.example"})).status_code == 200
        assert (await client.get("/healthz")).status_code == 403


async def test_a_port_in_use_is_told(server: HttpServer, backend: SampleBackend) -> None:
    second = HttpServer(backend, GatewayConfig(address=server.address), clock=SystemClock())
    with pytest.raises(InvalidConfiguration, match=r"is in use .*--http 127.0.0.1:0"):
        await second.start()
    await second.close()


@pytest.mark.parametrize("address", ["no-such-host.invalid:0", "203.0.113.7:0"])
async def test_an_address_of_no_use_is_told(backend: SampleBackend, address: str) -> None:
    server = HttpServer(backend, GatewayConfig(address=address, token=TOKEN), clock=SystemClock())
    with pytest.raises(InvalidConfiguration, match=address.rpartition(":")[0]):
        await server.start()
