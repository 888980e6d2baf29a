"""Generated requests: whatever comes, the answer is one that the description promises, and no 500."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from gateway_sample import Raw, SampleBackend, SystemClock
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from coterie.errors import InvalidArgument
from coterie.gateway import GatewayConfig, HttpServer, create_asgi
from coterie.gateway.problems import HttpError
from coterie.gateway.request import arguments
from coterie.services.spec import describe

SKIPPED = "^/Shop/(hold|trickle|quiet|fail)$"
"""They wait for a test, or fail on purpose."""


def _app() -> Any:
    return create_asgi(SampleBackend(), GatewayConfig(timeout_s=2, max_timeout_s=2, stream_timeout_s=2))


SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", _app()).exclude(path_regex=SKIPPED)


@SCHEMA.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate(
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ]
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
EVERYTHING = describe(type(SampleBackend().shop)).methods["everything"]
KNOWN = {"when": "2026-01-02T03:04:05Z", "key": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_taken_or_refused_as_the_clients_fault(body: bytes) -> None:
    # Any other exception would be a 500.
    with contextlib.suppress(InvalidArgument, HttpError):
        arguments(EVERYTHING, {b"content-type": b"application/json"}, body)


@given(JSON)
def test_any_json_that_fits_into_64_bits_goes_through(value: Any) -> None:
    body = json.dumps({**KNOWN, "anything": value}).encode()
    if _too_big(value):
        with pytest.raises(InvalidArgument):
            arguments(EVERYTHING, {b"content-type": b"application/json"}, body)
        return
    assert arguments(EVERYTHING, {b"content-type": b"application/json"}, body).anything == value


def _too_big(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return not -(1 << 63) <= value < 1 << 64
    if isinstance(value, dict):
        return any(map(_too_big, value.values()))
    return isinstance(value, list) and any(map(_too_big, value))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"POST /Shop/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n",
            b"HTTP/1.0\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: 4\r\n",
            b"Content-Length: 99999999999999999999999\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: close, upgrade\r\nUpgrade: h2c\r\n",
            b"\r\n",
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"{}",
            b"\x00",
        ]
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=8))
def test_bytes_of_any_kind_leave_the_server_well(runner: asyncio.Runner, pieces: list[bytes]) -> None:
    runner.run(_throw(pieces))


async def _throw(pieces: list[bytes]) -> None:
    server = HttpServer(SampleBackend(), GatewayConfig(address="127.0.0.1:0"), clock=SystemClock())
    await server.start()
    raw = await Raw.connect(server)
    for piece in pieces:
        raw.writer.write(piece)
    raw.writer.write_eof()
    for line in (await raw.rest()).split(b"\r\n"):
        assert not line.startswith(b"HTTP/1.1 5"), line
    await raw.close()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://{server.address}/readyz")).status_code == 200
    await server.close()
    assert not server._connections()
