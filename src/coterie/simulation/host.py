"""Hosts and the processes that run on them."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import enum
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from .disk import Disk
from .environment import Environment, HostClock
from .files import Files
from .handles import Handle
from .network.calls import SimulationLoop
from .network.stack import Stack
from .scope import SCOPE, Scope, drop, hold
from .unhandled import pending_tasks

__all__ = ["Host", "Main", "Process", "State"]

Main = Callable[..., Coroutine[Any, Any, Any]]


class State(enum.Enum):
    """What has become of a process."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    """Its main coroutine returned or raised."""
    KILLED = "killed"
    """It was ended from outside, without a chance to do anything about it."""


class Process(Environment):
    """One program on a host, as an operating system sees it.

    It ends as under `asyncio.run`: when the main coroutine is over, what it left running is cancelled
    and waited for. When it is killed, its tasks are frozen where they are and kept for ever, so that
    not even the interpreter closes them: no `finally` runs, and nothing is said to anyone.
    """

    def __init__(self, host: Host, number: int, main: Main, args: tuple[Any, ...]) -> None:
        super().__init__(host.loop, host.loop.tape, f"{host.name}/{number}", number, host.disk)
        self.hostname: str = host.name
        self.clock: HostClock = host.clock
        self.files: Files = Files(host.disk)
        self.host = host
        self.main = main
        self.args = args
        self.state: State = State.RUNNING
        self.error: BaseException | None = None
        """What the main coroutine raised."""
        self.scope: Scope = Scope(host.name, number, self)
        self.scope.stack = host.stack
        self.signals: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self.ended: asyncio.Future[None] = host.loop.create_future()
        self._step_s = 0.0
        self._stepping = False
        self._task: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"Process({self.host.name!r}, pid {self.pid}, {self.state.value})"

    @property
    def alive(self) -> bool:
        return self.state in {State.RUNNING, State.PAUSED}

    def start(self) -> None:
        """Begin to run the main coroutine."""
        loop = self.host.loop
        context = contextvars.Context()
        context.run(SCOPE.set, self.scope)
        with loop.within(self.scope):
            self._task = loop.create_task(self._run(), name=f"{self.host.name}-main", context=context)

    async def _run(self) -> None:
        try:
            await self.main(*self.args)
        except asyncio.CancelledError:
            pass
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - the world is told, and decides
            self.error = error
        await self._cancel_the_rest()
        self.over(State.ENDED)

    async def _cancel_the_rest(self) -> None:
        own = asyncio.current_task()
        rest = [task for task in self.tasks() if task is not own]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in rest:
            if not task.cancelled() and task.exception() is not None:
                context = {"message": "unhandled exception during shutdown", "exception": task.exception()}
                self.host.loop.call_exception_handler({**context, "task": task})

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks of this process that have not ended."""
        return [task for task in pending_tasks(self.host.loop) if getattr(task, "scope", None) is self.scope]

    def over(self, state: State) -> None:
        """Be no more; nothing of this process runs from here on."""
        if not self.alive:
            return
        self.state = state
        for task in self.tasks():
            freeze(task)
        self.scope.gate = drop
        for handle in self.scope.backlog:
            keep_for_ever(handle)
        self.scope.backlog.clear()
        self.host.process_over(self)
        if not self.ended.done():
            self.ended.set_result(None)

    def pause(self) -> None:
        """Stop as SIGSTOP does: the kernel goes on, the program does not."""
        if self.state is State.RUNNING:
            self.state = State.PAUSED
            self.scope.gate = hold

    def resume(self) -> None:
        """Go on. All timers that came due meanwhile fire now."""
        if self.state is State.PAUSED:
            self.state = State.RUNNING
            self.scope.gate = None
            self._release()
            self._open()

    def slow(self, step_s: float) -> None:
        """Run one callback each `step_s` and no quicker; 0 for at full speed."""
        self._step_s = step_s
        if self.state is State.RUNNING:
            self._open()

    def _open(self) -> None:
        """Set the gate that a running process has: none, or the one that makes it slow."""
        self.scope.gate = self._pace if self._step_s else None
        if not self._step_s:
            self._release()

    def _release(self) -> None:
        backlog = self.scope.backlog
        while backlog:
            self.host.loop.push(backlog.popleft())

    def _pace(self, scope: Scope, handle: Handle) -> None:
        """The gate of a slow process: one callback at a time, in order."""
        scope.backlog.append(handle)
        if not self._stepping:
            self._stepping = True
            self.host.loop.call_in_world(self.host.loop.time() + self._step_s, self._step)

    def _step(self) -> None:
        """Run the callback whose time has come."""
        backlog = self.scope.backlog
        if self.scope.gate == self._pace and backlog:
            self.host.loop.run_now(backlog.popleft())
        if self.scope.gate == self._pace and backlog:
            self.host.loop.call_in_world(self.host.loop.time() + self._step_s, self._step)
        else:
            self._stepping = False

    def signal(self, number: int) -> None:
        """Send a signal: to its handler, or else with the default effect, which is to end."""
        handler = self.signals.get(number)
        loop = self.host.loop
        if number == signal.SIGKILL or (handler is None and number != signal.SIGINT):
            self.over(State.KILLED)
        elif handler is not None:
            with loop.within(self.scope):
                loop.call_soon(handler[0], *handler[1])
        elif self._task is not None:
            with loop.within(self.scope):
                loop.call_soon(self._task.cancel)


class Host:
    """A machine: its name, its clocks, its disk, its place in the network, and its processes."""

    def __init__(self, loop: SimulationLoop, name: str, number: int) -> None:
        self.loop = loop
        self.name = name
        self.number = number
        self.stack: Stack = loop.fabric.attach(name, number)
        self.disk: Disk = Disk(loop.tape.stream(f"disk/{name}"))
        self.clock: HostClock = HostClock(loop)
        self.processes: list[Process] = []
        self.modules: dict[str, Any] = {}
        """This host's own copies of the program's modules."""

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {self.stack.address}, {self.processes!r})"

    @property
    def running(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    def process_over(self, process: Process) -> None:
        """Let the kernel close the sockets, once no process is left that could own them."""
        if self.stack.up and not self.running:
            self.stack.process_died()


def freeze(task: asyncio.Task[Any]) -> None:
    """Let `task` stay as it is for ever: not even garbage collection ends it."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio's own way to say so
    keep_for_ever(task)


def keep_for_ever(thing: object) -> None:
    """Leak `thing` on purpose. A coroutine that is collected runs its `finally`; a killed one must not."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
