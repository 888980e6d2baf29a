"""The engine's URL and its bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import InvalidConfiguration

__all__ = ["EtcdConfig"]

_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\[\]:,/@\s]+)(?::\d{1,5})?")
_FILES = ("ca_file", "cert_file", "key_file")
_OPTIONS = {"prefix", "timeout_s", *_FILES}


@dataclass(frozen=True, kw_only=True, slots=True)
class EtcdConfig:
    """Where the members are, and the bounds that the engine keeps. Validated on construction."""

    endpoints: tuple[str, ...]
    """`host:port` of each member; one is used until it fails."""
    user: str = ""
    password: str = ""
    prefix: str = "coterie"
    """What all keys of the engine begin with, before a slash."""
    tls: bool = False
    ca_file: Path | None = None
    """What the members' certificates are verified with; the system's authorities where it is not given."""
    cert_file: Path | None = None
    key_file: Path | None = None
    operation_timeout_s: float = 10.0
    """How long a call tries, over members, before it fails."""
    attempt_timeout_s: float = 2.5
    """How long a read waits for one member before it asks another."""
    max_in_flight: int = 1024
    """How many calls are under way at once; more wait."""
    max_queue: int = 65_536
    """How many calls may wait; more are refused."""

    def __post_init__(self) -> None:
        if not self.endpoints or not all(_ADDRESS.fullmatch(address) for address in self.endpoints):
            raise InvalidConfiguration(
                f"{','.join(self.endpoints)!r} are no addresses of etcd members", hint="write host:2379"
            )
        if not self.prefix or self.prefix.startswith("/") or "\0" in self.prefix:
            raise InvalidConfiguration(
                f"the prefix must be a text that begins without a slash, not {self.prefix!r}"
            )
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidConfiguration("cert_file and key_file belong together: give both or neither")
        if not 0 < self.operation_timeout_s <= 3600:
            raise InvalidConfiguration(
                f"timeout_s must be above 0 and at most 3600, not {self.operation_timeout_s}"
            )

    @classmethod
    def from_url(cls, url: str) -> EtcdConfig:
        """Return what `url` stands for: `etcd://user:password@host1:2379,host2:2379?prefix=shop`.

        `etcds` asks for TLS, and so do `ca_file`, `cert_file` and `key_file`.
        """
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        if parts.scheme not in {"etcd", "etcds"} or not hosts or parts.path not in {"", "/"}:
            raise InvalidConfiguration(
                f"{re.sub('//[^@/]*@', '//…@', url)!r} names no etcd members",
                hint="write etcd://user:password@host1:2379,host2:2379?prefix=shop",
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := options.keys() - _OPTIONS or parts.fragment:
            raise InvalidConfiguration(
                f"the URL of {hosts} has an unknown option: {', '.join(unknown)}",
                hint=f"there are {', '.join(sorted(_OPTIONS))}",
            )
        user, _, password = login.partition(":")
        files = [Path(options[name]) if name in options else None for name in _FILES]
        try:
            timeout_s = float(options.get("timeout_s", 10.0))
        except ValueError as error:
            raise InvalidConfiguration(f"timeout_s is a number of seconds: {error}") from None
        return cls(
            endpoints=tuple(host if _has_port(host) else f"{host}:2379" for host in hosts.split(",")),
            user=unquote(user),
            password=unquote(password),
            prefix=options.get("prefix", "coterie"),
            tls=parts.scheme == "etcds" or any(files),
            ca_file=files[0],
            cert_file=files[1],
            key_file=files[2],
            operation_timeout_s=timeout_s,
        )

    @property
    def place(self) -> str:
        """The members without credentials, for messages."""
        return ",".join(self.endpoints)


def _has_port(host: str) -> bool:
    return re.search(r":\d+$", host) is not None
