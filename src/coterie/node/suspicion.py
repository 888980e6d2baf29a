"""Who is thought to be dead: what a node works out with the others, and what a mere caller asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

from ..detection import DetectionConfig, Detector, Known, State
from ..errors import CoterieError
from ..membership import Member, MemberState
from ..ports.wire import Channel, Failure
from .core import Core
from .system import SYSTEM, GossipFacts

__all__ = ["Advice", "facts_of", "start_detector"]


def start_detector(core: Core, me: Member, load: Detector.Load) -> Detector:
    """Let this node take part in the detection of failures; what it finds goes to the directory.

    The Store says who is a member; while it cannot be read the last view counts, and gossip goes on.
    """

    def found() -> None:
        core.directory.suspect(detector.suspected)

    def members() -> None:
        view = core.membership.view.members.values()
        detector.sync({each.id: _known(each) for each in view if each.address})

    detector = Detector(
        _known(me),
        core.ports.wire,
        entropy=core.ports.entropy,
        hello=_hello,
        load=load,
        on_change=found,
        config=DetectionConfig.every(core.config.gossip_s),
    )
    core.on_members = members
    core.stack.push_async_callback(detector.close)
    members()
    detector.start()
    return detector


def facts_of(detector: Detector, official: Collection[str]) -> GossipFacts:
    """Return what a node tells of its part. `official` are the ids of the members by the Store."""
    gossip, now = detector.gossip, asyncio.get_running_loop().time()
    members = gossip.table.members
    phis = {id_: gossip.phi(id_, now) for id_ in gossip.watched}
    return GossipFacts(
        suspects={id_: members[id_].state.name.lower() for id_ in sorted(detector.suspected)},
        phis={id_: round(phi, 2) for id_, phi in phis.items() if phi is not None},
        loads={id_: load for id_ in members if (load := gossip.loads.get(id_)) is not None},
        health=gossip.health.score,
        strangers={
            known.id: f"{known.name} at {known.address}"
            for known in members.values()
            if known.state is State.ALIVE and known.id not in official
        },
    )


def _known(member: Member) -> Known:
    return Known(member.id, member.name, member.address)


async def _hello(channel: Channel, timeout_s: float) -> None:
    method = SYSTEM.methods["ping"]
    await channel.request(
        method.target, method.arguments.encode(method.arguments.type()), timeout_s=timeout_s
    )


class Advice:
    """What a caller that is no member does: it asks one node at a time whom the nodes suspect."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._period_s = 2 * core.config.gossip_s
        self._silent = ""
        """Who gave no answer the last time."""

    async def follow(self) -> None:
        """Ask in every other period of the nodes, for ever."""
        while True:
            await asyncio.sleep(self._period_s)
            with suppress(CoterieError, Failure):
                await self._ask()

    async def _ask(self) -> None:
        core = self._core
        serving = [
            member
            for member in core.membership.view.members.values()
            if member.address and member.state is MemberState.SERVING
        ]
        if len(serving) < 2:
            core.directory.suspect(frozenset())
            return
        others = [member for member in serving if member.id != self._silent]
        asked = others[core.ports.entropy.randbelow(len(others))]
        self._silent, method = asked.id, SYSTEM.methods["suspects"]
        body = method.arguments.encode(method.arguments.type())
        channel = core.channels.get(asked.address)
        reply = await channel.request(method.target, body, timeout_s=self._period_s / 2)
        suspects: list[str] = method.result.decode(reply)
        self._silent = ""
        core.directory.suspect(frozenset(suspects))
