"""Where members listen, and how each host reaches them: directly, through proxies, or from namespaces.

| network      | privilege | between members and clients | faults                                     |
|--------------|-----------|-----------------------------|--------------------------------------------|
| `direct`     | none      | loopback                    | none; nothing in the way, for benchmarks   |
| `proxy`      | none      | a proxy on each link        | cuts, latency, loss, resets                |
| `namespaces` | root      | a bridge, and for clients a | cuts and loss in the kernel; latency and   |
|              |           | proxy that enters it        | resets on the links of clients             |

The lab's own questions (who leads, are you ready) take a way that no fault touches.
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from .errors import LabError
from .process import KeeperHandle

__all__ = ["CLIENT", "Address", "Conditions", "Network", "NetworkKind"]

NetworkKind = Literal["direct", "proxy", "namespaces"]

CLIENT = "client"
"""The host that stands for all programs which use the cluster."""

_ADMIN = "admin"
# Below the range from which the kernel takes ports for outgoing connections: a member that is down must
# find its port free when it comes back.
_PORTS = range(20_000, 32_000)


class Address(NamedTuple):
    """A host and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How one direction between two hosts behaves.

    `latency_s` and up to `jitter_s` more delay each segment; `loss` is the share of segments that is lost
    (TCP repeats them, which costs time); `cut` lets nothing through.
    """

    cut: bool = False
    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        if self.latency_s < 0 or self.jitter_s < 0 or not 0 <= self.loss < 1:
            raise LabError("latency_s and jitter_s are not negative, and loss is at least 0 and below 1")


class Network:
    """The addresses and links of one cluster."""

    def __init__(self, kind: NetworkKind, keeper: KeeperHandle, hosts: Sequence[str]) -> None:
        self.kind = kind
        self.hosts: tuple[str, ...] = tuple(hosts)
        self._keeper = keeper
        self._chance = random.SystemRandom()
        self._ip = dict.fromkeys([*hosts, CLIENT], "127.0.0.1")
        self._reserved: list[socket.socket] = []
        self._listening: dict[tuple[str, str], Address] = {}
        self._proxied: dict[tuple[str | None, str, str], Address] = {}
        self._links: dict[tuple[str, str], Conditions] = {}

    async def setup(self) -> None:
        """Make what the kind of network needs."""
        if self.kind == "namespaces":
            self._ip = await self._keeper.call("namespaces", hosts=[*self.hosts, CLIENT])

    def listening(self, host: str, port: str) -> Address:
        """Return where the member on `host` listens for what the engine calls `port`."""
        if (host, port) not in self._listening:
            self._listening[host, port] = Address(self._ip[host], self._free_port())
        return self._listening[host, port]

    def _free_port(self) -> int:
        """Return a port that nobody uses, and keep other laboratories off it until `close`."""
        for _ in range(200):
            port = self._chance.choice(_PORTS)
            reservation = socket.socket()
            try:
                # Without SO_REUSEADDR, so that one which another laboratory reserved is refused.
                reservation.bind(("127.0.0.1", port))
            except OSError:
                reservation.close()
                continue
            if sys.platform == "linux":
                # With it, Linux lets the member listen beside a socket that is bound and does not.
                reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._reserved.append(reservation)
            else:
                reservation.close()
            return port
        raise LabError(f"no free TCP port between {_PORTS.start} and {_PORTS.stop}")

    def close(self) -> None:
        """Let others have the ports."""
        for reservation in self._reserved:
            reservation.close()
        self._reserved.clear()

    async def client(self, host: str, port: str) -> Address:
        """Return where clients reach `port` of `host`; the same during the cluster's life."""
        if self.kind == "direct":
            return self.listening(host, port)
        return await self._proxy(CLIENT, host, port, via=CLIENT)

    async def peer(self, source: str | None, host: str, port: str) -> Address:
        """Return where the member on `source` reaches `port` of `host`.

        For engines that give all members one address of each, `source` is None: a proxy then asks the
        kernel which member calls, which works on Linux only.
        """
        if self.kind != "proxy":
            return self.listening(host, port)
        return await self._proxy(source, host, port, via=None)

    async def admin(self, host: str, port: str) -> Address:
        """Return where the lab itself reaches `port` of `host`, whatever the faults."""
        if self.kind != "namespaces":
            return self.listening(host, port)
        return await self._proxy(_ADMIN, host, port, via=host)

    async def _proxy(self, source: str | None, host: str, port: str, *, via: str | None) -> Address:
        key = (source, host, port)
        if key not in self._proxied:
            target = self.listening(host, port)
            listening = self._free_port()
            await self._keeper.call(
                "proxy",
                target=target.host,
                port=target.port,
                host=host,
                source=source,
                via=via,
                listen=listening,
            )
            self._proxied[key] = Address("127.0.0.1", listening)
        return self._proxied[key]

    def cut(self, source: str, target: str) -> bool:
        """Return whether nothing passes from `source` to `target`."""
        return self._links.get((source, target), Conditions()).cut

    async def set(self, changes: Iterable[tuple[str, str, Conditions]]) -> None:
        """Set the conditions of some links; the others stay as they are."""
        if self.kind == "direct":
            raise LabError(
                "this cluster's network is direct, so nothing can be done to it",
                hint="start it with network='proxy' or, as root, network='namespaces'",
            )
        links = dict(self._links)
        for source, target, conditions in changes:
            slow = conditions.latency_s or conditions.jitter_s
            if self.kind == "namespaces" and slow and CLIENT not in {source, target}:
                raise LabError("latency between members needs network='proxy'")
            links[source, target] = conditions
        self._links = {ends: conditions for ends, conditions in links.items() if conditions != Conditions()}
        await self._apply()

    async def heal(self) -> None:
        """Let everything through again."""
        if self._links:
            self._links = {}
            await self._apply()

    async def _apply(self) -> None:
        listed = [
            {"source": source, "target": target, **asdict(conditions)}
            for (source, target), conditions in self._links.items()
        ]
        await self._keeper.call("links", conditions=listed)

    def conditions(self, source: str, target: str) -> Conditions:
        """Return how the link from `source` to `target` behaves now."""
        return self._links.get((source, target), Conditions())
