"""Valkey and Redis: one member, or a primary with two replicas of which one is promoted by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..errors import Outcome
from ._admin import NotYet, redis_command
from .engine import Engine, Member
from .errors import LabError

__all__ = ["Redis", "Valkey"]


class Redis(Engine):
    """`redis-server`. Settings are those of redis.conf.

    `appendfsync always` keeps on one member what it acknowledged; no setting keeps it across a promotion,
    since replication is asynchronous. A former primary that comes back is a replica of the present one.
    """

    name = "redis"
    scheme = "redis"
    votes = False

    _primary: Member | None = None

    @property
    def primary(self) -> Member:
        """The first member, or the one that was promoted last."""
        return self._primary if self._primary is not None else self.site.members[0]

    async def prepare(self, member: Member) -> None:
        """Nothing: the configuration is written before each start, since the roles change."""

    async def command(self, member: Member) -> list[str]:
        network, options, made = self.site.network, self.site.options, self.site.certificates
        here = network.listening(member.name, "client")
        settings = {
            "bind": here.host,
            "port": str(here.port),
            "dir": str(member.data),
            "protected-mode": "no",
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
            "repl-timeout": "5",
        }
        if made is not None:
            settings |= {"port": "0", "tls-port": str(here.port), "tls-replication": "yes"}
            settings |= {"tls-cert-file": str(made.certificate), "tls-key-file": str(made.key)}
            settings |= {"tls-ca-cert-file": str(made.ca)}
        if options.user is not None and options.password is not None:
            settings |= {"masteruser": options.user, "masterauth": options.password}
        if member is not self.primary:
            peer = await network.peer(member.name, self.primary.name, "client")
            settings["replicaof"] = f"{peer.host} {peer.port}"
        settings |= options.settings
        lines = [f"{name} {_arguments(name, value)}" for name, value in settings.items()]
        if options.user is not None:
            lines.append(f"user {_quoted(options.user)} on {_quoted(f'>{options.password}')} ~* &* +@all")
            lines.append("user default off")
        path = member.data.parent / f"{self.name}.conf"
        path.write_text("\n".join(lines) + "\n")
        return [str(self.binary.path), str(path)]

    async def _ask(self, member: Member, *words: str) -> str:
        options = self.site.options
        login = (options.user, options.password) if options.user and options.password else ()
        address = await self.site.network.admin(member.name, "client")
        return await redis_command(address, *words, login=login, tls=self.site.trust())

    async def _replication(self, member: Member) -> dict[str, str]:
        text = await self._ask(member, "INFO", "replication")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    async def check_ready(self, member: Member) -> None:
        state = await self._replication(member)
        if await self._ask(member, "PING") != "+PONG":
            raise NotYet("no answer to PING")
        if state["role"] == "slave" and state.get("master_link_status") != "up":
            raise NotYet(f"{member.name} has no link to its primary: {state.get('master_link_status')}")

    async def find_leader(self, candidates: Sequence[Member], of: str | None = None) -> Member:
        async def leads(member: Member) -> bool:
            try:
                return (await self._replication(member))["role"] == "master"
            except NotYet:
                return False

        answers = await asyncio.gather(*map(leads, candidates))
        leading = [member for member, yes in zip(candidates, answers, strict=True) if yes]
        if not leading:
            raise NotYet("no primary runs, and none is elected: promote a replica with cluster.promote(1)")
        # Redis counts no terms; of two primaries the newer is the one that the lab promoted last.
        return self.primary if self.primary in leading else leading[0]

    async def promote(self, member: Member) -> None:
        try:
            await self._ask(member, "REPLICAOF", "NO", "ONE")
            former, self._primary = self.primary, member
            for other in self.site.members:
                if other.state == "running" and other not in {member, former}:
                    peer = await self.site.network.peer(other.name, member.name, "client")
                    await self._ask(other, "REPLICAOF", peer.host, str(peer.port))
        except NotYet as error:
            raise LabError(
                f"the promotion of {member.name} failed: {error}", outcome=Outcome.UNKNOWN
            ) from error


class Valkey(Redis):
    """`valkey-server`, which speaks Redis' protocol."""

    name = "valkey"


def _arguments(name: str, value: str) -> str:
    # Two settings of the lab's take several words; a path or password may hold a blank.
    return value if name in {"bind", "replicaof", "save"} and value else _quoted(value)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
