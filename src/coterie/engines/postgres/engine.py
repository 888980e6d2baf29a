"""`PostgresEngine`: a node's connections to one database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ...errors import CoterieError
from ...ports.clock import Clock
from ...ports.entropy import Entropy
from .config import PostgresConfig
from .lane import Answer, Lane
from .link import Link
from .log import QUERY_LINKS, Append, PostgresLog, pack_appends, pack_here, unpack_appends
from .news import News
from .operations import EXPIRE, Operation, pack, pack_put, unpack
from .schema import Settings, log_guarantees, prepare, store_guarantees
from .store import PostgresStore

__all__ = ["PostgresEngine", "open_engine"]

_END_S = 2.0
_APPLY = "SELECT * FROM @.apply($1, $2, $3, $4::smallint[], $5::text[], $6::bigint[], $7::bytea[])"
_PUT = "SELECT * FROM @.put($1, $2, $3, $4, $5, $6)"
_APPEND_HERE = "SELECT * FROM @.append_here($1, $2, $3, $4, $5)"
_APPEND = (
    "SELECT * FROM"
    " @.append($1, $2, $3::text[], $4::int[], $5::bigint[], $6::int[], $7::bigint[], $8::bytea[])"
)


class PostgresEngine:
    """`Engine` on PostgreSQL: at most seven connections, each made when it is first needed."""

    name = "postgres"

    def __init__(self, config: PostgresConfig, clock: Clock, entropy: Entropy) -> None:
        self.config: PostgresConfig = config
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._apply, self._put, self._append, self._append_here = (
            call.replace("@", config.schema) for call in (_APPLY, _PUT, _APPEND, _APPEND_HERE)
        )
        self._links: list[Link] = []
        self.gets: Link = self._link()
        self._queries = [self._link() for _ in range(QUERY_LINKS)]
        self._commit_link, self._append_link = self._link(), self._link()
        self.news: News = News(self._link(), config, self._expire)
        self.commits: Lane[Operation] = Lane(
            self._commit_link,
            config,
            entropy,
            pack=self._pack,
            unpack=unpack,
            applied=self._applied,
        )
        self.appends: Lane[Append] = Lane(
            self._append_link,
            config,
            entropy,
            pack=self._pack_appends,
            unpack=unpack_appends,
            applied=lambda _answer: self.news.appended(),
        )
        self._ending: asyncio.Task[None] | None = None

    def _link(self) -> Link:
        self._links.append(Link(self.config, self._entropy))
        return self._links[-1]

    async def open(self) -> None:
        """Connect, look at the settings, and make the schema. Raises as `open_engine` says."""
        deadline = self._loop.time() + self.config.operation_timeout_s
        try:
            self.settings: Settings = await prepare(self.gets, self.config, deadline)
        except BaseException:
            self.gets.close()
            raise
        self.store: PostgresStore = PostgresStore(self, store_guarantees(self.settings))
        self.log: PostgresLog = PostgresLog(self, log_guarantees(self.settings))
        self.news.start()

    def _pack(self, operations: Sequence[Operation]) -> tuple[str, tuple[Any, ...]]:
        kept = self.config.kept_revisions
        if len(operations) == 1 and (values := pack_put(kept, operations[0])) is not None:
            return self._put, values
        return self._apply, pack(kept, operations)

    def _pack_appends(self, appends: Sequence[Append]) -> tuple[str, tuple[Any, ...]]:
        if (values := pack_here(appends)) is not None:
            return self._append_here, values
        return self._append, pack_appends(appends)

    def _applied(self, answer: Answer) -> None:
        self.news.saw(answer[2])

    def _expire(self) -> None:
        expiring = self.commits.ask(EXPIRE)
        expiring.add_done_callback(_retrieve)

    async def query(self, statement: str, *values: Any, idempotent: bool = True) -> list[Any]:
        """Ask on whichever connection is free."""
        deadline = self._loop.time() + self.config.operation_timeout_s
        return await self.free_link().ask(
            statement.replace("@", self.config.schema), *values, deadline=deadline, idempotent=idempotent
        )

    def free_link(self) -> Link:
        """Return the one of the `QUERY_LINKS` connections for questions that has the least to do."""
        return min(self._queries, key=_asked)

    def statistics(self) -> dict[str, int | float | str]:
        return {
            "store_revision": self.news.revision,
            "store_batches": self.commits.batches,
            "store_queued": self.commits.queued,
            "store_watches": len(self.store.watches),
            "log_batches": self.appends.batches,
            "log_queued": self.appends.queued,
            "connections_made": sum(link.connections for link in self._links),
        }

    async def close(self) -> None:
        if self._ending is None:
            self._ending = self._loop.create_task(self._close())
        await asyncio.shield(self._ending)

    async def _close(self) -> None:
        await self.store.close()
        await self.log.close()
        await self.news.close()
        await self.commits.close()
        await self.appends.close()
        for link in self._links:
            link.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                for link in self._links:
                    await link.ended()
        # Connections that are broken off end in the next turns of the loop.
        await asyncio.sleep(0)


def _asked(link: Link) -> int:
    return link.asked


def _retrieve(future: asyncio.Future[int]) -> None:
    if not future.cancelled() and not isinstance(future.exception(), CoterieError | None):
        future.result()


async def open_engine(url: str, *, clock: Clock, entropy: Entropy) -> PostgresEngine:
    """Open the engine at `url`; see `PostgresConfig.from_url`.

    Raises `InvalidConfiguration` for a URL or a database that cannot be right, `PermissionDenied` for a
    refused login, `CorruptData` for tables of another version, `Unavailable` when nobody answers or only
    a standby does.
    """
    engine = PostgresEngine(PostgresConfig.from_url(url), clock, entropy)
    await engine.open()
    return engine
