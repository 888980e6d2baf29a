"""A node's configuration: each value, where it came from, and what is wrong with it.

The order of precedence is command line, environment, `coterie.toml`, default. `coterie config`
prints the outcome.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InvalidConfiguration

__all__ = ["OPTIONS", "NodeConfig", "Option", "Setting", "mask_url", "resolve"]

CONFIG_FILE = "coterie.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeConfig:
    """What a node needs to know besides its program. Validated on construction."""

    name: str = ""
    """The node's name; empty for one made up at the start."""
    engine: str = ""
    """The URL of the engine; empty for SQLite in the data directory."""
    store: str = ""
    """The URL of the engine for state, when it is not `engine`."""
    log: str = ""
    """The URL of the engine for events, when it is not `engine`."""
    wire: str = ""
    """The URL of NATS servers that carry the calls between nodes; empty for straight from node to node."""
    listen: str = "127.0.0.1:0"
    """Where other nodes reach this one: `host:port` (port 0 for any free one) or `unix:/path`."""
    http: str = "127.0.0.1:8000"
    """Where the HTTP gateway listens, or `off`."""
    data: str = ".coterie"
    """The directory of the embedded engine's files."""
    cluster_key: str = ""
    """A secret that all nodes share; needed to listen beyond loopback without TLS."""
    http_token: str = ""
    """A bearer token that HTTP clients must send; needed to listen beyond loopback."""
    lease_s: float = 3.0
    """How long a silent node stays a member, in seconds."""
    gossip_s: float = 0.5
    """How often nodes ask each other whether they live, in seconds; 0 for never."""
    drain_s: float = 30.0
    """How long a node that was told to stop waits for what it accepted, in seconds."""
    replies_s: float = 86400.0
    """How long the replies of idempotent calls are kept at least, in seconds."""
    zone: str = ""
    """Where the node is, for callers that prefer what is near: a rack, a data centre, a region."""
    weight: float = 1.0
    """Its share of the calls beside that of the other nodes."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """The table `[policy]` of the file: what replaces values of the policies that the program declares."""
    admission: Mapping[str, Any] = field(default_factory=dict)
    """The table `[admission]` of the file: what replaces the limits of services and methods at a node."""

    def __post_init__(self) -> None:
        for name in ("listen", "http"):
            _check_address(name, getattr(self, name), off=name == "http")
        self._check_urls()
        if len(self.name) > 64 or any(c.isspace() or c == "/" for c in self.name):
            raise InvalidConfiguration(
                f"a node's name must have at most 64 characters, no space and no slash, not {self.name!r}"
            )
        if not 0.2 <= self.lease_s <= 3600:
            raise InvalidConfiguration(f"lease_s must be between 0.2 and 3600 seconds, not {self.lease_s}")
        if self.gossip_s and not 0.02 <= self.gossip_s <= 3600:
            raise InvalidConfiguration(
                f"gossip_s must be between 0.02 and 3600 seconds, or 0, not {self.gossip_s}"
            )
        if not 0 <= self.drain_s <= 86400:
            raise InvalidConfiguration(f"drain_s must be between 0 and 86400 seconds, not {self.drain_s}")
        if not 1 <= self.replies_s <= 86400 * 366:
            raise InvalidConfiguration(
                f"replies_s must be between 1 and {86400 * 366} seconds (366 days), not {self.replies_s}"
            )
        if not 0 < self.weight <= 1e6:
            raise InvalidConfiguration(f"weight must be above 0 and at most 1000000, not {self.weight}")
        if len(self.zone) > 64 or not self.zone.isprintable():
            raise InvalidConfiguration(f"zone must have at most 64 printable characters, not {self.zone!r}")
        if self.cluster_key and len(self.cluster_key) < 16:
            raise InvalidConfiguration("cluster_key must have at least 16 characters")

    def _check_urls(self) -> None:
        for name in ("engine", "store", "log"):
            url = getattr(self, name)
            if url and ":" not in url:
                raise InvalidConfiguration(
                    f"{name} must be a URL, not {url!r}", hint="for instance sqlite:///.coterie/shop.db"
                )
        if self.wire and not self.wire.startswith(("nats://", "natss://")):
            raise InvalidConfiguration(
                f"wire must be a URL of NATS, not {mask_url(self.wire)!r}",
                hint="write nats://host:4222 (coterie up --wire nats starts servers), or leave it empty: "
                "nodes then call each other straight",
            )

    def engine_url(self, app: str) -> str:
        """Return the URL of the engine, with the default filled in for the app of that name."""
        return self.engine or f"sqlite:///{self.data}/{app}.db"

    @property
    def wire_address(self) -> str:
        """Where the node listens on its wire: at a name of its own where servers carry the calls."""
        return "nats:0" if self.wire else self.listen


def _check_address(name: str, address: str, *, off: bool) -> None:
    if (off and address == "off") or (address.startswith(("unix:", "memory:")) and not off):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        also = ", or off" if off else ", or unix:/path"
        raise InvalidConfiguration(
            f"{name} must be HOST:PORT{also}, not {address!r}", hint="port 0 takes any free one"
        )


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as people give it."""

    name: str
    parse: Callable[[str], Any]
    secret: bool = False

    @property
    def environment(self) -> str:
        return f"COTERIE_{self.name.upper()}"

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's value and where it came from."""

    option: Option
    value: Any
    source: str


