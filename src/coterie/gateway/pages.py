"""What the gateway answers besides calls: the index, the API's description, probes and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from ..telemetry import Family, render
from .backend import Backend
from .config import GatewayConfig
from .exchange import Exchange

__all__ = ["Page", "Pages"]

_MAX_ROOTS = 8


class Page(NamedTuple):
    """A response to GET."""

    status: int
    content_type: bytes
    body: bytes


class Pages:
    """The paths that have one segment at most."""

    def __init__(
        self, backend: Backend, config: GatewayConfig, collect: Callable[[], Iterable[Family]]
    ) -> None:
        self._backend = backend
        self._config = config
        self._collect = collect
        self._documents: dict[str, bytes] = {}
        self._pages: dict[str, Callable[[Exchange], Page]] = {
            "/": self._index,
            "/openapi.json": self._openapi,
            "/healthz": self._health,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }

    def __contains__(self, path: str) -> bool:
        return path in self._pages

    def __iter__(self) -> Iterator[str]:
        return iter(self._pages)

    def get(self, exchange: Exchange) -> Page:
        """Return the page at the exchange's path, which must be one."""
        return self._pages[exchange.path](exchange)

    def _index(self, exchange: Exchange) -> Page:
        from .index import content_policy, html_index, json_index

        exchange.extra.append((b"vary", b"accept"))
        if b"text/html" in exchange.headers.get(b"accept", b""):
            exchange.extra.append((b"content-security-policy", content_policy()))
            return Page(
                200, b"text/html; charset=utf-8", html_index(self._backend, self._config, exchange.root)
            )
        return _json(json_index(self._backend, exchange.root))

    def _openapi(self, exchange: Exchange) -> Page:
        from .openapi import openapi

        root = exchange.root
        if root not in self._documents:
            # Made at the first request, not at the start. An app is mounted under few root paths.
            if len(self._documents) >= _MAX_ROOTS:
                self._documents.clear()
            self._documents[root] = msgspec.json.encode(openapi(self._backend, self._config, root))
        return Page(200, b"application/json", self._documents[root])

    def _health(self, _exchange: Exchange) -> Page:
        return _json({"status": "alive", "app": self._backend.app_name, "node": self._backend.name})

    def _ready(self, exchange: Exchange) -> Page:
        reasons = list(self._backend.ready())
        if reasons:
            exchange.extra.append((b"retry-after", b"1"))
        facts = {"ready": not reasons, "node": self._backend.name, "reasons": reasons}
        return _json(facts, 503 if reasons else 200)

    def _metrics(self, exchange: Exchange) -> Page:
        accept = exchange.headers.get(b"accept", b"").decode("latin-1")
        text, content_type = render([*self._collect(), *self._backend.collect()], accept)
        return Page(200, content_type.encode(), text)


def _json(value: object, status: int = 200) -> Page:
    return Page(status, b"application/json", msgspec.json.encode(value))
