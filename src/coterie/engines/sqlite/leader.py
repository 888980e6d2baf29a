"""The process that holds the writer role: it writes for itself and for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import ProtocolError, TooLarge
from ...ports.clock import Clock
from ...ports.store import Change
from .batch import Applied
from .config import SqliteConfig
from .link import Answers, Do, Follow, Following, Join, Link, Message, News, Resync
from .operations import Expire, Failed, Operation, Result, failed, overloaded
from .sessions import decode_outcomes
from .writer import Sink, Writer

__all__ = ["Leader"]

_EXPIRE_AGAIN_S = 0.5
"""How long after a failure, of a full disk for instance, leases that have ended are looked at again."""


class _Session:
    """Another process as the writer knows it, over as many connections as it takes."""

    __slots__ = ("last_seen", "outcomes", "peer", "queued")

    def __init__(self) -> None:
        self.peer: _Peer | None = None
        self.outcomes: dict[int, Result] = {}
        self.queued: set[int] = set()
        self.last_seen: float = 0.0


class _Peer(Link):
    """A connection from another process."""

    def __init__(self, leader: Leader) -> None:
        super().__init__()
        self._leader = leader
        self._session: _Session | None = None
        self._id = ""
        self._answers: list[tuple[int, Result]] = []
        self._missed = False
        self.prefixes: tuple[str, ...] = ()

    def received(self, message: Message) -> None:
        if self._leader.closing:
            return  # The next writer is asked again.
        if isinstance(message, Do):
            self._do(message)
        elif isinstance(message, Follow):
            self.prefixes = message.prefixes
            self.send(Following(message.number))
        elif isinstance(message, Join):
            self._id = message.session
            self._leader.forget_sessions()
            session = self._session = self._leader.sessions.setdefault(message.session, _Session())
            if session.peer is not None and session.peer is not self:
                session.peer.abort()  # What is still in it was sent again here, and might be taken for new.
            session.peer = self
            self._leader.peers.add(self)
            self.send(Following(0))
        else:
            raise ProtocolError("a message from the wrong end")

    def _do(self, message: Do) -> None:
        session = self._session
        if session is None or isinstance(message.operation, Expire):
            raise ProtocolError("an operation that this end may not ask for")
        outcomes = session.outcomes
        for number in [number for number in outcomes if number <= message.heard]:
            del outcomes[number]
        known = outcomes.get(message.number)
        if known is not None:
            self.answer(message.number, known)  # It was sent again because the answer was lost.
        elif message.number not in session.queued:
            session.queued.add(message.number)
            self._leader.submit_remote(message, self._id, session)

    def answer(self, number: int, result: Result) -> None:
        """Send a result with the others of this iteration of the loop."""
        if not self._answers:
            self.loop.call_soon(self._send_answers)
        self._answers.append((number, result))

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        self.send(Answers(answers))

    def tell(self, applied: Applied) -> None:
        """Send what of `applied` this process follows."""
        commits = []
        if self.prefixes:
            for revision, puts, gone in applied.commits:
                mine: list[tuple[str, bytes | None]] = [
                    (put.key, put.value) for put in puts if put.key.startswith(self.prefixes)
                ]
                mine += [(key, None) for key in gone if key.startswith(self.prefixes)]
                if mine:
                    commits.append((revision, mine))
        if not commits and not applied.appended:
            return
        if self.congested:
            self._missed = True
            return
        appended = [(topic, partition, end) for (topic, partition), end in applied.appended.items()]
        try:
            self.send(News(commits, appended))
        except TooLarge:
            self.send(Resync())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._missed:
            self._missed = False
            self.send(Resync())

    def ended(self) -> None:
        self._leader.peers.discard(self)
        if self._session is not None and self._session.peer is self:
            self._session.peer = None
            self._leader.writer.turns.forget(self._id)
            self._session.last_seen = self.loop.time()


class Leader:
    """Runs the writer thread and the socket that the other processes come to."""

    def __init__(
        self, config: SqliteConfig, clock: Clock, boot: str, *, publish: Callable[[Applied], None]
    ) -> None:
        self._config = config
        self._clock = clock
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self.writer: Writer = Writer(config, clock, boot, on_applied=self._applied)
        self.sessions: dict[str, _Session] = {}
        for id_, blob in self.writer.applier.sessions():
            self.sessions[id_] = session = _Session()
            session.outcomes = decode_outcomes(blob)
            session.last_seen = self._loop.time()
        self.peers: set[_Peer] = set()
        self.closing: bool = False
        self._server: asyncio.Server | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._set_expiry(self.writer.applier.next_expiry())

    def forget_sessions(self) -> None:
        """Forget the processes that left long ago."""
        before = self._loop.time() - self._config.session_s
        for id_ in [i for i, s in self.sessions.items() if s.peer is None and s.last_seen < before]:
            del self.sessions[id_]

    async def serve(self, path: str) -> None:
        """Let the other processes come to `path`."""
        Path(path).unlink(missing_ok=True)  # Left by the last writer: this one has the lock.
        self._server = await self._loop.create_unix_server(lambda: _Peer(self), path)
        Path(path).chmod(0o600)

    def submit(self, operation: Operation, sink: Sink, tag: Any) -> None:
        """Let an operation of this process be part of the next transaction; `sink(tag, result)` ends it."""
        self.writer.submit((operation, sink, tag, None))

    def submit_remote(self, message: Do, id_: str, session: _Session) -> None:
        """Let an operation of another process be part of the next transaction."""

        def sink(number: int, result: Result) -> None:
            session.queued.discard(number)
            session.outcomes[number] = result
            if session.peer is not None:
                session.peer.answer(number, result)

        if self.writer.queued >= self._config.max_queue:
            sink(message.number, failed(overloaded(self.writer.queued)))
            return
        self.writer.submit((message.operation, sink, message.number, (id_, message.heard)))

    def _applied(self, applied: Applied) -> None:
        self._set_expiry(applied.next_expiry)
        if applied.commits or applied.appended:
            for peer in self.peers:
                peer.tell(applied)
            self._publish(applied)

    def _set_expiry(self, ends: float | None) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if ends is not None and not self.closing:
            wait_s = max(0.0, ends - self._clock.boottime()) + 0.001
            self._expiry = self._loop.call_later(min(wait_s, 3600.0), self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self.submit(Expire(), self._expired, None)

    def _expired(self, _tag: None, result: Result) -> None:
        if isinstance(result, Failed) and self._expiry is None and not self.closing:
            self._expiry = self._loop.call_later(_EXPIRE_AGAIN_S, self._expire)

    async def close(self) -> None:
        """Finish what was accepted, answer it, and let the next one take over."""
        if self.closing:
            return
        self.closing = True
        self._set_expiry(None)
        if self._server is not None:
            self._server.close()
        await self.writer.close()
        await asyncio.sleep(0)  # The answers of the last transaction are on their way to the peers' buffers.
        for peer in list(self.peers):
            peer.close()


def changes_of(news: News) -> list[tuple[int, tuple[Change, ...]]]:
    """Return the commits that `news` tells of, as the hub takes them."""
    return [
        (revision, tuple(Change(key, value, revision) for key, value in changes))
        for revision, changes in news.commits
    ]
