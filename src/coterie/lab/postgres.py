"""PostgreSQL: one member, or a primary with two streaming replicas of which one is promoted by hand."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from ..errors import Outcome
from ._admin import NotYet
from .engine import Engine, Member
from .errors import LabError

__all__ = ["Postgres"]

_DATABASE = "coterie"
_QUERY_S = 3.0


class Postgres(Engine):
    """`postgres`. Settings are those of postgresql.conf.

    Replication is asynchronous unless `synchronous_standby_names` says otherwise, as in most installations:
    a replica that is promoted may lack what the old primary acknowledged. A former primary that comes back
    is laid out anew as a replica, since its history may differ; one that still runs when another is
    promoted goes on as a primary, as it would anywhere.
    """

    name = "postgres"
    scheme = "postgresql"
    sheds_root = True
    votes = False
    # Fast: breaks off transactions and writes everything; SIGTERM would wait until clients leave.
    stop_signal = signal.SIGINT

    _primary: Member | None = None
    _numbers = itertools.count()

    @property
    def primary(self) -> Member:
        """The first member, or the one that was promoted last."""
        return self._primary if self._primary is not None else self.site.members[0]

    @property
    def _user(self) -> str:
        return self.site.options.user or "postgres"

    def login(self) -> str:
        return super().login() or f"{self._user}@"

    def path(self, members: Sequence[Member]) -> str:
        # Clients of a cluster look for the member that takes writes.
        return f"/{_DATABASE}" + ("?target_session_attrs=read-write" if len(members) > 1 else "")

    async def start_all(
        self,
        launch: Callable[[Member], Awaitable[None]],
        wait_ready: Callable[[Sequence[Member]], Awaitable[None]],
    ) -> None:
        first, *replicas = self.site.members
        await self.prepare(first)
        for replica in replicas:
            # A primary that never ran can be copied as it is, in a fraction of the time of a backup.
            await asyncio.to_thread(shutil.copytree, first.data, replica.data, dirs_exist_ok=True)
            (replica.data / "standby.signal").touch()
        for member in self.site.members:
            await launch(member)
        await wait_ready(self.site.members)
        await self._query(first, f"CREATE DATABASE {_DATABASE}")

    async def prepare(self, member: Member) -> None:
        await self._initialize(member)

    async def prepare_again(self, member: Member) -> None:
        if member is not self.primary and not (member.data / "standby.signal").exists():
            shutil.rmtree(member.data)
            await self._copy_primary(member)

    async def _initialize(self, member: Member) -> None:
        options = self.site.options
        secret = member.data.parent / "password"
        secret.write_text(options.password or "unused")
        await self._run(
            "initdb", "-D", str(member.data), "-U", self._user, "-A", "trust", "--pwfile", str(secret),
            "--encoding=UTF8", "--locale=C", "--no-sync",
            log=member.log,
        )  # fmt: skip
        secret.unlink()
        with (member.data / "postgresql.conf").open("a") as file:
            # Beside the data, so that a copy of it brings the file's name and not its content along.
            file.write("include = '../lab.conf'\n")
        host = "hostssl" if options.tls else "host"
        method = "scram-sha-256" if options.password is not None else "trust"
        if options.tls:
            method += " clientcert=verify-ca"
        rules = [f"{host} {what} all samenet {method}" for what in ("all", "replication")]
        # The lab itself comes by a socket in the members' folders, which no fault of the network touches.
        rules += ["local all all trust", "local replication all trust"]
        (member.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")

    async def _copy_primary(self, member: Member) -> None:
        socket = self.primary.data.parent
        await self._run(
            "pg_basebackup", "-D", str(member.data), "-h", str(socket), "-p", str(self._port(self.primary)),
            "-U", self._user, "--checkpoint=fast", "--wal-method=stream", "--no-sync",
            log=member.log,
        )  # fmt: skip
        (member.data / "standby.signal").touch()

    async def _run(self, program: str, *arguments: str, log: Path) -> None:
        command = [str(self.binary.beside(program)), *arguments]
        await self.site.keeper.run(command, log=log, env=self.environment(), shed_root=True)

    def _port(self, member: Member) -> int:
        return self.site.network.listening(member.name, "client").port

    async def command(self, member: Member) -> list[str]:
        await self._configure(member)
        return [str(self.binary.path), "-D", str(member.data)]

    async def _configure(self, member: Member) -> None:
        network, options, made = self.site.network, self.site.options, self.site.certificates
        here = network.listening(member.name, "client")
        settings = {
            "listen_addresses": here.host,
            "port": str(here.port),
            "unix_socket_directories": str(member.data.parent),
            "cluster_name": member.name,
            "max_connections": "200",
            "shared_buffers": "64MB",
            # Nothing outside of the folder that a crash could leave behind.
            "dynamic_shared_memory_type": "mmap",
            # For replicas that were away, and for those that are being made.
            "wal_keep_size": "256MB",
            "wal_sender_timeout": "5s",
            "wal_receiver_timeout": "5s",
            "wal_retrieve_retry_interval": "500ms",
            # The defaults, spelled out since so much hangs on them.
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
        }
        tls = ""
        if made is not None:
            settings |= {"ssl": "on", "ssl_cert_file": str(made.certificate), "ssl_key_file": str(made.key)}
            settings |= {"ssl_ca_file": str(made.ca)}
            tls = f" sslmode=verify-ca sslrootcert={made.ca} sslcert={made.certificate} sslkey={made.key}"
        if member is not self.primary:
            peer = await network.peer(member.name, self.primary.name, "client")
            password = f" password={_quoted(options.password)}" if options.password is not None else ""
            settings["primary_conninfo"] = (
                f"host={peer.host} port={peer.port} user={_quoted(self._user)}{password} "
                f"application_name={_quoted(member.name)}{tls}"
            )
        settings |= options.settings
        text = "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        (member.data.parent / "lab.conf").write_text(text)

    async def _query(self, member: Member, statement: str) -> str:
        """Return what `psql` prints, asked through the member's local socket. Raises NotYet if it fails."""
        output = member.data.parent / f"psql-{next(self._numbers)}"
        command = [
            str(self.binary.beside("psql")), "--no-psqlrc", "-Atq", "-v", "ON_ERROR_STOP=1",
            "-h", str(member.data.parent), "-p", str(self._port(member)),
            "-U", self._user, "-d", "postgres", "-c", statement,
        ]  # fmt: skip
        try:
            await self.site.keeper.run(command, log=output, env=self.environment(), within_s=_QUERY_S)
            return output.read_text().strip()
        except LabError as error:
            raise NotYet(error.message) from error
        finally:
            output.unlink(missing_ok=True)

    async def check_ready(self, member: Member) -> None:
        if member is self.primary:
            await self._query(member, "SELECT 1")
            return
        streams = await self._query(
            member, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        )
        if streams != "1":
            raise NotYet(f"{member.name} does not stream from {self.primary.name}")

    async def find_leader(self, candidates: Sequence[Member], of: str | None = None) -> Member:
        timeline = "left(pg_walfile_name(pg_current_wal_lsn()), 8)"

        async def ask(member: Member) -> str:
            try:
                return await self._query(
                    member, f"SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE {timeline} END"
                )
            except NotYet:
                return ""

        # Each promotion begins a timeline, so of two primaries the one with the higher number is the newer.
        timelines = dict(zip(await asyncio.gather(*map(ask, candidates)), candidates, strict=True))
        newest = max(timelines, default="")
        if not newest:
            raise NotYet("no primary runs; PostgreSQL elects none: promote a replica with cluster.promote(1)")
        return timelines[newest]

    async def promote(self, member: Member) -> None:
        try:
            done = await self._query(member, "SELECT pg_promote(true, 2)")
        except NotYet as error:
            raise LabError(f"{member.name} was not promoted: {error}", outcome=Outcome.UNKNOWN) from error
        if done != "t":
            raise LabError(f"{member.name} was not promoted within 2 s", outcome=Outcome.UNKNOWN)
        self._primary = member
        for other in self.site.members:
            replica = (other.data / "standby.signal").exists()
            if replica and other is not member:
                await self._configure(other)
                if other.state == "running":
                    await self._query(other, "SELECT pg_reload_conf()")


def _quoted(value: str) -> str:
    # Both postgresql.conf and connection strings read quotes so, but a backslash only before a quote.
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
