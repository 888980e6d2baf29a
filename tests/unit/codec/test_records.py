"""Records of Coterie's own that were written by somebody else are named, and no riddle."""

from __future__ import annotations

import pytest

from coterie import App
from coterie.codec import record_decoder
from coterie.errors import CorruptData
from coterie.ports.store import Commit, Put
from coterie.testing import Cluster


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xa1a", b"\xa1\xff", b"\x01\x01"])
def test_what_is_no_record_is_told_as_such(data: bytes) -> None:
    with pytest.raises(CorruptData, match="the record of a sequence is not readable"):
        record_decoder(int, "a sequence")(data)


def test_a_record_is_read() -> None:
    assert record_decoder(int, "a sequence")(b"\x07") == 7


async def test_a_damaged_record_is_an_error_of_ours_wherever_it_is_read() -> None:
    app = App("damaged")
    numbers = app.sequence("numbers", block=1)
    scarce = app.rate_limit("scarce", rate=1.0, burst=2)

    async with Cluster(app, nodes=1) as cluster:
        assert cluster._engine is not None
        store = cluster._engine.store
        await numbers.next()
        await scarce.acquire(units=2)
        page = await store.scan("damaged/", limit=1000)
        keys = [entry.key for entry in page.entries if "/member" not in entry.key]
        for name in ("numbers", "scarce"):
            assert any(name in key for key in keys), keys
        await store.commit(Commit(tuple(Put(key, b"\xc1") for key in keys)))
        with pytest.raises(CorruptData, match="the record of a sequence is not readable"):
            await numbers.next()
        with pytest.raises(CorruptData, match="the record of a rate limit is not readable"):
            await scarce.acquire(units=2)
