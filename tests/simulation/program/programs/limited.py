"""Rate limits that are asked for much more than they give, with nothing wrong."""

from __future__ import annotations

import asyncio
import random

from coterie import App, Policy, RateLimited

app = App("limited", policy=Policy(timeout_s=5.0, retry=None, breaker=None))
_quick = app.rate_limit("quick", rate=10, per=1.0, burst=8)
_slow = app.rate_limit("slow", rate=60, per=60.0, burst=20, when_unsure="closed")


@app.service
class Api:
    async def work(self, tenant: str, units: int) -> int:
        done = 0
        for _ in range(20):
            try:
                await _quick.acquire(tenant, units=units)
                if tenant == "ada":
                    await _slow.acquire()
            except RateLimited:
                await asyncio.sleep(0.1 * random.random())
            else:
                done += 1
        return done


_api = app.client(Api)


@app.workload(clients=3, pause_s=0.1)
async def asks() -> None:
    tenant = random.choice(("ada", "bob"))
    await asyncio.gather(
        *(_api.work(tenant, random.randint(1, 3) if tenant == "bob" else 1) for _ in range(3))
    )
