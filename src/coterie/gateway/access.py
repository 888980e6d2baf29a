"""Who may call: the bearer token, and what keeps web pages away from a node that has none."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from ..errors import PermissionDenied
from .config import GatewayConfig
from .problems import HttpError
from .request import Headers

__all__ = ["Access"]

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Probes come without credentials and learn nothing worth hiding."""


class Access:
    """Decides whether a request may go on.

    A node on loopback without a token is within reach of every web page that its user opens. So a
    request is refused when its browser says that it comes from another site (`Sec-Fetch-Site`,
    `Origin`), or when its Host is not a name of this machine (DNS rebinding).
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._authorization = f"Bearer {config.token}".encode() if config.token else b""
        hosts = config.trusted_hosts
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._same_site_only = not config.token and not config.allow_cross_site

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raise `HttpError` with 401 or 403, or `PermissionDenied`, unless the request may go on."""
        if self._hosts is not None:
            self._check_host(headers)
        if self._same_site_only and (b"origin" in headers or b"sec-fetch-site" in headers):
            _check_same_site(method, headers)
        if self._authorization and path not in OPEN_PATHS:
            self._check_token(headers.get(b"authorization"))

    def _check_host(self, headers: Headers) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        if name not in (self._hosts or ()):
            raise PermissionDenied(
                f"this node does not answer to the host {name[:100]!r}",
                hint="use 127.0.0.1 or localhost, or add the name to trusted_hosts, or set a token",
            )

    def _check_token(self, given: bytes | None) -> None:
        if given is None:
            raise _unauthorized("this needs a token", b"Bearer")
        scheme, _, rest = given.partition(b" ")
        # Compared as a whole in constant time; the scheme's case does not matter.
        canonical = b"Bearer " + rest.strip() if scheme.lower() == b"bearer" else given
        if not hmac.compare_digest(canonical, self._authorization):
            raise _unauthorized("the token is not the one of this node", b'Bearer error="invalid_token"')


def _unauthorized(message: str, challenge: bytes) -> HttpError:
    return HttpError(
        401,
        message,
        hint="send the header `Authorization: Bearer TOKEN`",
        headers=[(b"www-authenticate", challenge)],
    )


def _check_same_site(method: str, headers: Headers) -> None:
    if method == "GET" and headers.get(b"sec-fetch-dest") == b"document":
        return  # A person followed a link to here. The page that had it cannot read the answer.
    site = headers.get(b"sec-fetch-site", b"none")
    origin = headers.get(b"origin", b"").decode("latin-1")
    try:
        same = not origin or urlsplit(origin).netloc.encode("latin-1") == headers.get(b"host")
    except ValueError:
        same = False
    if site not in {b"none", b"same-origin"} or not same:
        raise PermissionDenied(
            "a web page of another site may not call this node",
            hint="set a token, or allow_cross_site if any page may call",
        )
