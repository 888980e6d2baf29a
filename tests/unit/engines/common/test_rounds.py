"""Who asks gets an answer that is not older than the question."""

from __future__ import annotations

import asyncio

import pytest

from coterie.engines.common.rounds import Rounds
from coterie.errors import Unavailable


class _Server:
    def __init__(self) -> None:
        self.value = 0
        self.asked = 0
        self.down = False

    async def ask(self) -> int:
        self.asked += 1
        if self.down:
            raise Unavailable("the server is down")
        value = self.value
        await asyncio.sleep(0.01)
        return value


async def test_who_asks_at_once_shares_a_round() -> None:
    server = _Server()
    rounds = Rounds(server.ask)
    assert await asyncio.gather(*(rounds.join() for _ in range(10))) == [0] * 10
    assert server.asked == 1


async def test_who_asks_during_a_round_gets_the_next() -> None:
    server = _Server()
    rounds = Rounds(server.ask)
    first = rounds.join()
    await asyncio.sleep(0.001)
    server.value = 1
    later = [rounds.join() for _ in range(3)]
    assert await first == 0
    assert await asyncio.gather(*later) == [1, 1, 1]
    assert server.asked == 2


async def test_each_gets_an_error_of_its_own_and_the_next_round_begins_anew() -> None:
    server = _Server()
    rounds = Rounds(server.ask)
    server.down = True
    one, other = await asyncio.gather(rounds.join(), rounds.join(), return_exceptions=True)
    assert isinstance(one, Unavailable)
    assert isinstance(other, Unavailable)
    assert one is not other
    server.down = False
    assert await rounds.join() == 0


async def test_who_goes_away_keeps_nobody_from_the_answer() -> None:
    server = _Server()
    rounds = Rounds(server.ask)
    gone, other = rounds.join(), rounds.join()
    await asyncio.sleep(0.001)
    gone.cancel()
    assert await other == 0


async def test_closing_ends_all_who_wait() -> None:
    server = _Server()
    rounds = Rounds(server.ask)
    asking = rounds.join()
    await asyncio.sleep(0.001)
    waiting = rounds.join()
    await rounds.close(Unavailable("closed"))
    for future in (asking, waiting):
        with pytest.raises(Unavailable, match="closed"):
            await future
