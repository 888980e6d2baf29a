"""A cluster of one engine on this machine: start it, hurt it, ask who leads, and end it."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ._admin import NotYet
from .binaries import Binary
from .engine import Engine, Member, Options, Site
from .errors import LabError
from .network import CLIENT, Address, Conditions, Network, NetworkKind
from .process import KeeperHandle, tail
from .tls import Certificates, make_certificates

__all__ = ["Cluster"]

T = TypeVar("T")

# Each question costs something, with PostgreSQL a process, so they grow rarer.
_POLL_S = (0.02, 0.25)
_POLL_GROWTH = 1.4
_STOP_S = 10.0
_SIZES = (1, 3)


class Cluster:
    """A running cluster, as an asynchronous context manager; made by `coterie.lab.start`.

    Members are numbered from 0. All methods wait until what they do is done, within `timeout_s`, and raise
    LabError, with the end of the member's log, if it does not come about. After the body everything ends:
    processes, proxies, namespaces, and the data unless a folder was given.
    """

    def __init__(
        self,
        engine: type[Engine],
        *,
        members: int,
        network: NetworkKind,
        options: Options,
        folder: Path | None,
        timeout_s: float,
    ) -> None:
        if members not in _SIZES:
            raise LabError(f"members is 1 or 3, not {members}")
        self._engine_class = engine
        self._kind: NetworkKind = network
        self._options = options
        self._given_folder = folder
        self._temporary: Path | None = None
        self._timeout_s = timeout_s
        self._names = [f"{engine.name}-{index}" for index in range(members)]
        self._keeper = KeeperHandle()
        self._network = Network(network, self._keeper, self._names)
        self._members: list[Member] = []
        self._engine: Engine | None = None
        self._certificates: Certificates | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        # Shielded: a cancelled test must not leave servers behind.
        await asyncio.shield(self._keeper.end())
        self._network.close()
        if self._temporary is not None:  # the keeper did so, unless it was killed
            shutil.rmtree(self._temporary, ignore_errors=True)
        for member in self._members:
            member.state, member.pid = "stopped", None

    async def _start(self) -> None:
        await self._keeper.start()
        if self._given_folder is None:
            folder = self._temporary = Path(
                tempfile.mkdtemp(prefix=f"coterie-lab-{self._engine_class.name}-")
            )
            await self._keeper.call("remove_at_end", path=str(folder))
        else:
            folder = self._given_folder.absolute()
            if folder.exists() and any(folder.iterdir()):
                raise LabError(f"{folder} is not empty", hint="give a new or empty folder")
            folder.mkdir(parents=True, exist_ok=True)
        await self._network.setup()
        port = self._engine_class.client_port
        for index, name in enumerate(self._names):
            place = folder / name
            place.mkdir()
            (place / "data").mkdir(mode=0o700)
            address = await self._network.client(name, port)
            self._members.append(
                Member(index=index, name=name, data=place / "data", log=place / "log", address=address)
            )
        if self._options.tls:
            hosts = [self._network.listening(name, port).host for name in self._names]
            self._certificates = await make_certificates(folder / "tls", sorted({*hosts, "127.0.0.1"}))
        site = Site(
            members=self._members,
            network=self._network,
            keeper=self._keeper,
            options=self._options,
            certificates=self._certificates,
            folder=folder,
        )
        self._engine = engine = self._engine_class(site)
        await engine.start_all(self._launch, self._wait_ready)
        await engine.finish()

    # What it is

    @property
    def engine(self) -> Engine:
        """What the lab knows of the engine."""
        if self._engine is None:
            raise LabError("the cluster is not running", hint="use it inside `async with lab.start(...)`")
        return self._engine

    @property
    def binary(self) -> Binary:
        """The program that the members run: its path, origin and version."""
        return self.engine.binary

    @property
    def members(self) -> Sequence[Member]:
        """The members, by index."""
        return tuple(self._members)

    @property
    def url(self) -> str:
        """The URL of the whole cluster, with all members' addresses and the credentials."""
        return self.engine.url(self._members)

    @property
    def engine_url(self) -> str:
        """The same for Coterie's engine, with what makes it sure of the members' settings."""
        return self.engine.engine_url(self._members)

    @property
    def urls(self) -> list[str]:
        """One URL for each member."""
        return [self.engine.url([member]) for member in self._members]

    @property
    def addresses(self) -> list[Address]:
        """Where clients reach each member."""
        return [member.address for member in self._members]

    @property
    def certificates(self) -> Certificates | None:
        """The files that a client needs for TLS; None without TLS."""
        return self._certificates

    @property
    def folder(self) -> Path:
        """Where data, logs and certificates are."""
        return self.engine.site.folder

    @property
    def keeper_pid(self) -> int:
        """The process that the members descend from."""
        return self._keeper.pid

    def logs(self, member: int, lines: int = 50) -> str:
        """Return the last lines of a member's log."""
        return tail(self._members[member].log, lines)

    # Processes

    async def kill(self, *members: int) -> None:
        """Kill members by SIGKILL, with all their processes. What they had written to files stays."""
        for member in self._chosen(members):
            await self._keeper.call("destroy", name=member.name)
            member.state, member.pid = "stopped", None

    async def stop(self, *members: int) -> None:
        """Stop members in the engine's orderly way; those that take longer than 10 s are killed."""
        for member in self._chosen(members):
            if member.state == "paused":
                await self.resume(member.index)
            if member.state == "running":
                await self._keeper.stop_member(member.name, self.engine.stop_signal, _STOP_S)
            member.state, member.pid = "stopped", None

    async def pause(self, *members: int) -> None:
        """Stop the clock of members by SIGSTOP: connections stay open, nothing answers."""
        for member in self._chosen(members, running=True):
            await self._keeper.call("pause", name=member.name)
            member.state = "paused"

    async def resume(self, *members: int) -> None:
        """Let paused members go on."""
        for member in self._chosen(members):
            if member.state == "paused":
                await self._keeper.call("resume", name=member.name)
                member.state = "running"

    async def restart(self, *members: int, ready: bool = True) -> None:
        """Start members again on their data, killing those that run, and wait until they serve.

        With `ready=False` it does not wait: a member that is cut off cannot become ready.
        """
        chosen = self._chosen(members)
        for member in chosen:
            await self.kill(member.index)
            await self.engine.prepare_again(member)
            await self._launch(member)
        if ready:
            await self._wait_ready(chosen)

    async def wait_exit(self, member: int) -> int:
        """Wait until a member has ended, by whomever, and return its exit code; negative for a signal."""
        (chosen,) = self._chosen([member])
        code = await self._keeper.wait_exit(chosen.name)
        chosen.state, chosen.pid = "stopped", None
        return code

    async def _launch(self, member: Member) -> None:
        engine = self.engine
        member.pid = await self._keeper.spawn(
            member.name,
            await engine.command(member),
            log=member.log,
            env=engine.environment(),
            host=member.name,
            shed_root=engine.sheds_root,
        )
        member.state = "running"

    async def _wait_ready(self, members: Iterable[Member]) -> None:
        async def one(member: Member) -> None:
            await self._until(lambda: self.engine.check_ready(member), f"{member.name} to serve", [member])

        try:
            async with asyncio.TaskGroup() as group:
                for member in members:
                    group.create_task(one(member))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # one is enough to know

    def _chosen(self, indices: Iterable[int], *, running: bool = False) -> list[Member]:
        chosen = []
        for index in indices:
            if not 0 <= index < len(self._members):
                raise LabError(f"there is no member {index}; they are 0 to {len(self._members) - 1}")
            member = self._members[index]
            if running and member.state != "running":
                raise LabError(f"{member.name} is {member.state}")
            chosen.append(member)
        return chosen

    # Leaders

    async def leader(self, *, of: str | None = None, within_s: float | None = None) -> int:
        """Return the index of the member that leads now; wait for one that runs and reaches a majority.

        `of` names what is led, for engines with many leaders: with NATS a stream (default: JetStream's meta
        group).
        """

        async def ask() -> int:
            return (await self.engine.find_leader(self._candidates(), of)).index

        return await self._until(ask, f"a leader of {of or 'the cluster'}", self._members, within_s)

    async def wait_ready(self, *members: int) -> None:
        """Wait until members, by default all that run, serve and are in the cluster."""
        running = [member.index for member in self._members if member.state == "running"]
        await self._wait_ready(self._chosen(members or running, running=True))

    async def promote(self, member: int) -> None:
        """Make a replica the primary, and have the others that run follow it (PostgreSQL, Redis, Valkey).

        The lab does not wait for what the old primary had acknowledged and not yet sent: it is lost.
        """
        (chosen,) = self._chosen([member], running=True)
        await self.engine.promote(chosen)

    def _candidates(self) -> list[Member]:
        running = [member for member in self._members if member.state == "running"]
        if self._kind == "direct" or len(self._members) == 1 or not self.engine.votes:
            return running
        majority = self.engine.majority
        return [m for m in running if sum(self._connected(m, other) for other in running) >= majority]

    def _connected(self, a: Member, b: Member) -> bool:
        return a is b or not (self._network.cut(a.name, b.name) or self._network.cut(b.name, a.name))

    # The network

    async def partition(self, *groups: set[int] | set[int | str]) -> None:
        """Cut the members into groups that do not hear each other; a member in no group is cut from all.

        Clients reach every member, unless a group holds the word "client": then only the members of it.
        """
        named = [{self._host(host) for host in group} for group in groups]
        hosts = [*self._names, *([CLIENT] if any(CLIENT in group for group in named) else [])]
        changes = []
        for a, b in itertools.permutations(hosts, 2):
            together = any(a in group and b in group for group in named)
            if not together:
                changes.append((a, b, Conditions(cut=True)))
        await self._network.set(changes)

    async def cut(self, source: int | str, target: int | str, *, both: bool = True) -> None:
        """Cut one link, or with `both=False` only its direction from `source` to `target`."""
        await self.shape(source, target, cut=True, both=both)

    async def shape(
        self,
        source: int | str,
        target: int | str,
        *,
        cut: bool = False,
        latency_s: float = 0.0,
        jitter_s: float = 0.0,
        loss: float = 0.0,
        both: bool = True,
    ) -> None:
        """Set how a link behaves, in one or both directions. A host is an index or the word "client"."""
        conditions = Conditions(cut=cut, latency_s=latency_s, jitter_s=jitter_s, loss=loss)
        ends = (self._host(source), self._host(target))
        changes = [(*ends, conditions)]
        if both:
            changes.append((ends[1], ends[0], conditions))
        await self._network.set(changes)

    async def reset(self, a: int | str | None = None, b: int | str | None = None) -> int:
        """Reset the TCP connections between two hosts, or all that pass a proxy; return how many."""
        if self._kind == "direct":
            raise LabError("this cluster's network is direct, so nothing can be done to it")
        hosts = [None if host is None else self._host(host) for host in (a, b)]
        return int(await self._keeper.call("reset", a=hosts[0], b=hosts[1]))

    async def heal(self) -> None:
        """Let everything through again: no cuts, no latency, no loss."""
        await self._network.heal()

    def _host(self, host: int | str) -> str:
        if isinstance(host, int):
            return self._chosen([host])[0].name
        if host != CLIENT:
            raise LabError(f"a host is the index of a member or {CLIENT!r}, not {host!r}")
        return host

    # Waiting

    async def _until(
        self,
        ask: Callable[[], Awaitable[T]],
        what: str,
        members: Sequence[Member],
        within_s: float | None = None,
    ) -> T:
        limit_s = self._timeout_s if within_s is None else within_s
        said = "nothing"
        pause_s, longest_s = _POLL_S
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    try:
                        return await ask()
                    except NotYet as error:
                        said = str(error)
                    self._check_alive(members, what)
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * _POLL_GROWTH, longest_s)
        except TimeoutError:
            logs = "\n".join(tail(member.log) for member in members)
            raise LabError(f"waited {limit_s:g} s for {what}; last heard: {said}\n{logs}") from None

    def _check_alive(self, members: Sequence[Member], what: str) -> None:
        for member in members:
            code = self._keeper.exit_code(member.name)
            if member.state == "running" and code is not None:
                member.state, member.pid = "stopped", None
                if len(members) == 1:
                    raise LabError(f"{member.name} ended with {code}, awaited was {what}\n{tail(member.log)}")
