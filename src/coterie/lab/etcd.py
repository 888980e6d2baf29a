"""etcd. Every write is on the disks of a majority before it is acknowledged; the lab leaves that so."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

from ._admin import NotYet, http_json
from .engine import Engine, Member
from .errors import LabError

__all__ = ["Etcd"]


class Etcd(Engine):
    """`etcd`. Settings are flags without their dashes, such as `heartbeat-interval`."""

    name = "etcd"
    scheme = "etcd"

    _token: str | None = None

    async def prepare(self, member: Member) -> None:
        """Nothing: etcd takes all it needs from its flags."""

    async def command(self, member: Member) -> list[str]:
        network, made = self.site.network, self.site.certificates
        http = "https" if made is not None else "http"
        # All members must be told the same address of each, so that one is shared by all that call it.
        peers = {
            other.name: f"{http}://{await network.peer(None, other.name, 'peer')}"
            for other in self.site.members
        }
        flags = {
            "name": member.name,
            "data-dir": str(member.data),
            "listen-client-urls": f"{http}://{network.listening(member.name, 'client')}",
            "advertise-client-urls": f"{http}://{member.address}",
            "listen-peer-urls": f"{http}://{network.listening(member.name, 'peer')}",
            "initial-advertise-peer-urls": peers[member.name],
            "initial-cluster": ",".join(f"{name}={url}" for name, url in peers.items()),
            "initial-cluster-state": "new",
            "initial-cluster-token": "coterie-lab",
            "log-level": "warn",
        }
        if made is not None:
            for kind in ("", "peer-"):
                flags[f"{kind}cert-file"], flags[f"{kind}key-file"] = str(made.certificate), str(made.key)
                flags[f"{kind}trusted-ca-file"], flags[f"{kind}client-cert-auth"] = str(made.ca), "true"
        flags |= self.site.options.settings
        return [str(self.binary.path), *(f"--{flag}={value}" for flag, value in flags.items())]

    async def _ask(self, member: Member, path: str, body: dict[str, Any]) -> dict[str, Any]:
        address = await self.site.network.admin(member.name, "client")
        headers = {"Authorization": self._token} if self._token is not None else {}
        return dict(await http_json(address, path, body, tls=self._tls(), headers=headers))

    def _tls(self) -> ssl.SSLContext | None:
        return self.site.trust()

    async def check_ready(self, member: Member) -> None:
        status = await self._ask(member, "/v3/maintenance/status", {})
        if not int(status.get("leader", 0)):
            raise NotYet(f"no leader yet: {status}")
        if status.get("errors"):
            raise NotYet(f"errors: {status['errors']}")

    async def find_leader(self, candidates: Sequence[Member], of: str | None = None) -> Member:
        async def ask(member: Member) -> tuple[int, bool]:
            try:
                status = await self._ask(member, "/v3/maintenance/status", {})
            except NotYet:
                return (0, False)
            return int(status.get("raftTerm", 0)), status.get("leader") == status["header"]["member_id"]

        # One that was cut off may still believe that it leads, but in an older term.
        answers = await asyncio.gather(*map(ask, candidates))
        newest = max((term for term, _ in answers), default=0)
        for member, (term, leads) in zip(candidates, answers, strict=True):
            if leads and term == newest:
                return member
        raise NotYet("no member says that it leads")

    async def finish(self) -> None:
        """Add the user, as `root`'s peer, and demand passwords."""
        options = self.site.options
        if options.user is None:
            return
        first = self.site.members[0]
        names = dict.fromkeys(["root", options.user])
        try:
            await self._ask(first, "/v3/auth/role/add", {"name": "root"})
            for name in names:
                await self._ask(first, "/v3/auth/user/add", {"name": name, "password": options.password})
                await self._ask(first, "/v3/auth/user/grant", {"user": name, "role": "root"})
            await self._ask(first, "/v3/auth/enable", {})
            login = {"name": options.user, "password": options.password}
            self._token = (await self._ask(first, "/v3/auth/authenticate", login))["token"]
        except NotYet as error:
            raise LabError(f"etcd's users could not be set up: {error}") from error
