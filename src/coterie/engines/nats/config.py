"""The engine's URL and its bounds."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import InvalidConfiguration

__all__ = ["NatsConfig"]

_OPTIONS = {"prefix", "replicas", "monitor", "ca_file", "cert_file", "key_file", "creds_file"}
_PREFIX = re.compile(r"[A-Za-z0-9-]{1,32}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NatsConfig:
    """Which servers, who is asking, and the bounds that the engine keeps. Validated on construction."""

    servers: tuple[str, ...]
    """`host:port` of each member; a client goes on to the next when one is lost."""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    creds_file: str = ""
    """A file of NATS credentials, in place of user and password."""
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    prefix: str = "coterie"
    """The names of all streams and subjects begin with it. Programs that are to share data share it."""
    replicas: int = 0
    """How many members keep each stream: 1, 3 or 5; 0 is 3 on a cluster and 1 on a single server."""
    monitor: tuple[str, ...] = ()
    """Where members tell how they sync what they store: their monitoring addresses, `http://host:8222`."""
    connect_timeout_s: float = 2.0
    """How long one server may take to let us in; then the next one is tried."""
    operation_timeout_s: float = 15.0
    """How long until an outcome is given up as unknown; a failover takes 4 to 10 s."""
    max_waiting: int = 65_536
    """How many operations may wait for their results; more are refused."""
    min_log_bytes: int = 16 * 1024 * 1024
    """How much of the stream of commits is replaced by an image of the state at once, at least."""

    def __post_init__(self) -> None:
        if not self.servers or not all(self.servers):
            raise InvalidConfiguration("the URL names no server", hint="write nats://host:4222")
        if not _PREFIX.fullmatch(self.prefix):
            raise InvalidConfiguration(
                f"the prefix must be up to 32 letters, digits and dashes, not {self.prefix!r}"
            )
        if self.replicas not in {0, 1, 3, 5}:
            raise InvalidConfiguration(f"replicas must be 1, 3 or 5, not {self.replicas}")
        if bool(self.cert_file) != bool(self.key_file):
            raise InvalidConfiguration("cert_file and key_file belong together: give both or neither")
        if not self.tls and (self.ca_file or self.cert_file):
            raise InvalidConfiguration("certificates are of no use without TLS", hint="write natss://...")

    @classmethod
    def from_url(cls, url: str) -> NatsConfig:
        """Return the configuration that `url` stands for.

        `nats://user:password@host:4222,host:4222?prefix=shop`, or `nats://token@host`; `natss` with TLS, and
        the options `ca_file`, `cert_file`, `key_file`, `creds_file`, `replicas` and `monitor`.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"nats", "natss"} or parts.fragment or parts.path.strip("/"):
            raise InvalidConfiguration("this is no URL of NATS", hint="write nats://host:4222,host:4222")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(options.keys() - _OPTIONS):
            raise InvalidConfiguration(
                f"the URL has an unknown option: {', '.join(unknown)}",
                hint=f"there are: {', '.join(sorted(_OPTIONS))}",
            )
        login, _, hosts = parts.netloc.rpartition("@")
        user, colon, password = login.partition(":")
        replicas = options.get("replicas", "0")
        return cls(
            servers=tuple(_with_port(host) for host in hosts.split(",")),
            user=unquote(user) if colon else "",
            password=unquote(password),
            token="" if colon else unquote(user),
            creds_file=options.get("creds_file", ""),
            tls=parts.scheme == "natss",
            ca_file=options.get("ca_file", ""),
            cert_file=options.get("cert_file", ""),
            key_file=options.get("key_file", ""),
            prefix=options.get("prefix", "coterie"),
            replicas=int(replicas) if replicas.isdigit() else -1,
            monitor=tuple(filter(None, options.get("monitor", "").split(","))),
        )

    def trust(self) -> ssl.SSLContext | None:
        """Return what the servers are verified with; None without TLS."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise InvalidConfiguration(f"the certificates cannot be read: {error}") from error
        return context


def _with_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        return f"{host}:4222" if host else ""
    if not port.isdigit() or not 0 < int(port) < 65536 or not name:
        raise InvalidConfiguration(f"{host!r} is no server", hint="write host:4222")
    return host
