"""Calls over real HTTP: the mapping that docs/http.md promises."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from gateway_sample import SampleBackend

ORDER = {"id": "o1", "sku": "tea", "quantity": 2}


async def test_a_call_is_a_post_of_its_parameters(client: httpx.AsyncClient) -> None:
    reply = await client.post("/Shop/buy", json={"order": ORDER, "gift": True})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == "receipt-o1-gift"


async def test_no_result_is_null_and_no_body_is_no_arguments(client: httpx.AsyncClient) -> None:
    for reply in (await client.post("/Shop/nothing"), await client.post("/Shop/nothing", json={})):
        assert reply.status_code == 200
        assert reply.content == b"null"


async def test_standard_types_and_pydantic_models_go_both_ways(client: httpx.AsyncClient) -> None:
    given: dict[str, Any] = {
        "when": "2026-01-02T03:04:05Z",
        "key": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "names": {"a": None, "b": 2},
        "anything": [{"x": 1.5}],
    }
    reply = await client.post("/Shop/everything", json=given)
    assert reply.json() == [given["when"], given["key"], 0.5, given["names"], given["anything"]]
    reply = await client.post("/Shop/invoice", json={"invoice": {"number": 7, "parent": {"number": 6}}})
    assert reply.json() == {
        "number": 7,
        "lines": [{"sku": "x", "price": "1"}],
        "parent": {"number": 6, "lines": [], "parent": None},
    }


@pytest.mark.parametrize(
    ("method", "body", "where"),
    [
        ("buy", b"{}", ("order", "#/order", "Order")),
        ("buy", b"", ("order", "#/order", "Order")),
        ("buy", b'{"order": {"id": "1", "sku": "a", "quantity": "2"}}', ("order", "#/order/quantity", "int")),
        ("buy", b'{"order": {"id": "1", "sku": "a", "quantity": 0}}', ("order", "#/order/quantity", "int")),
        ("buy", b'{"order": {"id": "1", "sku": "a"}}', ("order", "#/order/quantity", "")),
        ("buy", b'{"order": {"id": "1", "sku": "a", "colour": 3}}', ("order", "#/order/colour", "str")),
        ("buy", b'{"order": {"id": "1", "tags": ["x", 4]}}', ("order", "#/order/tags/1", "str")),
        ("buy", b'{"oder": 1}', ("oder", "#/oder", "")),
        ("invoice", b'{"invoice": {"number": "x"}}', ("invoice", "#/invoice", "")),
        ("buy", b"[]", ("", "#", "object")),
        ("buy", b'"text"', ("", "#", "object")),
        ("buy", b'{"order": ', ("", "#", "")),
        ("everything", b'{"when": NaN}', ("", "#", "")),
        ("everything", b'{"anything": "\xff"}', ("", "#", "")),
        ("everything", b"\xef\xbb\xbf{}", ("", "#", "")),
        ("count", b'{"to": 1, "to": 2}', ("", "#", "")),
        ("count", b'{"to": 1} x', ("", "#", "")),
    ],
)
async def test_wrong_arguments_are_told_apart(
    client: httpx.AsyncClient, method: str, body: bytes, where: tuple[str, str, str]
) -> None:
    headers = {"content-type": "application/json"} if body else {}
    reply = await client.post(f"/Shop/{method}", content=body, headers=headers)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["code"] == "invalid_argument"
    assert problem["outcome"] == "not_applied"
    assert problem["detail"]
    [fault] = problem["errors"]
    assert (fault["parameter"], fault["pointer"], fault.get("expected", "")) == where


@pytest.mark.parametrize(
    "value", [b"[" * 200_000, b'{"a":' * 50_000, b"18446744073709551616", b"9" * 5000, b'{"b":1,"b":2}']
)
async def test_json_that_no_peer_could_take_is_refused(client: httpx.AsyncClient, value: bytes) -> None:
    body = b'{"when":"2026-01-02T03:04:05Z","key":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","anything":%b}'
    headers = {"content-type": "application/json"}
    reply = await client.post("/Shop/everything", content=body % value, headers=headers)
    assert reply.status_code == 400
    assert reply.json()["code"] == "invalid_argument"


@pytest.mark.parametrize(
    ("how", "status", "code", "outcome"),
    [
        ("unavailable", 503, "unavailable", "unknown"),
        ("overloaded", 503, "overloaded", "not_applied"),
        ("not_found", 404, "not_found", "not_applied"),
        ("conflict", 409, "conflict", "not_applied"),
        ("exists", 409, "already_exists", "not_applied"),
        ("fenced", 409, "fenced", "not_applied"),
        ("denied", 403, "permission_denied", "not_applied"),
        ("deadline", 504, "deadline_exceeded", "unknown"),
        ("teapot", 418, "Teapot", "unknown"),
    ],
)
async def test_errors_have_their_status(
    client: httpx.AsyncClient, how: str, status: int, code: str, outcome: str
) -> None:
    reply = await client.post("/Shop/fail", json={"how": how})
    assert reply.status_code == status
    problem = reply.json()
    assert (problem["status"], problem["code"], problem["outcome"]) == (status, code, outcome)
    assert problem["type"] == f"urn:coterie:error:{code}"
    assert problem["title"]
    assert ("retry-after" in reply.headers) == (status == 503)


@pytest.mark.parametrize("how", ["remote", "undeclared"])
async def test_an_undeclared_error_is_logged_and_not_told(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    with caplog.at_level(logging.ERROR, logger="coterie.gateway"):
        reply = await client.post("/Shop/fail", json={"how": how})
    assert reply.status_code == 500
    assert b"hunter2" not in reply.content
    assert b"Traceback" not in reply.content
    identifier = reply.json()["instance"].rpartition(":")[2]
    assert identifier in caplog.text
    assert "hunter2" in caplog.text


async def test_a_declared_error_keeps_its_name_and_status(client: httpx.AsyncClient) -> None:
    reply = await client.post("/Shop/buy", json={"order": {**ORDER, "sku": "none"}})
    assert reply.status_code == 409
    assert reply.json()["code"] == "SoldOut"
    assert reply.json()["title"] == "Sold out"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/Shop/bye", "did you mean /Shop/buy?"),
        ("/Shop/frobnicate", "there are: /Shop/"),
        ("/Shop", "there are: /Shop/"),
        ("/Shp/buy", "did you mean /Shop/buy?"),
        ("/healthy", "did you mean /healthz?"),
        ("/zzzzzz/yyyyyy", "GET / lists what there is"),
        ("/Shop/buy/", "did you mean /Shop/buy?"),
        ("/Shop/_private", "there are: /Shop/"),
    ],
)
async def test_unknown_paths_are_404_with_a_hint(client: httpx.AsyncClient, path: str, hint: str) -> None:
    reply = await client.post(path, json={})
    assert reply.status_code == 404
    assert reply.json()["outcome"] == "not_applied"
    assert hint in reply.json()["hint"]


async def test_other_http_methods(client: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        reply = await client.request(method, "/Shop/buy")
        assert reply.status_code == 405
        assert reply.headers["allow"] == "POST, OPTIONS"
    reply = await client.options("/Shop/buy")
    assert (reply.status_code, reply.headers["allow"]) == (204, "POST, OPTIONS")
    reply = await client.post("/healthz")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    get, head = await client.get("/healthz"), await client.head("/healthz")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        ("application/vnd.shop+json", 200),
        ("application/json; charset=latin-1", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ],
)
async def test_only_json_is_taken(client: httpx.AsyncClient, content_type: str, status: int) -> None:
    reply = await client.post("/Shop/nothing", content=b"{}", headers={"content-type": content_type})
    assert reply.status_code == status
    if status == 415:
        assert "Content-Type: application/json" in reply.json()["hint"]


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "nan", "inf", "1e3", "301", "1,5", "0x10", "9" * 50])
async def test_a_bad_timeout_is_a_400(client: httpx.AsyncClient, value: str) -> None:
    reply = await client.post("/Shop/nothing", headers={"Coterie-Timeout": value})
    assert reply.status_code == 400
    assert "Coterie-Timeout" in reply.json()["detail"]


async def test_the_deadline_of_the_client_holds(client: httpx.AsyncClient, backend: SampleBackend) -> None:
    reply = await client.post("/Shop/hold", headers={"Coterie-Timeout": "0.15"})
    assert reply.status_code == 504
    assert reply.json()["outcome"] == "unknown"
    assert backend.shop.cancelled.is_set()


async def test_trace_and_idempotency_key_travel_with_the_call(client: httpx.AsyncClient) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    reply = await client.post("/Shop/told", headers={"traceparent": trace, "Idempotency-Key": '"k 1"'})
    assert reply.json() == [trace, "k 1"]
    reply = await client.post("/Shop/told", headers={"traceparent": "00-zz", "Idempotency-Key": "k"})
    assert reply.json() == [None, "k"]
    reply = await client.post("/Shop/told", headers={"traceparent": trace.replace("00-", "ff-", 1)})
    assert reply.json() == []
    for key in ("", "k" * 256, "é", '""'):
        reply = await client.post("/Shop/told", headers={"Idempotency-Key": key.encode()})
        assert reply.status_code == 400, key
        assert "Idempotency-Key" in reply.json()["detail"]