_TABLES = ("policy", "admission")
"""Of the file only; what stands in them is checked against the program."""

_SECRETS = frozenset({"cluster_key", "http_token"})

OPTIONS: Mapping[str, Option] = {
    each.name: Option(each.name, float if each.type == "float" else str, each.name in _SECRETS)
    for each in fields(NodeConfig)
    if each.name not in _TABLES
}


def mask_url(text: str) -> str:
    """Return a URL without the password that it may hold; any other text as it is."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:(secret)@", text)


def resolve(
    command_line: Mapping[str, Any], environ: Mapping[str, str], directory: Path | None = None
) -> tuple[NodeConfig, list[Setting]]:
    """Return the configuration and each setting's source.

    `command_line` has the options that were given, by name; None stands for not given. Raises
    `InvalidConfiguration` for unknown keys and for values that cannot be right, naming the source.
    """
    path = (directory or Path()) / CONFIG_FILE
    file = _read_file(path)
    defaults = NodeConfig()
    settings = []
    for name, option in OPTIONS.items():
        if command_line.get(name) is not None:
            setting = Setting(option, command_line[name], f"command line ({option.flag})")
        elif option.environment in environ:
            setting = Setting(option, environ[option.environment], f"environment ({option.environment})")
        elif name in file:
            setting = Setting(option, file[name], str(path))
        else:
            setting = Setting(option, getattr(defaults, name), "default")
        settings.append(_parsed(setting))
    values = {setting.option.name: setting.value for setting in settings}
    try:
        policy, admission = (_table(file, name, path) for name in _TABLES)
        return NodeConfig(**values, policy=policy, admission=admission), settings
    except InvalidConfiguration as error:
        given = [f"{s.option.name} from {s.source}" for s in settings if s.source != "default"]
        about = [text for text in given if text.split(" ", 1)[0] in error.message]
        raise InvalidConfiguration(
            f"{error.message} [{'; '.join(about)}]" if about else error.message, hint=error.hint
        ) from error


def _parsed(setting: Setting) -> Setting:
    option = setting.option
    if not isinstance(setting.value, str) and option.parse is str:
        raise InvalidConfiguration(f"{option.name} must be text, not {setting.value!r} [{setting.source}]")
    try:
        return Setting(option, option.parse(setting.value), setting.source)
    except (TypeError, ValueError):
        raise InvalidConfiguration(
            f"{option.name} must be a number, not {setting.value!r} [{setting.source}]"
        ) from None


def _table(file: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    table = file.get(name, {})
    if not isinstance(table, Mapping):
        raise InvalidConfiguration(f"{path}: {name} must be a table, not {table!r}", hint=f"[{name}]")
    return table


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error}") from error
    for key in content:
        if key not in OPTIONS and key not in _TABLES:
            close = difflib.get_close_matches(key, [*OPTIONS, *_TABLES], n=1)
            raise InvalidConfiguration(
                f"{path} has an unknown key {key!r}",
                hint=f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(OPTIONS)}",
            )
    return content
