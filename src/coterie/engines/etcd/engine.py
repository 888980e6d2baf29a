"""`EtcdEngine`: a node's way to one etcd cluster."""

from __future__ import annotations

import asyncio

from ...errors import PermissionDenied
from ...ports.clock import Clock
from ...ports.entropy import Entropy
from .client import Client
from .config import EtcdConfig
from .guarantees import guarantees
from .messages import first_text, members_of, range_request
from .store import EtcdStore

__all__ = ["EtcdEngine", "open_engine"]

_STATUS = "/etcdserverpb.Maintenance/Status"
_MEMBERS = "/etcdserverpb.Cluster/MemberList"
_RANGE = "/etcdserverpb.KV/Range"


class EtcdEngine:
    """`Engine` on etcd: a Store, over one HTTP/2 connection to one member at a time."""

    name = "etcd"
    log = None

    def __init__(self, config: EtcdConfig, entropy: Entropy) -> None:
        self.config: EtcdConfig = config
        self.client: Client = Client(config, entropy)
        self._ending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reach a member and see who is there. Raises as `open_engine` says."""
        client = self.client
        try:
            # Reading needs a leader and the login, so what comes after it will be answered.
            request = range_request(f"{self.config.prefix}/k/".encode(), keys_only=True)
            await client.call(_RANGE, request, patient=False)
            version = first_text(await self._ask(_STATUS), 2)
            members = members_of(await self._ask(_MEMBERS))
        except BaseException:
            await client.close()
            raise
        self.store: EtcdStore = EtcdStore(self, guarantees(members, version))

    async def _ask(self, method: str) -> bytes:
        try:
            return await self.client.call(method, b"", patient=False)
        except PermissionDenied:
            return b""  # It is not known, then, and nothing is promised that rests on it.

    def statistics(self) -> dict[str, int | float | str]:
        return {
            "store_watches": len(self.store.watches),
            "member": self.config.endpoints[self.client.member],
            "member_switches": self.client.switches,
        }

    async def close(self) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._close())
        await asyncio.shield(self._ending)

    async def _close(self) -> None:
        await self.store.close()
        await self.client.close()


async def open_engine(url: str, *, clock: Clock, entropy: Entropy) -> EtcdEngine:
    """Open the engine at `url`; see `EtcdConfig.from_url`.

    Raises `InvalidConfiguration` for a URL that cannot be right, `PermissionDenied` for a refused login,
    `Unavailable` when no member answers or there is no leader.
    """
    engine = EtcdEngine(EtcdConfig.from_url(url), entropy)
    await engine.open()
    return engine
