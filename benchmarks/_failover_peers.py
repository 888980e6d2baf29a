"""Writing by the plain clients while members die: what a person would write around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count

__all__ = ["ENGINES", "errors_of", "raw_writer"]

Write = Callable[[], Awaitable[object]]
ATTEMPT_S = 2.0


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


_WAYS: dict[str, Callable[[Sequence[str]], AbstractAsyncContextManager[Write]]] = {"etcd": etcd}
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
    raise KeyError(engine)
