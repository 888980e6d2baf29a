"""Writing by the plain clients while members die: what a person would write around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

__all__ = ["ENGINES", "RAW_STREAM", "errors_of", "nats_step_down", "raw_writer"]

Write = Callable[[], Awaitable[object]]
ATTEMPT_S = 2.0
RAW_STREAM = "raw"


@asynccontextmanager
async def etcd(addresses: Sequence[str]) -> AsyncIterator[Write]:
    """grpc.aio with a channel to each member; after a failure the next one is tried."""
    import grpc.aio

    from coterie.engines.etcd.messages import put_op, txn_request

    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(each)) for each in addresses]
        puts = [channel.unary_unary("/etcdserverpb.KV/Txn") for channel in channels]
        request = txn_request((), [put_op(b"raw", b"v")])
        turns = count()
        member = next(turns)

        async def write() -> None:
            nonlocal member
            try:
                await puts[member % len(puts)](request, timeout=ATTEMPT_S)
            except grpc.aio.AioRpcError:
                member = next(turns)
                raise

        yield write


@asynccontextmanager
async def nats(addresses: Sequence[str]) -> AsyncIterator[Write]:
    """nats-py, which turns to another member by itself; a publish waits for its acknowledgement."""
    client = await _nats_client(addresses)
    js = client.jetstream()
    try:
        await js.add_stream(name=RAW_STREAM, subjects=[RAW_STREAM], num_replicas=3)
        yield lambda: js.publish(RAW_STREAM, b"v", timeout=ATTEMPT_S)
    finally:
        await client.close()


async def _nats_client(addresses: Sequence[str]) -> Any:
    import nats

    async def ignore(_error: Exception) -> None:
        """Say nothing of members that are dead on purpose."""

    return await nats.connect(
        [f"nats://{address}" for address in addresses],
        dont_randomize=True,
        reconnect_time_wait=0.05,
        max_reconnect_attempts=-1,
        error_cb=ignore,
    )


async def nats_step_down(addresses: Sequence[str]) -> None:
    """Let another member lead the stream of the plain client."""
    client = await _nats_client(addresses)
    try:
        await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{RAW_STREAM}", b"", timeout=5)
    finally:
        await client.close()


_WAYS: dict[str, Callable[[Sequence[str]], AbstractAsyncContextManager[Write]]] = {
    "etcd": etcd,
    "nats": nats,
}
ENGINES = tuple(_WAYS)
"""The engines that elect a leader by themselves."""


def raw_writer(engine: str, addresses: Sequence[str]) -> AbstractAsyncContextManager[Write]:
    """Give a way to write at whichever of the members answers, beginning with the first."""
    return _WAYS[engine](addresses)


def errors_of(engine: str) -> tuple[type[Exception], ...]:
    """Return what the plain client of an engine raises."""
    if engine == "etcd":
        import grpc.aio

        return (grpc.aio.AioRpcError,)
    from nats.errors import Error

    return (Error,)
