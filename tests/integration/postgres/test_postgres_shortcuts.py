"""The functions for the commonest batches do what the general ones do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from postgres_tools import QUICK, engine_at

from coterie import lab
from coterie.engines.postgres.engine import _APPEND, _APPEND_HERE, _APPLY, _PUT
from coterie.engines.postgres.log import Append, pack_appends, pack_here
from coterie.engines.postgres.operations import Operation, grant, pack, pack_put, steps_of
from coterie.ports.store import Check, Commit, Fence, Put

KEEP = 100
TABLES = {
    "meta": "revision, floor, next_lease",
    "kv": "*",
    "changes": "*",
    "leases": "id",
    "sessions": "codes, numbers, revision",
    "bounds": "*",
    "records": "topic, partition, number, record",
}


@dataclass
class Database:
    """A schema for each way, and the number of the next batch."""

    connection: Any
    batch: int = 0

    async def ask(self, schema: str, statement: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        [row] = await self.connection.fetch(statement.replace("@", schema), schema, self.batch, *values)
        codes, numbers, revision = row
        return ([codes], [numbers], revision) if isinstance(codes, int) else (codes, numbers, revision)

    async def both(self, short: tuple[str, Any], general: tuple[str, Any]) -> tuple[Any, ...]:
        """Do a batch in both ways, on a schema each; return what both answer."""
        self.batch += 1
        answers = [await self.ask("short", *short), await self.ask("general", *general)]
        assert answers[0] == answers[1]
        return answers[0]

    async def commit(self, commit: Commit) -> tuple[Any, ...]:
        steps = steps_of(commit)
        values = pack_put(KEEP, steps)
        assert values is not None
        return await self.both((_PUT, values), (_APPLY, pack(KEEP, [steps])))

    async def everything(self, schema: str) -> dict[str, list[Any]]:
        return {
            table: await self.connection.fetch(f"SELECT {columns} FROM {schema}.{table} ORDER BY 1, 2")
            if "," in columns or columns == "*"
            else await self.connection.fetch(f"SELECT {columns} FROM {schema}.{table} ORDER BY 1")
            for table, columns in TABLES.items()
        }


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with lab.start("postgres", settings={**QUICK, "fsync": "off"}) as cluster:
        connection = await asyncpg.connect(cluster.url)
        for schema in ("short", "general"):
            async with engine_at(cluster.url, schema=schema) as engine:
                await engine.log.create("topic", 2)
            await connection.execute(
                f"INSERT INTO {schema}.sessions (id, batch, seen) VALUES ('{schema}', 0, now())"
            )
        yield Database(connection)
        await connection.close()


async def test_a_put_alone_is_what_apply_makes_of_it(database: Database) -> None:
    def put(value: bytes, *checks: Check) -> Commit:
        return Commit((Put("key", value),), (), checks)

    assert (await database.commit(put(b"blind", Check("key", 7)))) == ([1], [0], 0)
    assert (await database.commit(put(b"first", Check("key", 0)))) == ([0], [1], 1)
    assert (await database.commit(put(b"again", Check("key", 0)))) == ([1], [1], 1)
    assert (await database.commit(put(b"second", Check("key", 1)))) == ([0], [2], 2)
    assert (await database.commit(put(b"late", Check("key", 1)))) == ([1], [2], 2)
    assert (await database.commit(put(b"any"))) == ([0], [3], 3)
    assert (await database.commit(Commit((Put("new", b"any"),)))) == ([0], [4], 4)

    # A lease that is due ends before the check is looked at, and takes its keys along.
    for schema in ("short", "general"):
        database.batch += 1
        both = (grant(60), [(4, "leased", 1, b"x"), (0, None, None, None)])
        await database.ask(schema, _APPLY, pack(KEEP, both))
        await database.connection.execute(
            f"UPDATE {schema}.leases SET ends = now(); UPDATE {schema}.meta SET expires = now()"
        )
    taken = Commit((Put("leased", b"mine"),), (), (Check("leased", 0),))
    assert (await database.commit(taken)) == ([0], [7], 7)

    for revision in range(8, 520):
        await database.commit(put(b"%d" % revision))
    short, general = await database.everything("short"), await database.everything("general")
    assert short == general
    assert short["meta"][0]["floor"] == 512 - KEEP
    assert len(short["changes"]) == KEEP + 7


async def test_a_put_that_was_applied_before_changes_nothing(database: Database) -> None:
    await database.commit(Commit((Put("once", b"1"),)))
    before = await database.everything("short")
    values = pack_put(KEEP, steps_of(Commit((Put("once", b"2"),))))
    assert values is not None
    conflict = pack_put(KEEP, steps_of(Commit((Put("once", b"2"),), (), (Check("once", 9999),))))
    for again in (values, conflict):
        assert again is not None
        with pytest.raises(asyncpg.PostgresError) as raised:
            await database.ask("short", _PUT, again)
        assert raised.value.sqlstate == "CT001"
    assert await database.everything("short") == before


async def test_appends_to_one_place_are_what_append_makes_of_them(database: Database) -> None:
    async def append(*appends: Append) -> tuple[Any, ...]:
        here = pack_here(appends)
        assert here is not None
        return await database.both((_APPEND_HERE, here), (_APPEND, pack_appends(appends)))

    assert await append(Append("topic", 1, [b"a"])) == ([0], [0], 0)
    assert await append(Append("topic", 1, [b"b", b"c"]), Append("topic", 1, [b"d"])) == ([0], [1], 0)
    assert await append(Append("topic", 0, [b"e"])) == ([0], [0], 0)
    assert await append(Append("topic", 2, [b"f"])) == ([1], [2], 0)
    assert await append(Append("nothing", 0, [b"g"])) == ([1], [0], 0)
    before = await database.everything("short")
    assert before == await database.everything("general")
    assert [row["record"] for row in before["records"]] == [b"e", b"a", b"b", b"c", b"d"]
    for place in ("topic", "nothing"):
        values = pack_here([Append(place, 1, [b"h"])])
        assert values is not None
        with pytest.raises(asyncpg.PostgresError) as raised:
            await database.ask("short", _APPEND_HERE, values)
        assert raised.value.sqlstate == "CT001"
    assert await database.everything("short") == before


@pytest.mark.parametrize(
    "commit",
    [
        Commit((Put("a", b""), Put("b", b""))),
        Commit((Put("a", b"", 7),)),
        Commit((Put("a", b""),), ("b",)),
        Commit((Put("a", b""),), (), (Check("b", 1),)),
        Commit((Put("a", b""),), (), (Check("a", 1), Check("b", 1))),
        Commit((Put("a", b""),), (), (Check("a", -1),)),
        Commit((Put("a", b""),), (), (), (Fence("f", 1),)),
        Commit((), ("a",)),
    ],
)
def test_what_is_more_than_a_put_and_its_check_is_not_taken_for_one(commit: Commit) -> None:
    steps: Operation = steps_of(commit)
    assert pack_put(KEEP, steps) is None


def test_appends_to_two_places_are_not_taken_for_one() -> None:
    assert pack_here([Append("a", 0, []), Append("a", 1, [])]) is None
    assert pack_here([Append("a", 0, []), Append("b", 0, [])]) is None
