"""An asyncio event loop on a virtual clock.

Time moves only when nothing is left to do at the present moment, and then at once to the next timer,
so an hour of waiting costs nothing. Each pass over the ready callbacks takes `PASS_S` of virtual
time, as it would on a real machine, so that a loop which spins on `sleep(0)` sees time go on.

Everything runs in a `Scope`, inherited by what it schedules, which is how one loop carries many
hosts: a killed or paused host is a scope whose gate is shut. Order is the order of scheduling, the
same in every run; with `schedule` set, a tape's stream interleaves the callbacks of different scopes
that are ready at one moment. Within a scope asyncio promises first in, first out, and that is kept.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

from .errors import BudgetExhausted, Deadlock
from .handles import ARGS, CALLBACK, CONTEXT, ORDER, Handle, SimulatedTask, TimerHandle
from .scope import SCOPE, Scope
from .tape import Stream
from .trace import Trace
from .unhandled import describe_waiting, report

__all__ = ["PASS_S", "VirtualLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PASS_S = 10e-6
"""The virtual seconds that one pass over the ready callbacks takes."""

_current_context = contextvars.copy_context


class VirtualLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that knows nothing of networks: callbacks, timers, tasks, time."""

    def __init__(
        self, *, start_s: float = 0.0, max_events: int = 1 << 62, trace: Trace | None = None
    ) -> None:
        self.trace: Trace = trace or Trace()
        self.world: Scope = Scope("world", 0)
        """The scope of what belongs to no host: the test itself, and the network."""
        self.scope: Scope = self.world
        """The scope of the callback that runs now."""
        self.events: int = 0
        """How many callbacks have run."""
        self.max_events = max_events
        self.end_s: float = float("inf")
        """The virtual time at which the run is over; `BudgetExhausted` beyond it."""
        self.schedule: Stream | None = None
        """Interleaves scopes at random when it is set."""
        self.unhandled: list[dict[str, Any]] = []
        """The contexts of exceptions that nobody caught, each with the name of its `scope`."""
        self.on_exit: Callable[[Scope, BaseException], object] | None = None
        """Told of `SystemExit` in a scope other than the world's, which ends that process and no other."""
        self._world_context = contextvars.copy_context()
        self._world_context.run(SCOPE.set, self.world)
        self._now = start_s
        self._ready: deque[Handle] = deque()
        self._timers: list[TimerHandle] = []
        self._cancelled_timers = 0
        self._order = 0
        self._hash = 0
        self._tasks_named = 0
        self._stopping = False
        self._running = False
        self._closed = False
        self._generators: dict[int, Scope] = {}
        self._handlers: dict[Scope, Any] = {}
        self._factories: dict[Scope, Any] = {}

    # Time and scheduling.

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> Any:
        self._order = order = self._order + 1
        if context is None:
            context, scope = _current_context(), self.scope
        else:
            # Whoever completes a future schedules those that wait for it. They bring their context.
            scope = context.get(SCOPE) or self.scope
        handle = Handle((0.0, order, callback, args, context, scope))
        self._ready.append(handle)
        return handle

    # A simulation has one thread; this is for code that does not know on which it runs.
    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> Any:
        # The same as `call_at`, written out: it is what every `sleep` comes to.
        self._order = order = self._order + 1
        if context is None:
            context, scope = _current_context(), self.scope
        else:
            scope = context.get(SCOPE) or self.scope
        handle = TimerHandle((self._now + delay, order, callback, args, context, scope, self))
        heappush(self._timers, handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> Any:
        self._order = order = self._order + 1
        if context is None:
            context, scope = _current_context(), self.scope
        else:
            scope = context.get(SCOPE) or self.scope
        handle = TimerHandle((when, order, callback, args, context, scope, self))
        heappush(self._timers, handle)
        return handle

    def call_in_world(self, when: float, callback: Callable[..., object], *args: Any) -> TimerHandle:
        """Run `callback` at `when` in the scope of the world, whoever asks: what the network does."""
        self._order = order = self._order + 1
        handle = TimerHandle((when, order, callback, args, self._world_context, self.world, self))
        heappush(self._timers, handle)
        return handle

    @contextmanager
    def within(self, scope: Scope) -> Generator[None, None, None]:
        """Run a block of code as if it belonged to `scope`. The block may not wait."""
        before, self.scope = self.scope, scope
        token = SCOPE.set(scope)
        try:
            yield
        finally:
            SCOPE.reset(token)
            self.scope = before

    def push(self, handle: Handle) -> None:
        """Make a held-back handle ready."""
        self._ready.append(handle)

    def run_now(self, handle: Handle) -> None:
        """Run a held-back handle at once, in its own scope."""
        if handle[CALLBACK] is None:
            return
        before, self.scope = self.scope, handle.scope
        self.trace.mix(handle[ORDER])
        self.events += 1
        try:
            handle[CONTEXT].run(handle[CALLBACK], *handle[ARGS])
        except BaseException as error:  # noqa: BLE001 - as in the loop itself
            self.callback_failed(error, handle)
        finally:
            self.scope = before

    def timer_cancelled(self) -> None:
        """Count a cancelled timer, and now and then throw all of them out of the heap."""
        self._cancelled_timers += 1
        if self._cancelled_timers > 100 and self._cancelled_timers * 2 > len(self._timers):
            self._timers[:] = [timer for timer in self._timers if timer[CALLBACK] is not None]
            heapify(self._timers)
            self._cancelled_timers = 0

    def next_order(self) -> int:
        """Return a number that rises with each call: the order in which things were first seen."""
        self._order += 1
        return self._order

    def digest(self) -> str:
        """Return the hash of all that has happened so far, as 16 hexadecimal digits."""
        both = hash((self._hash, self.trace.hash, self.events))
        return f"{both & 0xFFFF_FFFF_FFFF_FFFF:016x}"

    # Futures and tasks.

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        factory = self._factories.get(self.scope) if self._factories else None
        if factory is not None:
            made: asyncio.Task[T] = factory(self, coro, **({} if context is None else {"context": context}))
            if name is not None:
                made.set_name(str(name))
            return made
        if name is None:
            self._tasks_named += 1
            name = f"Task-{self._tasks_named}"
        task: SimulatedTask[T] = SimulatedTask(coro, loop=self, name=str(name), context=context, **options)
        task.scope = self.scope
        return task

    def set_task_factory(self, factory: Any) -> None:
        self._factories[self.scope] = factory

    def get_task_factory(self) -> Any:
        return self._factories.get(self.scope)

    # Running.

    def run_forever(self) -> None:
        self._check_idle()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._generator_begins, finalizer=self._generator_dropped)
        asyncio._set_running_loop(self)  # noqa: SLF001 - as every loop does
        self._running = True
        try:
            self._run()
        finally:
            self._stopping = self._running = False
            self.scope = self.world
            asyncio._set_running_loop(None)  # noqa: SLF001
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(self, future: Any) -> Any:
        self._check_idle()
        if asyncio.iscoroutine(future):
            task = self.create_task(future, context=self._world_context.copy())
        else:
            task = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(self._main_done)
        try:
            self.run_forever()
        finally:
            task.remove_done_callback(self._main_done)
        if not task.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return task.result()

    def _main_done(self, _future: object) -> None:
        self._stopping = True

    def _check_idle(self) -> None:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._running or asyncio._get_running_loop() is not None:  # noqa: SLF001
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def _run(self) -> None:
        """The hot path: what stands here runs for every event of every universe."""
        ready, timers = self._ready, self._timers
        mixed = self._hash
        try:
            while not self._stopping:
                if self.events > self.max_events:
                    self._exhausted()
                if ready:
                    self._now = now = self._now + PASS_S
                else:
                    now = self._advance()
                while timers and timers[0][0] <= now:
                    ready.append(heappop(timers))
                if self.schedule is not None and len(ready) > 1:
                    self._interleave(self.schedule)
                mixed = hash((mixed, now))
                for _ in range(len(ready)):
                    handle = ready.popleft()
                    callback = handle[2]
                    if callback is None:
                        continue
                    self.scope = scope = handle[5]
                    if scope.gate is not None:
                        scope.gate(scope, handle)
                        continue
                    mixed = hash((mixed, handle[1]))
                    self.events += 1
                    try:
                        handle[4].run(callback, *handle[3])
                    except BaseException as error:  # noqa: BLE001 - as asyncio does: a callback harms no other
                        self.callback_failed(error, handle)
        finally:
            self._hash = mixed

    def _advance(self) -> float:
        """Move the clock to the next timer and return the time."""
        timers = self._timers
        while timers and timers[0][CALLBACK] is None:
            heappop(timers)
            self._cancelled_timers = max(0, self._cancelled_timers - 1)
        if not timers:
            waiting = describe_waiting(self)
            raise Deadlock(
                f"nothing is left to do at {self._now:.6f} s, but tasks still wait:\n{waiting}",
                hint="they wait for an event that no task, timer or packet can bring any more",
            )
        when = timers[0][0]
        if when > self.end_s:
            raise BudgetExhausted(f"the universe did not end within {self.end_s:g} virtual seconds")
        self._now = max(self._now, when)
        return self._now

    def _exhausted(self) -> None:
        raise BudgetExhausted(
            f"the universe used more than {self.max_events:,} events in {self._now:.3f} s",
            hint="does something spin without waiting? Otherwise raise max_events",
        )

    def _interleave(self, stream: Stream) -> None:
        """Merge the ready callbacks of the scopes at random; each scope's own stay in their order."""
        ready = self._ready
        queues: dict[Scope, deque[Handle]] = {}
        for handle in ready:
            queues.setdefault(handle.scope, deque()).append(handle)
        if len(queues) < 2:
            return
        ready.clear()
        waiting = list(queues.values())
        while waiting:
            index = stream.below(len(waiting))
            ready.append(waiting[index].popleft())
            if not waiting[index]:
                del waiting[index]

    # What goes wrong, and the rest of what a loop must have.

    def callback_failed(self, error: BaseException, handle: Handle) -> None:
        """Report an exception that a callback raised; let those that end a process end it."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            if self.on_exit is None or handle.scope is self.world:
                raise error
            self.on_exit(handle.scope, error)
            return
        self.call_exception_handler(
            {"message": f"Exception in callback {handle[CALLBACK]!r}", "exception": error, "handle": handle}
        )

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        handler = self._handlers.get(self.scope)
        if handler is None:
            self.default_exception_handler(context)
            return
        try:
            handler(self, context)
        except Exception as error:  # noqa: BLE001 - a handler's fault is reported like any other
            report(self, {"message": "Unhandled error in exception handler", "exception": error})

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        report(self, context)

    def set_exception_handler(self, handler: Any) -> None:
        self._handlers[self.scope] = handler

    def get_exception_handler(self) -> Any:
        return self._handlers.get(self.scope)

    def _generator_begins(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[id(generator)] = self.scope

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Close a generator that was dropped half-way, in the scope that began it."""
        scope = self._generators.pop(id(generator), self.world)
        if self._closed:
            return
        with self.within(scope):
            self.call_soon(self.create_task, generator.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: generators are closed when they are dropped."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: there are no threads."""

    def stop(self) -> None:
        self._stopping = True

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        if self._running:
            raise RuntimeError("Cannot close a running event loop")
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """Debug mode measures real time; there is none here."""
