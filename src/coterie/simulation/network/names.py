"""Name resolution as the loop offers it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .fabric import Fabric
from .stack import Stack

__all__ = ["lookup", "lookup_now"]

_SERVICES = {"http": 80, "https": 443, "domain": 53, "ssh": 22, "smtp": 25}
_LOOKUP_S = (0.0002, 0.002)
_TIMEOUT_S = 5.0


def _port(port: Any) -> int:
    if port is None:
        return 0
    if isinstance(port, bytes):
        port = port.decode()
    if isinstance(port, str):
        if port.isdigit():
            return int(port)
        if port in _SERVICES:
            return _SERVICES[port]
        raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype")
    return int(port)


def lookup_now(
    fabric: Fabric, source: Stack, host: Any, port: Any, *, family: int = 0, kind: int = 0, flags: int = 0
) -> list[Any]:
    """Return what `socket.getaddrinfo` would, for a program on `source`; raise `socket.gaierror`."""
    if isinstance(host, bytes):
        host = host.decode()
    if family not in {socket.AF_UNSPEC, socket.AF_INET}:
        raise socket.gaierror(socket.EAI_FAMILY, "ai_family not supported")
    if host is None or host == "":
        addresses: tuple[str, ...] = ("0.0.0.0" if flags & socket.AI_PASSIVE else "127.0.0.1",)  # noqa: S104
    else:
        addresses = fabric.resolve(source, host)
    kinds = [(socket.SOCK_STREAM, socket.IPPROTO_TCP), (socket.SOCK_DGRAM, socket.IPPROTO_UDP)]
    return [
        (socket.AF_INET, each, proto, "", (address, _port(port)))
        for address in addresses
        for each, proto in kinds
        if not kind or kind == each
    ]


async def lookup(
    fabric: Fabric, source: Stack, host: Any, port: Any, *, family: int = 0, kind: int = 0, flags: int = 0
) -> list[Any]:
    """As `lookup_now`, but a name takes as long as a question to a server does, and may get no answer."""
    name = host.decode() if isinstance(host, bytes) else host
    if name and name != "localhost" and not name.replace(".", "").isdigit():
        if source.name in fabric.without_dns:
            await asyncio.sleep(_TIMEOUT_S)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        await asyncio.sleep(fabric.tape.stream(f"dns/{source.name}").uniform(*_LOOKUP_S))
    return lookup_now(fabric, source, host, port, family=family, kind=kind, flags=flags)
