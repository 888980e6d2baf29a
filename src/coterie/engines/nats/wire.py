"""`NatsWire`: the Wire port over core NATS, for nodes that reach NATS and not each other.

A call costs two hops, through the servers, in place of one. See `wire_session` for what takes the place of
a connection, and `_wire_order` for what is larger than a message of NATS may be.
"""

from __future__ import annotations

import asyncio
import re
from typing import Self

from ...errors import InvalidConfiguration, Outcome, Unavailable
from ...ports.entropy import Entropy
from ...ports.wire import Handlers, WireGuarantees
from .config import NatsConfig
from .guarantees import wire_guarantees
from .wire_channel import NatsChannel
from .wire_link import WireLimits, WireLink
from .wire_listener import NatsListener

__all__ = ["NatsWire", "WireLimits"]

_ADDRESS = re.compile(r"nats:([A-Za-z0-9_-]{1,64})")


class NatsWire:
    """Carries calls between nodes that share NATS servers and a prefix. `NatsWire.open` makes it.

    An address is `nats:NAME`, and `nats:0` stands for any free name.
    """

    def __init__(self, link: WireLink, entropy: Entropy) -> None:
        self._link = link
        self._entropy = entropy
        self._closed = False
        self._listeners: list[NatsListener] = []
        self._channels: set[NatsChannel] = set()
        config = link.config
        self._guarantees = wire_guarantees(
            max_body_bytes=link.limits.max_body_bytes,
            encrypted=config.tls,
            authenticated=bool(config.user or config.token or config.creds_file or config.cert_file),
        )

    @classmethod
    async def open(cls, config: NatsConfig, entropy: Entropy, *, limits: WireLimits | None = None) -> Self:
        """Connect to the servers.

        Raises:
            InvalidConfiguration: the servers take messages of an unsuitable size.
            PermissionDenied: they do not let this user in.
            Unavailable: none can be reached.
        """
        link = WireLink(config, entropy, limits or WireLimits())
        await link.open()
        return cls(link, entropy)

    @property
    def guarantees(self) -> WireGuarantees:
        return self._guarantees

    async def listen(self, address: str, handlers: Handlers) -> NatsListener:
        name = _name(address)
        if self._closed:
            raise Unavailable("this wire is closed", outcome=Outcome.NOT_APPLIED)
        if name == "0":
            name = self._entropy.secret(8).hex()
        subject = self._subject(name)
        # Two that take a name at the same moment may both get it: a caller then keeps to one of them.
        if subject in self._link.served or await self._link.probe(subject):
            raise InvalidConfiguration(
                f"cannot listen at {address}: it is in use", hint="take another name, or nats:0 for any"
            )
        listener = NatsListener(f"nats:{name}", subject, handlers, self._link)
        await self._link.serve(subject, listener.greet)
        self._link.name = listener.address
        self._listeners = [known for known in self._listeners if not known.closed]
        self._listeners.append(listener)
        return listener

    def connect(self, address: str) -> NatsChannel:
        channel = NatsChannel(address, self._subject(_name(address)), self._link, closed=self._closed)
        self._channels = {known for known in self._channels if not known.closed}
        self._channels.add(channel)
        return channel

    def _subject(self, name: str) -> str:
        return f"{self._link.space}.at.{name}"

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(*(channel.close() for channel in self._channels))
        await asyncio.gather(*(listener.close() for listener in self._listeners))
        self._channels.clear()
        self._listeners.clear()
        await self._link.close()


def _name(address: str) -> str:
    """Return the name in `address`; raise `InvalidConfiguration` when it is no address of this wire."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InvalidConfiguration(
            f"an address on this wire is nats:NAME, with up to 64 letters, digits, - and _, not {address!r}",
            hint="nats:0 takes any free name; all nodes of a cluster must use the same wire",
        )
    return found[1]
