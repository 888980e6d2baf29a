"""Real servers, one cluster of each kind for the whole run: starting one takes longer than a test.

They live on a loop of their own in a thread, since each test has a loop of its own.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self, TypeVar, cast

from coterie import lab
from coterie.lab.binaries import find
from coterie.lab.network import Address
from coterie.lab.process import KeeperHandle

T = TypeVar("T")
A = TypeVar("A", bound=AbstractAsyncContextManager[Any])
_shared: dict[object, AbstractAsyncContextManager[Any]] = {}
_loops: list[asyncio.AbstractEventLoop] = []
_numbers = count(1)


def shared(engine: str, *, members: int = 1) -> lab.Cluster:
    """Return the cluster of this kind; the first who asks starts it. Nobody may hurt it."""
    return _one((engine, members), lambda: lab.start(engine, members=members))


def pooler() -> Pooler:
    """Return the pooler before the PostgreSQL that is shared."""
    return _one("pooler", lambda: Pooler(shared("postgres").addresses[0]))


def _one(key: object, make: Callable[[], A]) -> A:
    if key not in _shared:
        made = make()
        _run(made.__aenter__())
        _shared[key] = made
    return cast("A", _shared[key])


def fresh_name(kind: str) -> str:
    """Return a name that no other fixture of this run has, for a prefix, a stream or a database."""
    return f"{kind}{next(_numbers)}"


def end_all() -> None:
    """End what was started."""
    while _shared:
        _, made = _shared.popitem()
        _run(made.__aexit__(None, None, None))
    while _loops:
        loop = _loops.pop()
        loop.call_soon_threadsafe(loop.stop)


class Pooler:
    """PgBouncer, which gives each transaction whichever connection is free."""

    def __init__(self, server: Address) -> None:
        self.address: str = ""
        self._server = server
        self._keeper = KeeperHandle()

    async def __aenter__(self) -> Self:
        await self._keeper.start()
        folder = Path(mkdtemp(prefix="coterie-pooler-"))
        await self._keeper.call("remove_at_end", path=str(folder))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\ncoterie = host={self._server.host} port={self._server.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            "unix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
            "default_pool_size = 3\nmax_client_conn = 500\n"
        )
        program = find("pgbouncer")
        await self._keeper.spawn(
            "pgbouncer",
            [str(program.path), str(folder / "pgbouncer.ini")],
            log=folder / "log",
            env=program.environment(),
            shed_root=True,  # It refuses to be root.
        )
        async with asyncio.timeout(10):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return self
                await asyncio.sleep(0.05)

    async def __aexit__(self, *_: object) -> None:
        await self._keeper.end()


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    if not _loops:
        loop = asyncio.new_event_loop()
        threading.Thread(target=_serve, args=(loop,), name="lab", daemon=True).start()
        _loops.append(loop)
    return asyncio.run_coroutine_threadsafe(coroutine, _loops[0]).result()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
