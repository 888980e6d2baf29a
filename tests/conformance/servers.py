"""Real servers, one cluster of each kind for the whole run: starting one takes longer than a test.

They live on a loop of their own in a thread, since each test has a loop of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from itertools import count
from typing import Any, TypeVar

from coterie import lab

T = TypeVar("T")
_clusters: dict[tuple[str, int], lab.Cluster] = {}
_loops: list[asyncio.AbstractEventLoop] = []
_numbers = count(1)


def shared(engine: str, *, members: int = 1) -> lab.Cluster:
    """Return the cluster of this kind; the first who asks starts it. Nobody may hurt it."""
    key = (engine, members)
    if key not in _clusters:
        cluster = lab.start(engine, members=members)
        _run(cluster.__aenter__())
        _clusters[key] = cluster
    return _clusters[key]


def fresh_name(kind: str) -> str:
    """Return a name that no other fixture of this run has, for a prefix, a stream or a database."""
    return f"{kind}{next(_numbers)}"


def end_all() -> None:
    """End what was started."""
    while _clusters:
        _, cluster = _clusters.popitem()
        _run(cluster.__aexit__(None, None, None))
    while _loops:
        loop = _loops.pop()
        loop.call_soon_threadsafe(loop.stop)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    if not _loops:
        loop = asyncio.new_event_loop()
        threading.Thread(target=_serve, args=(loop,), name="lab", daemon=True).start()
        _loops.append(loop)
    return asyncio.run_coroutine_threadsafe(coroutine, _loops[0]).result()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
