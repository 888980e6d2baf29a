"""The engine's URL and its bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ...errors import InvalidConfiguration

__all__ = ["PostgresConfig"]

_SCHEMES = {"postgres", "postgresql"}
_OWN = {"schema", "timeout_s", "poll_s", "prepared"}
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SWITCH = {"on": True, "off": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresConfig:
    """Where the database is, and the bounds that the engine keeps. Validated on construction."""

    dsn: str
    """What asyncpg connects by: credentials, hosts, database and `sslmode`, `sslrootcert` and so on."""
    schema: str = "coterie"
    """The schema that holds the engine's tables and functions; it is made if it is not there."""
    operation_timeout_s: float = 10.0
    """How long a call tries, over reconnections, before it fails."""
    poll_s: float = 0.02
    """How often the database is asked for news of other clients while somebody waits for some."""
    prepared: bool = True
    """Whether statements stay prepared; off for a pooler that gives each transaction any connection."""
    max_queue: int = 65_536
    """How many operations may wait to be sent; more are refused."""
    max_batch: int = 512
    """How many operations one transaction holds at most."""
    max_batch_bytes: int = 8 * 1024 * 1024
    """How many bytes of values one transaction holds, unless a single operation has more."""
    kept_revisions: int = 8192
    """How many of the last revisions a watch can resume from without a new snapshot."""

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise InvalidConfiguration(
                f"{self.schema!r} is no name for a schema", hint="use lower-case letters, digits and _"
            )
        for name in ("operation_timeout_s", "poll_s"):
            if not 0 < getattr(self, name) <= 3600:
                raise InvalidConfiguration(
                    f"{name} must be above 0 and at most 3600, not {getattr(self, name)}"
                )

    @classmethod
    def from_url(cls, url: str) -> PostgresConfig:
        """Return what `url` stands for: `postgresql://user:password@host:5432/database?sslmode=verify-full`.

        Several hosts, `host1:5432,host2:5432`, are tried until one takes writes. `schema`, `timeout_s`,
        `poll_s` and `prepared` (`on`, `off`) are for the engine; whatever else stands in the query is for
        asyncpg.
        """
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.netloc or parts.fragment:
            raise InvalidConfiguration(
                f"{_without_password(url)!r} names no PostgreSQL database",
                hint="write postgresql://user:password@host:5432/database",
            )
        query = parse_qsl(parts.query, keep_blank_values=True)
        own = {name: value for name, value in query if name in _OWN}
        rest = urlencode([(name, value) for name, value in query if name not in _OWN])
        dsn = urlunsplit(("postgresql", parts.netloc, parts.path, rest, ""))
        if own.setdefault("prepared", "on") not in _SWITCH:
            raise InvalidConfiguration(f"prepared must be on or off, not {own['prepared']!r}")
        try:
            return cls(
                dsn=dsn,
                schema=own.get("schema", "coterie"),
                operation_timeout_s=float(own.get("timeout_s", 10.0)),
                poll_s=float(own.get("poll_s", 0.02)),
                prepared=_SWITCH[own["prepared"]],
            )
        except ValueError as error:
            if isinstance(error, InvalidConfiguration):
                raise
            raise InvalidConfiguration(f"timeout_s and poll_s are seconds: {error}") from None

    @property
    def place(self) -> str:
        """The database without credentials, for messages."""
        parts = urlsplit(self.dsn)
        return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//…@", url)
