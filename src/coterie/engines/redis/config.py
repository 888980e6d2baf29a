"""The engine's URL and its bounds."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import InvalidConfiguration

__all__ = ["SCHEMES", "RedisConfig"]

SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
"""The schemes of the engine's URLs, and whether each means TLS."""

_OPTIONS = {"prefix", "ca_file", "cert_file", "key_file"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RedisConfig:
    """Which server, who is asking, and the bounds that the engine keeps. Validated on construction."""

    host: str = "127.0.0.1"
    port: int = 6379
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: str = ""
    """The certificates to verify the server with; those of the machine when empty."""
    cert_file: str = ""
    """The certificate that this client shows, with `key_file`, where the server asks for one."""
    key_file: str = ""
    prefix: str = "coterie"
    """All keys of the server begin with it in braces. Programs that are to share data share it."""
    connect_timeout_s: float = 5.0
    operation_timeout_s: float = 5.0
    """How long an answer may take before its outcome is given up as unknown."""
    reconnect_min_s: float = 0.05
    reconnect_max_s: float = 1.0
    max_waiting: int = 65_536
    """How many operations may wait for their answers; more are refused."""
    max_kept_changes: int = 4096
    """How many commits the server keeps for watches that were cut off; others begin anew."""

    def __post_init__(self) -> None:
        if not self.host:
            raise InvalidConfiguration("the URL names no host", hint="write redis://host:6379/0")
        if not 0 < self.port < 65536:
            raise InvalidConfiguration(f"the port must be between 1 and 65535, not {self.port}")
        if not self.prefix or any(mark in self.prefix for mark in "{}"):
            raise InvalidConfiguration(f"the prefix must be a text without braces, not {self.prefix!r}")
        if bool(self.cert_file) != bool(self.key_file):
            raise InvalidConfiguration("cert_file and key_file belong together: give both or neither")
        if not self.tls and (self.ca_file or self.cert_file):
            raise InvalidConfiguration("certificates are of no use without TLS", hint="write rediss://...")

    @property
    def place(self) -> str:
        """The server, for messages: no credentials."""
        return f"{self.host}:{self.port}"

    @classmethod
    def from_url(cls, url: str) -> RedisConfig:
        """Return the configuration that `url` stands for.

        `redis://user:password@host:6379/0?prefix=shop`, or with `valkey`; `rediss` and `valkeys` for TLS,
        with the options `ca_file`, `cert_file` and `key_file`.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or parts.fragment:
            raise InvalidConfiguration(
                f"{_without_password(url)!r} is no URL of Redis", hint="write redis://host:6379/0"
            )
        if "," in parts.netloc:
            raise InvalidConfiguration(
                "the URL names several servers, and only one primary is linearizable",
                hint="name the primary; replicas serve as its backup only",
            )
        try:
            port = parts.port or 6379
            database = int(parts.path.strip("/") or 0)
        except ValueError as error:
            raise InvalidConfiguration(
                f"{_without_password(url)!r} has no proper port or database: {error}",
                hint="write redis://host:6379/0",
            ) from None
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(options.keys() - _OPTIONS):
            raise InvalidConfiguration(
                f"the URL has an unknown option: {', '.join(unknown)}",
                hint=f"there are: {', '.join(sorted(_OPTIONS))}",
            )
        return cls(
            host=parts.hostname or "",
            port=port,
            database=database,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            tls=SCHEMES[parts.scheme],
            prefix=options.get("prefix", "coterie"),
            ca_file=options.get("ca_file", ""),
            cert_file=options.get("cert_file", ""),
            key_file=options.get("key_file", ""),
        )

    def trust(self) -> ssl.SSLContext | None:
        """Return what the server is verified with; None without TLS."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise InvalidConfiguration(f"the certificates cannot be read: {error}") from error
        return context


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://...@{tail}" if at else url
