"""The engine's URL and its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import InvalidConfiguration

__all__ = ["SqliteConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SqliteConfig:
    """Where the file is, and the bounds that the engine keeps. Validated on construction."""

    path: Path
    synchronous: str = "full"
    """`full` syncs each commit to the disk; `normal` loses the last ones when the power fails."""
    operation_timeout_s: float = 5.0
    """How long a process waits for the writer of another before it gives an outcome up as unknown.

    The process that writes waits for its own disk until the outcome is known.
    """
    max_queue: int = 65_536
    """How many operations may wait for the writer; more are refused."""
    max_batch: int = 1024
    """How many operations one transaction of the file holds at most."""
    max_unanswered: int = 512
    """How many operations a process has under way at the writer of another."""
    session_s: float = 600.0
    """How long what was answered to a process that is gone is kept, in case it comes back."""

    def __post_init__(self) -> None:
        if self.synchronous not in {"full", "normal"}:
            raise InvalidConfiguration(f"synchronous must be full or normal, not {self.synchronous!r}")

    @classmethod
    def from_url(cls, url: str) -> SqliteConfig:
        """Return the configuration that `url` stands for: `sqlite:///relative.db`, `sqlite:////absolute.db`."""
        parts = urlsplit(url)
        path = unquote(parts.path)
        if (
            parts.scheme != "sqlite"
            or parts.netloc
            or not path.startswith("/")
            or len(path) < 2
            or "\0" in path
        ):
            raise InvalidConfiguration(
                f"{url!r} names no SQLite file",
                hint="write sqlite:///relative/path.db or sqlite:////absolute/path.db",
            )
        if path == "/:memory:":
            raise InvalidConfiguration(
                f"{url!r} would be a database of one connection, which nothing outlives",
                hint="memory: is the engine that keeps nothing",
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        synchronous = options.pop("synchronous", "full").lower()
        if options or parts.fragment:
            unknown = ", ".join(options) or parts.fragment
            raise InvalidConfiguration(
                f"{url!r} has an unknown option: {unknown}", hint="there is: synchronous"
            )
        return cls(path=Path(path[1:]), synchronous=synchronous)
