"""The gateway's configuration: every bound that it keeps, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidConfiguration

__all__ = ["LOOPBACK_HOSTS", "GatewayConfig"]

LOOPBACK_HOSTS: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
"""What a browser on this machine may call a node that has no token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayConfig:
    """What the gateway allows. Validated on construction."""

    address: str = "127.0.0.1:8000"
    """Where `HttpServer` listens: `host:port`, port 0 for any free one. IPv6 hosts stand in brackets."""
    token: str = ""
    """The bearer token that clients must send; empty for none, which only loopback allows."""
    trusted_hosts: tuple[str, ...] | None = None
    """The names that a Host header may hold, without port. None: any, or those of loopback for an
    `HttpServer` without a token, so that no web page can reach it by rebinding its own name."""
    allow_cross_site: bool = False
    """Whether a browser may call from a page of another origin while there is no token."""
    timeout_s: float = 5.0
    """The deadline of a call that brings none, in seconds."""
    max_timeout_s: float = 300.0
    """The longest deadline that a call may ask for, in seconds."""
    stream_timeout_s: float = 3600.0
    """The deadline of a stream that brings none, and the longest one, in seconds."""
    max_body_bytes: int = 1024 * 1024
    body_timeout_s: float = 10.0
    """How long a client may take to send a request's body, in seconds."""
    max_head_bytes: int = 16 * 1024
    """The limit of a request's target and headers together."""
    head_timeout_s: float = 10.0
    """How long a client may take to send a request's head, in seconds."""
    stall_timeout_s: float = 30.0
    """How long a client may read nothing of what it was sent, in seconds."""
    keep_alive_s: float = 15.0
    """How long an idle connection is kept, in seconds."""
    max_connections: int = 1024
    max_requests: int = 512
    """How many requests are served at once; those beyond are refused at once."""
    linger_s: float = 0.25
    """How long `drain` leaves idle connections open, for requests that are on their way."""

    def __post_init__(self) -> None:
        for name in (
            "timeout_s",
            "max_timeout_s",
            "stream_timeout_s",
            "body_timeout_s",
            "head_timeout_s",
            "stall_timeout_s",
            "keep_alive_s",
        ):
            value = getattr(self, name)
            if not 0 < value <= 86400:
                raise InvalidConfiguration(f"{name} must be above 0 and at most 86400 seconds, not {value!r}")
        for name in ("max_body_bytes", "max_head_bytes", "max_connections", "max_requests"):
            value = getattr(self, name)
            if not 1 <= value <= 1 << 30:
                raise InvalidConfiguration(f"{name} must be between 1 and 2**30, not {value!r}")
        if not 0 <= self.linger_s <= 60:
            raise InvalidConfiguration(f"linger_s must be between 0 and 60 seconds, not {self.linger_s!r}")
        if self.timeout_s > self.max_timeout_s:
            raise InvalidConfiguration(
                f"timeout_s ({self.timeout_s}) must not exceed max_timeout_s ({self.max_timeout_s})"
            )
        if self.token and (len(self.token) < 16 or not self.token.isascii() or not self.token.isprintable()):
            raise InvalidConfiguration(
                "token must have at least 16 printable ASCII characters",
                hint="make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        if " " in self.token:
            raise InvalidConfiguration("token must not hold a space")
        self.host_and_port()

    def host_and_port(self) -> tuple[str, int]:
        """Return the host, without brackets, and the port of `address`."""
        host, colon, port = self.address.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            colon = ""
        if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise InvalidConfiguration(
                f"the HTTP address must be HOST:PORT, not {self.address!r}",
                hint="for instance 127.0.0.1:8000 or [::1]:8000; port 0 takes any free one",
            )
        return host, int(port)
