"""The wire's configuration and its addresses."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field

from ...errors import InvalidConfiguration

__all__ = ["Address", "WireConfig"]


_MOST = {
    "max_in_flight": 1 << 20,
    "max_connections": 1 << 20,
    "max_strangers": 1 << 20,
    "credit_items": 1 << 16,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class WireConfig:
    """Every bound that the wire keeps. Validated on construction."""

    cluster_key: str = field(default="", repr=False)
    """A secret that all nodes share; peers prove to each other that they know it."""
    server_ssl: ssl.SSLContext | None = None
    client_ssl: ssl.SSLContext | None = None
    server_hostname: str | None = None
    """The name to expect in a server's certificate, if not the host of its address."""
    max_body_bytes: int = 16 * 1024 * 1024
    """The limit of the arguments of a call, of a result, and of an item."""
    max_in_flight: int = 4096
    """How many calls one connection may have under way; more are refused."""
    max_connections: int = 1024
    """How many connections a listener has at most; more are refused."""
    max_strangers: int = 128
    """How many of them may be in their handshake at once from one host."""
    credit_items: int = 64
    """How many items of a stream may be under way before the reader must have taken some."""
    connect_timeout_s: float = 3.0
    hello_timeout_s: float = 3.0
    keepalive_s: float = 5.0
    """A peer that was silent for so long is pinged, and dropped when it stays silent as long again."""
    stall_s: float = 20.0
    """A peer that does not read what it is sent is dropped after so long."""
    longest_backoff_s: float = 1.0
    """The longest wait before a connection that failed is tried again."""
    write_buffer_bytes: int = 1024 * 1024
    """How much may wait to be written before the writer waits, and nothing more is read from the peer."""
    max_unread_bytes: int = 256 * 1024 * 1024
    """How much may wait for a caller to read it. A reply beyond that is dropped, and the caller told so."""

    def __post_init__(self) -> None:
        if not 1024 <= self.max_body_bytes <= 1 << 30:
            raise InvalidConfiguration(
                f"max_body_bytes must be between 1024 and 2**30, not {self.max_body_bytes}"
            )
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise InvalidConfiguration(f"{name} must be between 1 and {most}, not {getattr(self, name)}")
        if not 1 <= self.write_buffer_bytes <= self.max_unread_bytes:
            raise InvalidConfiguration("write_buffer_bytes must be at least 1 and at most max_unread_bytes")
        for name in ("connect_timeout_s", "hello_timeout_s", "keepalive_s", "stall_s", "longest_backoff_s"):
            if not 0 < getattr(self, name) <= 3600:
                raise InvalidConfiguration(
                    f"{name} must be above 0 and at most 3600, not {getattr(self, name)}"
                )
        if self.cluster_key and len(self.cluster_key) < 16:
            raise InvalidConfiguration("cluster_key must have at least 16 characters")

    @property
    def max_frame_bytes(self) -> int:
        """The limit of a frame: a body, and room for what goes before it."""
        return self.max_body_bytes + 65_536

    @property
    def mutual_tls(self) -> bool:
        """Whether a listener demands a certificate of its peers."""
        return self.server_ssl is not None and self.server_ssl.verify_mode is ssl.CERT_REQUIRED


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port` or `unix:/path`."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that `text` names; raise `InvalidConfiguration` when it names none."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path or len(path.encode()) > 100:
                raise InvalidConfiguration(
                    f"the path of a Unix socket must have 1 to 100 bytes, not {len(path.encode())}: {path!r}"
                )
            return cls("", 0, path)
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise InvalidConfiguration(f"an address must be HOST:PORT or unix:/path, not {text!r}")
        return cls(host, int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
