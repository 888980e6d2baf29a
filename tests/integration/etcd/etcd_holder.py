"""A process that takes a lock on etcd and is stopped between its last look at the lease and its write.

    python etcd_holder.py URL fenced|bare

It prints a JSON line for each step: the token, that it is about to stop, and what became of the write.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from coterie.engines.etcd import open_engine
from coterie.engines.system import SystemClock, SystemEntropy
from coterie.errors import Fenced
from coterie.ports.store import ABSENT, Check, Commit, Fence, Put, Store

LEASE_S = 2


async def acquire(store: Store) -> tuple[int, int]:
    """Take the lock; return the lease that holds it, and its token."""
    lease = await store.grant(LEASE_S)
    token = await store.commit(Commit((Put("lock", b"", lease),), (), (Check("lock", ABSENT),)))
    return lease, token


async def write(store: Store, token: int, *, fenced: bool) -> None:
    """Write what the lock guards; as a fenced write it is refused once a later holder wrote."""
    fences = (Fence("lock", token),) if fenced else ()
    await store.commit(Commit((Put("guarded", b"%d" % token),), fences=fences))


async def main(url: str, *, fenced: bool) -> None:
    engine = await open_engine(url, clock=SystemClock(), entropy=SystemEntropy())
    lease, token = await acquire(engine.store)
    print(json.dumps({"token": token}), flush=True)
    await engine.store.renew(lease)  # The lock is held: its holder may write.
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        await write(engine.store, token, fenced=fenced)
    except Fenced:
        print(json.dumps({"written": False}), flush=True)
    else:
        print(json.dumps({"written": True}), flush=True)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], fenced=sys.argv[2] == "fenced"))
