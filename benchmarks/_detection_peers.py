"""Clusters of failure detectors within one process, ours and a peer's, each over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

from coterie.detection import DetectionConfig, Detector, Known
from coterie.engines.system import SystemEntropy
from coterie.engines.tcp import TcpWire
from coterie.ports.wire import Channel, Handlers, Request

__all__ = ["Crowd", "OurCrowd", "PeerCrowd", "have_peer"]

PERIOD_S = 0.5


class Crowd(Protocol):
    """Some nodes that watch each other."""

    async def start(self, size: int) -> None: ...

    async def kill(self) -> Callable[[], bool]:
        """End a node without a farewell; return what says whether all others have noticed."""
        ...

    async def close(self) -> None: ...


async def _nothing(request: Request) -> bytes:
    return b"\xc0"


async def _no_stream(request: Request) -> Any:
    raise NotImplementedError
    yield b""


async def _hello(channel: Channel, timeout_s: float) -> None:
    await channel.request("hello", b"\x90", timeout_s=timeout_s)


class OurCrowd:
    """Coterie's detectors over its TCP wire, without anything else of a node."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._nodes: list[tuple[Detector, TcpWire]] = []

    async def start(self, size: int) -> None:
        known = {}
        for number in range(size):
            wire = TcpWire(entropy=SystemEntropy())
            self._stack.push_async_callback(wire.close)
            found: list[Detector] = []

            def datagram(body: bytes, peer: str, found: list[Detector] = found) -> None:
                found[0].datagram(body, peer)

            handlers = Handlers(request=_nothing, stream=_no_stream, datagram=datagram)
            listener = await wire.listen("127.0.0.1:0", handlers)
            me = known[f"n{number}"] = Known(f"n{number}", f"n{number}", listener.address)
            detector = Detector(
                me,
                wire,
                entropy=SystemEntropy(),
                hello=_hello,
                load=lambda: 0,
                on_change=lambda: None,
                config=DetectionConfig.every(PERIOD_S),
            )
            found.append(detector)
            self._stack.push_async_callback(detector.close)
            self._nodes.append((detector, wire))
        for detector, _ in self._nodes:
            detector.sync(known)
            detector.start()

    async def kill(self) -> Callable[[], bool]:
        detector, wire = self._nodes.pop()
        await detector.close()
        await wire.close()
        gone = detector.gossip.me.id
        return lambda: all(gone in other.suspected for other, _ in self._nodes)

    async def close(self) -> None:
        await self._stack.aclose()


def have_peer() -> bool:
    """Return whether kinship is installed: SWIM with Lifeguard in Rust, over UDP."""
    try:
        import kinship
    except ImportError:
        return False
    return bool(kinship)


class PeerCrowd:
    """kinship with the same period and timeout."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []

    async def start(self, size: int) -> None:
        import kinship

        seeds: list[str] = []
        for number in range(size):
            config = kinship.Config.local(
                name=f"n{number}",
                bind="127.0.0.1:0",
                cluster="benchmark",
                seeds=seeds[:1],
                insecure_plaintext=True,
                probe_interval=PERIOD_S,
                probe_timeout=0.4 * PERIOD_S,
            )
            node = kinship.Cluster(config)
            await node.start()
            seeds.append(str(node.local.addr))
            self._nodes.append(node)
        async with asyncio.timeout(60):
            while any(len(node.members()) < size for node in self._nodes):  # noqa: ASYNC110 - a benchmark looks
                await asyncio.sleep(0.05)

    async def kill(self) -> Callable[[], bool]:
        node = self._nodes.pop()
        name = node.local.name
        closing: Awaitable[None] = node.close()
        await closing

        def noticed() -> bool:
            states = [other.member(name) for other in self._nodes]
            return all(
                state is None or str(state.state).lower().split(".")[-1] != "alive" for state in states
            )

        return noticed

    async def close(self) -> None:
        for node in self._nodes:
            await node.close()
