"""What the gateway serves besides calls."""

from __future__ import annotations

import re

import httpx
import pytest
from gateway_sample import SampleBackend
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families

from coterie.gateway import GatewayConfig, create_asgi


async def test_health_and_readiness(client: httpx.AsyncClient, backend: SampleBackend) -> None:
    reply = await client.get("/healthz")
    assert (reply.status_code, reply.json()["status"]) == (200, "alive")
    assert (await client.get("/readyz")).json() == {"ready": True, "node": "node-1", "reasons": []}
    backend.reasons = ["the store cannot be reached"]
    reply = await client.get("/readyz")
    assert reply.status_code == 503
    assert reply.json()["reasons"] == ["the store cannot be reached"]
    assert (await client.get("/healthz")).status_code == 200


async def test_metrics_count_by_service_method_and_status(client: httpx.AsyncClient) -> None:
    await client.post("/Shop/nothing")
    await client.post("/Shop/nothing", json={"x": 1})
    await client.post("/made/up")
    reply = await client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }
    assert samples["coterie_http_requests_total", "200", "Shop", "nothing"] == 1
    assert samples["coterie_http_requests_total", "400", "Shop", "nothing"] == 1
    assert samples["coterie_http_requests_total", "", "", "404"] == 1
    assert samples["coterie_http_request_duration_seconds_count", "Shop", "nothing"] == 2
    # The loop's own clock may tick in milliseconds; a call is over within one.
    assert samples["coterie_http_request_duration_seconds_sum", "Shop", "nothing"] > 0
    assert samples["coterie_http_request_duration_seconds_bucket", "+Inf", "Shop", "nothing"] == 2
    assert samples[("coterie_http_requests_running",)] == 1
    assert samples[("coterie_http_connections",)] == 1
    assert samples[("coterie_node_members",)] == 3
    assert samples["coterie_http_bad_connections_total", "malformed"] == 0
    assert "made" not in reply.text


async def test_metrics_as_open_metrics(client: httpx.AsyncClient) -> None:
    reply = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.text.endswith("# EOF\n")


async def test_the_openapi_document_is_valid(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["servers"] == [{"url": "/"}]
    buy = document["paths"]["/Shop/buy"]["post"]
    assert (buy["operationId"], buy["summary"], buy["description"]) == (
        "Shop.buy",
        "Sell the order",
        "Returns its receipt.",
    )
    arguments = buy["requestBody"]["content"]["application/json"]["schema"]
    assert arguments["required"] == ["order"]
    assert arguments["properties"]["order"] == {"$ref": "#/components/schemas/Order"}
    assert arguments["properties"]["gift"] == {"type": "boolean", "default": False}
    schemas = document["components"]["schemas"]
    assert {"Order", "Colour", "Invoice", "Line", "Problem"} <= schemas.keys()
    assert "$defs" not in str(document)
    assert document["paths"]["/Shop/nothing"]["post"]["requestBody"]["required"] is False
    assert "SoldOut" in document["components"]["responses"]["409"]["description"]
    assert "418" in document["paths"]["/Shop/fail"]["post"]["responses"]
    # Whatever is referred to is there.
    for reference in re.findall(r"'\$ref': '#/components/(\w+)/([^']+)'", str(document)):
        assert reference[1] in document["components"][reference[0]]


async def test_the_document_asks_for_the_token(backend: SampleBackend) -> None:
    app = create_asgi(backend, GatewayConfig(token="a-token-of-some-length"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        headers = {"Authorization": "Bearer a-token-of-some-length"}
        document = (await client.get("/openapi.json", headers=headers)).json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["security"] == [{"token": []}]
    assert "401" in document["components"]["responses"]


async def test_the_index_is_a_page_for_people_and_json_for_programs(client: httpx.AsyncClient) -> None:
    reply = await client.get("/")
    assert reply.json()["services"]["Shop"]["buy"]["path"] == "/Shop/buy"
    reply = await client.get("/", headers={"accept": "text/html,*/*;q=0.8"})
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "<b>buy</b>" in reply.text
    assert "http" not in re.sub(r'http-equiv|"https?://www\.w3', "", reply.text)
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "dict[str, int | None]" in reply.text


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/metrics"])
async def test_pages_answer_head(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.head(path)
    assert (reply.status_code, reply.content) == (200, b"")
