"""NATS with JetStream. What is acknowledged is on disk: `sync_interval: always`, not every two minutes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from ._admin import NotYet, http_json
from .engine import Engine, Member

__all__ = ["Nats"]


class Nats(Engine):
    """`nats-server`. The leader is that of JetStream's meta group, which places streams.

    Settings named `jetstream.x`, `cluster.x` go into these blocks, others to the top of the configuration.
    """

    name = "nats"
    scheme = "nats"
    takes_token = True

    async def prepare(self, member: Member) -> None:
        network = self.site.network
        blocks: dict[str, dict[str, Any]] = {
            "": {
                "server_name": member.name,
                "listen": str(network.listening(member.name, "client")),
                "http": str(network.listening(member.name, "http")),
            },
            "jetstream": {"store_dir": str(member.data), "sync_interval": "always"},
        }
        options = self.site.options
        if options.token is not None:
            blocks["authorization"] = {"token": options.token}
        elif options.user is not None:
            blocks["authorization"] = {"user": options.user, "password": options.password}
        tls = {}
        if (made := self.site.certificates) is not None:
            tls = {"cert_file": str(made.certificate), "key_file": str(made.key), "ca_file": str(made.ca)}
            blocks["tls"] = {**tls, "verify": True}
        if self.size > 1:
            routes = [
                f"nats-route://{await network.peer(member.name, other.name, 'cluster')}"
                for other in self.site.members
                if other is not member
            ]
            blocks["cluster"] = {
                "name": "coterie-lab",
                "listen": str(network.listening(member.name, "cluster")),
                # Clients and members know each other by the addresses that the lab gives them; those that
                # the servers would tell do not lead through its proxies.
                "no_advertise": True,
                "routes": routes,
            }
            if network.kind == "proxy":
                # Members tell each other where the others listen, and one that hears of it may connect
                # before its own route does. That has to be through the proxy too.
                blocks["cluster"]["advertise"] = str(await network.peer(None, member.name, "cluster"))
            if tls:
                blocks["cluster"]["tls"] = tls
        for name, value in options.settings.items():
            block, _, key = name.rpartition(".")
            blocks.setdefault(block, {})[key] = _setting(value)
        (member.data.parent / "nats.conf").write_text(_configuration(blocks))

    async def command(self, member: Member) -> list[str]:
        return [str(self.binary.path), "--config", str(member.data.parent / "nats.conf")]

    async def check_ready(self, member: Member) -> None:
        health = await self._ask(member, "/healthz")
        if health.get("status") != "ok":
            raise NotYet(f"/healthz: {health}")
        if self.size > 1:
            meta = (await self._ask(member, "/jsz")).get("meta_cluster") or {}
            if not meta.get("leader") or meta.get("cluster_size") != self.size:
                raise NotYet(f"no leader of JetStream yet: {meta}")
            await self._check_routes(member)

    async def _check_routes(self, member: Member) -> None:
        """Demand that `member` is connected to all others it can reach, and as often to each of them.

        A route that failed is tried again after a second. Until then its two ends do not know each other's
        subscriptions.
        """
        network = self.site.network
        reached = [
            other.name
            for other in self.site.members
            if other is not member
            and other.state == "running"
            and not (network.cut(member.name, other.name) or network.cut(other.name, member.name))
        ]
        routes = Counter(route["remote_name"] for route in (await self._ask(member, "/routez"))["routes"])
        if len({routes[name] for name in reached}) > 1 or any(not routes[name] for name in reached):
            raise NotYet(f"not all routes yet: {dict(routes)}")

    async def _ask(self, member: Member, path: str) -> dict[str, Any]:
        return dict(await http_json(await self.site.network.admin(member.name, "http"), path))

    async def find_leader(self, candidates: Sequence[Member], of: str | None = None) -> Member:
        if self.size == 1 and candidates:
            return candidates[0]
        if of is None:
            return await self._lead_of("$SYS", "_meta_", candidates)
        return await self._lead_of_stream(of, candidates)

    async def _lead_of_stream(self, stream: str, candidates: Sequence[Member]) -> Member:
        """Return who leads the Raft group of `stream`, which all writes to it go through."""
        for member in candidates:
            with suppress(NotYet):
                reply = await self._ask(member, "/jsz?accounts=true&streams=true&raft=true")
                for account in reply.get("account_details") or []:
                    for detail in account.get("stream_detail") or []:
                        if detail["name"] == stream:
                            group = detail.get("stream_raft_group")
                            # A stream of one replica has no group, and is where it is found.
                            return (
                                await self._lead_of(account["name"], group, candidates) if group else member
                            )
        raise NotYet(f"no member has a stream {stream!r}")

    async def _lead_of(self, account: str, group: str, candidates: Sequence[Member]) -> Member:
        async def ask(member: Member) -> tuple[int, bool]:
            with suppress(NotYet):
                reply = await self._ask(member, f"/raftz?acc={account}&group={group}")
                state = reply.get(account, {}).get(group, {})
                return int(state.get("term", 0)), state.get("state") == "LEADER"
            return 0, False

        # One that was cut off may still believe that it leads, but in an older term.
        answers = await asyncio.gather(*map(ask, candidates))
        newest = max((term for term, _ in answers), default=0)
        for member, (term, leads) in zip(candidates, answers, strict=True):
            if leads and term == newest:
                return member
        raise NotYet(f"no member says that it leads {group}")

    def engine_url(self, members: Sequence[Member]) -> str:
        if self.site.options.settings.get("jetstream.sync_interval", "always") != "always":
            return self.url(members)
        # Where members tell that they sync what they acknowledge, so that no less is promised.
        monitors = (f"http://{self.site.network.listening(member.name, 'http')}" for member in members)
        return f"{self.url(members)}?monitor={','.join(monitors)}"

    def login(self) -> str:
        token = self.site.options.token
        return f"{quote(token, safe='')}@" if token is not None else super().login()


def _configuration(blocks: dict[str, dict[str, Any]]) -> str:
    lines: list[str] = []
    for block, settings in blocks.items():
        inside = [f"{key}: {_value(value)}" for key, value in settings.items()]
        lines += [f"{block} {{", *(f"  {line}" for line in inside), "}"] if block else inside
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    # Quoted always: the servers read a bare 2m as two million.
    return json.dumps(value, ensure_ascii=False)


def _setting(text: str) -> str | int | bool:
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if text.isdigit() else text
