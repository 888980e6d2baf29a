"""A caller that asks the nodes whom they suspect goes on whatever they answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from coterie.engines.system import SystemEntropy
from coterie.membership import Member, MemberState
from coterie.node.suspicion import Advice


class Asked:
    """A caller's view of two nodes, which give these answers one after the other."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        members = {
            name: Member(id=name, name=name, address=f"{name}:1", state=MemberState.SERVING) for name in "ab"
        }
        self.core: Any = SimpleNamespace(
            config=SimpleNamespace(gossip_s=0.001),
            membership=SimpleNamespace(view=SimpleNamespace(members=members)),
            directory=SimpleNamespace(suspect=self.told.put_nowait),
            channels=SimpleNamespace(get=lambda _address: self),
            ports=SimpleNamespace(entropy=SystemEntropy()),
        )

    async def request(self, _target: str, _body: bytes, **_: Any) -> bytes:
        return self.answers.pop(0)


@pytest.mark.parametrize("answer", [b"", b"\xc1", msgspec.msgpack.encode({"not": "a list"})])
async def test_an_answer_that_cannot_be_read_is_passed_over(answer: bytes) -> None:
    asked = Asked(answer, msgspec.msgpack.encode(["a"]))
    following = asyncio.create_task(Advice(asked.core).follow())
    async with asyncio.timeout(10):
        assert await asked.told.get() == {"a"}
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
