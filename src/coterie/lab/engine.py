"""What the lab must know of each engine: how members are laid out, started, asked, and found by clients."""

from __future__ import annotations

import abc
import signal
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from .binaries import Binary, find
from .errors import LabError
from .network import Address, Network
from .process import KeeperHandle
from .tls import Certificates

__all__ = ["Engine", "Member", "Options", "Site"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a cluster is set up.

    `user` and `password`, or a `token` (NATS only), are demanded of clients; with `tls` clients and members
    speak TLS, with certificates made for the cluster. `settings` are the engine's own, by its own names,
    and go before the lab's, which keep what is acknowledged: that is how unsafe ones are tried.
    """

    user: str | None = None
    password: str | None = None
    token: str | None = None
    tls: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise LabError("user and password belong together: give both or neither")
        if self.token is not None and self.user is not None:
            raise LabError("give user and password, or a token, not both")


@dataclass(kw_only=True, eq=False)
class Member:
    """One server process of a cluster, and where its parts are."""

    index: int
    name: str
    data: Path
    log: Path
    address: Address
    """Where clients reach it."""

    state: str = "stopped"
    """`running`, `paused` (by SIGSTOP) or `stopped`."""

    pid: int | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """What an engine builds on: the members, their network, the keeper that runs programs."""

    members: Sequence[Member]
    network: Network
    keeper: KeeperHandle
    options: Options
    certificates: Certificates | None
    folder: Path

    def trust(self) -> ssl.SSLContext | None:
        """Return what a client of this cluster verifies members with; None without TLS."""
        return self.certificates.client_context() if self.certificates is not None else None


class Engine(abc.ABC):
    """One engine's way of doing things. Hooks are called by `Cluster`, which does the waiting."""

    name: ClassVar[str]
    scheme: ClassVar[str]
    client_port: ClassVar[str] = "client"
    sheds_root: ClassVar[bool] = False
    takes_token: ClassVar[bool] = False
    votes: ClassVar[bool] = True
    """Whether a majority is needed to lead."""

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, site: Site) -> None:
        if site.options.token is not None and not self.takes_token:
            raise LabError(f"{self.name} knows no tokens: give user and password")
        self.site = site
        self.binary: Binary = find(self.name, tls=site.options.tls)

    @property
    def size(self) -> int:
        """How many members the cluster has."""
        return len(self.site.members)

    @property
    def majority(self) -> int:
        """How many members decide, for engines that vote."""
        return self.size // 2 + 1

    @abc.abstractmethod
    async def prepare(self, member: Member) -> None:
        """Lay out the folder of a member, once, before its first start."""

    async def prepare_again(self, member: Member) -> None:  # noqa: B027 - most have nothing to do
        """Make the folder of a member that ran before fit to start from."""

    @abc.abstractmethod
    async def command(self, member: Member) -> list[str]:
        """Return the command line that runs a member in the foreground."""

    @abc.abstractmethod
    async def check_ready(self, member: Member) -> None:
        """Return when a member that was just started serves. Raises NotYet while it does not."""

    @abc.abstractmethod
    async def find_leader(self, candidates: Sequence[Member], of: str | None = None) -> Member:
        """Return who leads by what the candidates (running members) say. Raises NotYet if nobody does.

        `of` is the name of what is led, for engines with more than one leader.
        """

    async def start_all(
        self,
        launch: Callable[[Member], Awaitable[None]],
        wait_ready: Callable[[Sequence[Member]], Awaitable[None]],
    ) -> None:
        """Prepare and start all members: at once, since most need each other to become ready."""
        for member in self.site.members:
            await self.prepare(member)
        for member in self.site.members:
            await launch(member)
        await wait_ready(self.site.members)

    async def finish(self) -> None:  # noqa: B027 - most have nothing to do
        """Do what the first start of the whole cluster leaves to do, such as adding users."""

    async def promote(self, member: Member) -> None:
        """Make a replica the primary, for engines that do not elect one."""
        raise LabError(
            f"{self.name} elects its leaders by itself; only postgres, redis and valkey are promoted"
        )

    def login(self) -> str:
        """Return what stands before the hosts in a URL, `user:password@` for instance."""
        options = self.site.options
        if options.user is None or options.password is None:
            return ""
        return f"{quote(options.user, safe='')}:{quote(options.password, safe='')}@"

    def path(self, members: Sequence[Member]) -> str:
        """Return what stands after the hosts of `members` in a URL."""
        return ""

    def url(self, members: Sequence[Member]) -> str:
        """Return the URL by which a client reaches any of `members`."""
        hosts = ",".join(str(member.address) for member in members)
        return f"{self.scheme}://{self.login()}{hosts}{self.path(members)}"

    def engine_url(self, members: Sequence[Member]) -> str:
        """Return the URL that tells Coterie's engine of `members` all that it may know."""
        return self.url(members)

    def environment(self) -> Mapping[str, str]:
        """Return variables that members run with."""
        return self.binary.environment()
