"""The ASGI app: services as HTTP.

It is plain ASGI. Its routes are a handful of fixed paths and one dict of methods, so a router would
add its import time and its cost a request, and nothing else.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Iterable

import msgspec

from ..errors import NotFound, Overloaded, TooLarge
from ..ports import Clock
from ..services.spec import MethodSpec
from ..telemetry import Counter, Family, Histogram, gauge
from .access import Access
from .backend import Backend
from .config import GatewayConfig
from .exchange import Exchange, ResponseHeaders
from .guard import Guard
from .pages import Pages
from .problems import HttpError, Problem, internal_problem, problem_of
from .request import (
    Disconnected,
    Receive,
    Scope,
    Send,
    arguments,
    check_head,
    metadata,
    read_body,
    timeout,
)
from .streams import send_stream

__all__ = ["Gateway", "create_asgi"]

logger: logging.Logger = logging.getLogger("coterie.gateway")

_JSON: ResponseHeaders = [(b"content-type", b"application/json")]
_PROBLEM: ResponseHeaders = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]


def create_asgi(
    backend: Backend, config: GatewayConfig | None = None, *, clock: Clock | None = None
) -> Gateway:
    """Return an ASGI app that serves `backend`, to be mounted or run by any ASGI server.

    It has no lifespan of its own: the backend must be running when a request comes.
    Latencies are measured with `clock`, or with the event loop's, which may be a thousand times coarser.
    """
    return Gateway(backend, config or GatewayConfig(), clock)


class Gateway:
    """An ASGI app that turns requests into calls of a backend; docs/http.md has the mapping."""

    def __init__(self, backend: Backend, config: GatewayConfig, clock: Clock | None = None) -> None:
        self._backend = backend
        self._monotonic = _loop_time if clock is None else clock.monotonic
        self._config = config
        self._access = Access(config)
        self._methods: dict[str, MethodSpec] = {
            f"/{service.name}/{method.name}": method
            for service in backend.services.values()
            for method in service.methods.values()
        }
        self._pages = Pages(backend, config, self.collect)
        self._running: set[Guard] = set()
        self._requests = Counter(
            "coterie_http_requests_total",
            "HTTP requests answered, by service, method and status.",
            ("service", "method", "status"),
        )
        self._latency = Histogram(
            "coterie_http_request_duration_seconds",
            "Time from a request's head to the end of its response.",
            ("service", "method"),
        )
        self._gone = Counter(
            "coterie_http_disconnects_total", "HTTP requests whose client left before the answer."
        )
        self.sources: list[Callable[[], Iterable[Family]]] = []
        """Where further metrics come from, such as the server's."""

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return len(self._running)

    def cancel_all(self) -> None:
        """Cancel the requests that are being answered; their clients get a 503."""
        for guard in tuple(self._running):
            guard.close()

    def collect(self) -> list[Family]:
        """Return the gateway's own metrics."""
        running = gauge("coterie_http_requests_running", "HTTP requests being answered.", self.running)
        families = [self._requests.family(), self._latency.family(), self._gone.family(), running]
        for source in self.sources:
            families.extend(source())
        return families

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _not_http(scope, receive, send)
            return
        started = self._monotonic()
        exchange = Exchange(scope, send)
        method = self._methods.get(exchange.path)
        guard = Guard(receive, body_timeout_s=self._config.body_timeout_s)
        try:
            with guard:
                self._admit(guard)
                try:
                    await self._answer(exchange, method, guard, receive)
                finally:
                    self._running.discard(guard)
        except Disconnected:
            self._gone.add()
            return
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer
            await self._fail(exchange, error)
        self._count(exchange, method, self._monotonic() - started)

    def _admit(self, guard: Guard) -> None:
        limit = self._config.max_requests
        if len(self._running) >= limit:
            raise Overloaded(f"{limit} requests are being served, which is the limit", hint="try again later")
        self._running.add(guard)

    async def _answer(
        self, exchange: Exchange, method: MethodSpec | None, guard: Guard, receive: Receive
    ) -> None:
        headers = exchange.headers
        check_head(exchange.scope, self._config.max_head_bytes)
        self._access.check(exchange.method, exchange.path, headers)
        if method is None:
            await self._page(exchange)
            return
        if exchange.method != "POST":
            await _other_method(exchange, b"POST, OPTIONS")
            return
        timeout_s = timeout(headers, method, self._config)
        about = metadata(headers)
        body = await read_body(receive, headers, self._config.max_body_bytes)
        given = arguments(method, headers, body)
        guard.called(timeout_s, patient=not method.streaming)
        if method.streaming:
            items = self._backend.stream(method, given, timeout_s=timeout_s, metadata=about)
            await send_stream(exchange, method, items)
            return
        result = await self._backend.invoke(method, given, timeout_s=timeout_s, metadata=about)
        guard.answered()
        await exchange.respond(200, _JSON, method.result.encode_json(result))

    async def _page(self, exchange: Exchange) -> None:
        if exchange.path not in self._pages:
            raise self._no_such_path(exchange.path)
        if exchange.method not in {"GET", "HEAD"}:
            await _other_method(exchange, b"GET, HEAD, OPTIONS")
            return
        page = self._pages.get(exchange)
        await exchange.respond(page.status, [(b"content-type", page.content_type)], page.body)

    def _no_such_path(self, path: str) -> NotFound:
        path = path[:200]  # Matching is slow on long texts, and nobody's typing error is longer.
        service, _, method = path.strip("/").partition("/")
        spec = self._backend.services.get(service)
        if spec is not None:
            known = [f"/{service}/{name}" for name in spec.methods]
            near = difflib.get_close_matches(method.strip("/"), spec.methods, n=1)
            hint = f"did you mean /{service}/{near[0]}?" if near else f"there are: {', '.join(known[:20])}"
        else:
            near = difflib.get_close_matches(path, [*self._methods, *self._pages], n=1)
            hint = (
                f"did you mean {near[0]}?" if near else "POST to /Service/method; GET / lists what there is"
            )
        return NotFound(f"there is nothing at {path!r}", hint=hint)

    async def _fail(self, exchange: Exchange, error: Exception) -> None:
        problem, headers = self._problem(error, exchange.path)
        encoded = msgspec.json.encode(problem)
        if exchange.stream is not None:
            await exchange.send_part(exchange.stream.error(encoded), more=False)
        elif not exchange.status:
            if isinstance(error, TooLarge):
                headers = [*headers, (b"connection", b"close")]  # The rest of the body may have no end.
            await exchange.respond(problem.status, _PROBLEM + headers, encoded)

    def _problem(self, error: Exception, path: str) -> tuple[Problem, ResponseHeaders]:
        found = problem_of(error, self._backend.errors)
        if found is not None:
            return found
        identifier = self._backend.entropy.identifier()
        logger.error("internal error %s while answering %s", identifier, path, exc_info=error)
        return internal_problem(identifier), []

    def _count(self, exchange: Exchange, method: MethodSpec | None, seconds: float) -> None:
        # What a client makes up must not become a label: every unknown path counts under "".
        if method is not None:
            labels = (method.service, method.name)
        else:
            labels = ("", exchange.path if exchange.path in self._pages else "")
        self._requests.add((*labels, str(exchange.status)))
        self._latency.observe(labels, seconds)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


async def _other_method(exchange: Exchange, allowed: bytes) -> None:
    if exchange.method == "OPTIONS":
        await exchange.respond(204, [(b"allow", allowed)], b"")
        return
    raise HttpError(
        405,
        f"{exchange.path} does not take {exchange.method[:20]}",
        hint=f"it takes {allowed.decode()}",
        headers=[(b"allow", allowed)],
    )


async def _not_http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1003, "reason": "this is not a WebSocket endpoint"})
        return
    # Lifespan: nothing to start or stop here, whoever made the backend runs it.
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
