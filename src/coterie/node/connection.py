"""`connect`: calls and reads without serving."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ..context import CURRENT, Call
from ..errors import CoterieError
from ..services import CallConfig
from .config import NodeConfig, resolve
from .core import Core
from .engines import Ports
from .suspicion import Advice
from .system import NodeStatus, ask_all

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Connection", "connect"]


class Connection:
    """What a caller sees of the cluster."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def status(self, *, timeout_s: float = 1.0) -> list[NodeStatus]:
        """Ask every member how it is; those that do not answer within `timeout_s` are listed as well."""
        members = [m for m in self._core.membership.view.members.values() if m.address]
        return await ask_all(self._core.ports.wire, members, timeout_s=timeout_s)


@asynccontextmanager
async def connect(
    app: App,
    *,
    engine: str | None = None,
    config: NodeConfig | None = None,
    ports: Ports | None = None,
    timeout_s: float | None = None,
) -> AsyncIterator[Connection]:
    """Make the handles of `app` work within the `async with`, as a caller that is no member.

    The engine is `engine`, else that of `config`, else what `coterie run` would use here. `timeout_s`
    is a deadline for all that is done inside.
    """
    if config is None:
        config, _ = resolve({"engine": engine}, os.environ)
    elif engine is not None:
        config = dataclasses.replace(config, engine=engine)
    # Without this, a caller that allows more than a call's own default would not get it.
    calls = None if timeout_s is None else CallConfig(timeout_s=timeout_s)
    core = Core(app, config, "caller", ports, calls)
    await core.open()
    try:
        core.bind({})
        if core.config.gossip_s:
            advice = asyncio.create_task(Advice(core).follow(), name="coterie-advice")
            core.stack.push_async_callback(_cancelled, advice)
        await core.follow()
        root = core.root
        if timeout_s is not None:
            root = Call(root.node, root.bindings, asyncio.get_running_loop().time() + timeout_s)
        token = CURRENT.set(root)
        try:
            yield Connection(core)
        finally:
            CURRENT.reset(token)
    finally:
        try:
            await _give_back(core)
        finally:
            await core.close()


async def _give_back(core: Core) -> None:
    """Let nobody wait for the leases of what this caller held."""
    if core.coordination is not None:
        with suppress(CoterieError, TimeoutError):  # They end by themselves.
            async with asyncio.timeout(5):
                await core.coordination.release()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
