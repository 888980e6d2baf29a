"""What all bindings of a node share: the view of the cluster, and one channel an address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..ports.wire import Channel, Wire
from ._routing import Endpoint

__all__ = ["CallConfig", "Channels", "Directory"]


class Directory(Protocol):
    """Knows the live endpoints of each service."""

    def endpoints(self, service: str) -> Sequence[Endpoint]:
        """Return those that take calls now: the same object as long as nothing changed.

        Must be quick: it is asked at every call.
        """
        ...

    async def wait_changed(self) -> None:
        """Return when what `endpoints` returns may have changed."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CallConfig:
    """The bounds of a call."""

    timeout_s: float | None = None
    """The deadline of a call whose caller has none; None leaves it to the policy of the method."""
    patience_s: float = 2.0
    """How long a call waits for an endpoint when there is none, or none that can be reached."""

    def __post_init__(self) -> None:
        if self.timeout_s is not None and not 0 < self.timeout_s <= 86400:
            raise ValueError(f"not usable bounds of a call: {self}")
        if not 0 <= self.patience_s <= 3600:
            raise ValueError(f"not usable bounds of a call: {self}")


class Channels:
    """One channel an address, shared by all services of a node."""

    __slots__ = ("_channels", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._channels: dict[str, Channel] = {}

    def get(self, address: str) -> Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._wire.connect(address)
        return channel

    async def retain(self, addresses: Iterable[str]) -> None:
        """Close the channels to all other addresses that have nothing under way."""
        keep = set(addresses)
        idle = [a for a, c in self._channels.items() if a not in keep and not c.pending]
        # All are taken out before any is closed: the view may change again meanwhile.
        for channel in [self._channels.pop(address) for address in idle]:
            await channel.close()

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()
