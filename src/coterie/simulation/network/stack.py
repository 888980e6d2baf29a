"""A host's network stack: its address, its ports, and what the kernel does when a process dies."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fabric import Fabric
    from .tcp import Endpoint, Listener
    from .udp import Port

__all__ = ["Stack", "os_error"]

_EPHEMERAL = range(32768, 61000)


def os_error(number: int, text: str = "") -> OSError:
    """Return the exception that the kernel's error `number` is in Python."""
    return OSError(number, text or os.strerror(number))


class Stack:
    """What a kernel keeps for the network. Ports are shared by all processes of the host."""

    def __init__(self, fabric: Fabric, name: str, number: int, address: str) -> None:
        self.fabric = fabric
        self.name = name
        self.number = number
        self.address = address
        self.up: bool = True
        """Whether the machine has power."""
        self.boots: int = 0
        """How often it was booted: a connection of an earlier boot is unknown to this one."""
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.unix: dict[str, Listener] = {}
        self.ports: dict[tuple[str, int], Port] = {}
        self.endpoints: dict[Endpoint, None] = {}
        self._next_port = _EPHEMERAL.start

    def __repr__(self) -> str:
        return f"Stack({self.name!r}, {self.address})"

    def owns(self, address: str) -> bool:
        """Whether a program of this host may bind `address`."""
        return address in {self.address, "0.0.0.0", ""} or address.startswith("127.")  # noqa: S104

    def local_address(self, target: str) -> str:
        """Return the address of this host as `target` sees it."""
        return target if target.startswith("127.") else self.address

    def free_port(self, datagrams: bool = False) -> int:
        """Return a port that nobody uses; raise `OSError` when there is none."""
        taken = self.ports if datagrams else self.listeners
        for _ in _EPHEMERAL:
            port = self._next_port
            self._next_port = port + 1 if port + 1 in _EPHEMERAL else _EPHEMERAL.start
            if not any(used == port for _, used in taken):
                return port
        raise os_error(errno.EADDRNOTAVAIL)

    def listener_at(self, address: str, port: int) -> Listener | None:
        """Return who answers at `address`: the one bound to it, or to all addresses."""
        return self.listeners.get((address, port)) or self.listeners.get(("0.0.0.0", port))  # noqa: S104

    def port_at(self, address: str, port: int) -> Port | None:
        """Return who takes datagrams at `address`."""
        return self.ports.get((address, port)) or self.ports.get(("0.0.0.0", port))  # noqa: S104

    def process_died(self) -> None:
        """Close every socket, as the kernel does for a process that was killed."""
        self._forget_ports()
        for endpoint in list(self.endpoints):
            endpoint.hang_up()
        self.endpoints.clear()

    def lose_power(self) -> None:
        """Stop without a word: peers learn of it only when they send, and then by silence."""
        self.up = False
        self._forget_ports()
        for endpoint in list(self.endpoints):
            endpoint.vanish()
        self.endpoints.clear()

    def boot(self) -> None:
        """Come up with nothing of what was before."""
        self.up = True
        self.boots += 1

    def _forget_ports(self) -> None:
        for listener in [*self.listeners.values(), *self.unix.values()]:
            listener.close()
        self.listeners.clear()
        self.unix.clear()
        for port in list(self.ports.values()):
            port.close()
        self.ports.clear()
