"""The answering side: from a request on the wire to a method of a service, and back."""

from __future__ import annotations

import asyncio
import difflib
import inspect
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from ..codec import Buffer, decode_hook
from ..context import CURRENT, Call, Metadata
from ..errors import CoterieError, DeadlineExceeded, InvalidArgument, NotFound, Overloaded
from ..ports.clock import Clock
from ..ports.wire import Handlers, Request
from ..resilience import Limiter, Listener, PolicyEvent, PolicyEventKind, Priority
from ..telemetry import LATENCY_BUCKETS_S, Distribution, Family, Sample
from .admission import Admissions
from .binding import judge_outcome
from .ledger import ReplyLedger
from .registry import ErrorRegistry
from .spec import Admission, MethodSpec, ServiceSpec

__all__ = ["Dispatcher", "MethodStatistics"]

_astuple = msgspec.structs.astuple
_set_current = CURRENT.set


_CANCELLED = asyncio.CancelledError()
"""How a call has ended that has neither returned nor raised an error."""
_COME_BACK_S = 0.01
"""What a caller is told that was turned away: another node may have room at once."""


class MethodStatistics:
    """What a method has done since the node started."""

    __slots__ = ("counts", "failures", "pending", "seconds")

    def __init__(self) -> None:
        self.pending: int = 0
        self.seconds: float = 0.0
        self.counts: list[int] = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.failures: dict[str, int] = {}

    @property
    def calls(self) -> int:
        """How many calls were answered or are being answered."""
        return sum(self.counts) + self.pending

    def ended(self, seconds: float) -> None:
        self.pending -= 1
        self.seconds += seconds
        self.counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1


class _Hosted:
    """A method with the instance that answers it, and what is made once for all its calls."""

    __slots__ = ("call", "decode", "encode", "keeps_replies", "limiters", "priority", "spec", "statistics")

    def __init__(
        self, spec: MethodSpec, instance: object, limiters: tuple[Limiter, ...], priority: Priority
    ) -> None:
        function = getattr(instance, spec.name)
        keyword_only = any(p.kind is p.KEYWORD_ONLY for p in inspect.signature(function).parameters.values())
        names = [parameter.name for parameter in spec.parameters]
        self.spec = spec
        self.call: Callable[..., Any] = function
        """Calls the method with its arguments by position."""
        if keyword_only:
            self.call = lambda *arguments: function(**dict(zip(names, arguments, strict=True)))
        self.decode: Callable[[Buffer], tuple[Any, ...]] = self.decode_any
        """Returns the arguments by position. May raise msgspec's errors where `decode_any` would not."""
        if spec.parameters and all(parameter.required for parameter in spec.parameters):
            # Straight into a tuple. It has no place for defaults, nor for what a newer caller adds.
            types: Any = tuple[tuple(parameter.type for parameter in spec.parameters)]  # type: ignore[misc]
            self.decode = msgspec.msgpack.Decoder(types, dec_hook=decode_hook).decode
        self.encode = spec.result.encode
        self.keeps_replies = spec.keeps_replies
        self.limiters = limiters
        """Which let a call in, one after the other: that of the method, that of its service."""
        self.priority = priority
        self.statistics = MethodStatistics()

    def decode_any(self, body: Buffer) -> tuple[Any, ...]:
        """Return the arguments by position; raise `InvalidArgument` that names what is wrong."""
        return _astuple(self.spec.decode_arguments(body))


class Dispatcher:
    """Answers calls to the services that a node hosts.

    `instances` has the instance of each hosted service by name; `bindings` is what the handles find
    in `current()` while a method runs. Latencies are measured with `clock`, or with the loop's time,
    which uvloop keeps in milliseconds.
    """

    def __init__(
        self,
        node: str,
        specs: Mapping[str, ServiceSpec],
        instances: Mapping[str, object],
        *,
        bindings: Mapping[object, Any],
        errors: ErrorRegistry,
        clock: Clock | None = None,
        ledger: ReplyLedger | None = None,
        listener: Listener | None = None,
        admissions: Admissions | None = None,
    ) -> None:
        self._node = node
        self._bindings = bindings
        self._errors = errors
        self._ledger = ledger
        self._listener = listener
        self._loop_time = asyncio.get_running_loop().time
        self._time = self._loop_time if clock is None else clock.monotonic
        self._limiters: dict[str, Limiter] = {}
        self._methods: dict[str, _Hosted] = {}
        for spec in specs.values():
            self._host(spec, instances[spec.name], admissions or Admissions())
        self._unary = {name: hosted for name, hosted in self._methods.items() if not hosted.spec.streaming}

    def _host(self, spec: ServiceSpec, instance: object, admissions: Admissions) -> None:
        if spec.name.startswith("_"):  # What the node itself offers is not limited by what the app is.
            admissions = Admissions()
        of_service = self._limiter(spec.name, admissions.of_service(spec).value)
        for method in spec.methods.values():
            admission = admissions.of_method(spec, method).value
            # First that of the method: who waits for it takes no room from the other methods.
            limiters = (*self._limiter(method.target, admission), *of_service)
            self._methods[method.target] = _Hosted(method, instance, limiters, admission.priority)

    def _limiter(self, name: str, admission: Admission) -> tuple[Limiter, ...]:
        if admission.limit is None:
            return ()
        limiter = Limiter(admission.limit, admission.queue, name=f"{name} on {self._node}")
        self._limiters[name] = limiter
        return (limiter,)

    def handlers(self) -> Handlers:
        """Return what a wire's listener needs."""
        return Handlers(request=self._request, stream=self._stream)

    @property
    def calls(self) -> int:
        """How many calls were answered or are being answered."""
        return sum(hosted.statistics.calls for hosted in self._methods.values())

    @property
    def pending(self) -> int:
        """How many calls are being answered."""
        return sum(hosted.statistics.pending for hosted in self._methods.values())

    async def invoke(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> Any:
        """Call a hosted method with typed arguments (either Struct of `method`) and return its result.

        Raises what the method raises, and `DeadlineExceeded` after `timeout_s`.
        """
        hosted = self._methods[method.target]
        statistics, limiters = hosted.statistics, hosted.limiters
        deadline = self._loop_time() + timeout_s
        here = Call(self._node, self._bindings, deadline, metadata)
        CURRENT.set(here)
        if limiters:
            await self._enter(limiters, hosted, deadline)
        began = self._time()
        statistics.pending += 1
        scope = asyncio.timeout_at(deadline)
        failed: BaseException | None = _CANCELLED
        try:
            async with scope:
                if hosted.keeps_replies and metadata is not None:
                    reply = await self._once(hosted, _astuple(arguments), metadata)
                    result = hosted.spec.decode_result(reply)
                else:
                    result = await hosted.call(*_astuple(arguments))
            failed = None
            return result
        except TimeoutError as error:
            failed = error
            if not scope.expired():
                self._count(statistics, error)
                raise
            raise self._late(hosted, timeout_s) from error
        except Exception as error:
            failed = error
            judge_outcome(error, self._errors, here)
            self._count(statistics, error)
            raise
        finally:
            took_s = self._time() - began
            statistics.ended(took_s)
            if limiters:
                self._leave(limiters, took_s, failed, deadline)

    async def stream(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> AsyncIterator[Any]:
        """Call a hosted streaming method with typed arguments and iterate over its items."""
        hosted = self._methods[method.target]
        statistics = hosted.statistics
        began = self._time()
        deadline = self._loop_time() + timeout_s
        here = Call(self._node, self._bindings, deadline, metadata)
        CURRENT.set(here)
        statistics.pending += 1
        scope = asyncio.timeout_at(deadline)
        try:
            async with aclosing(hosted.call(*_astuple(arguments))) as items:
                while True:
                    scope = asyncio.timeout_at(deadline)
                    async with scope:
                        try:
                            item = await anext(items)
                        except StopAsyncIteration:
                            return
                    yield item
        except TimeoutError as error:
            if not scope.expired():
                self._count(statistics, error)
                raise
            raise self._late(hosted, timeout_s) from error
        except Exception as error:
            judge_outcome(error, self._errors, here)
            self._count(statistics, error)
            raise
        finally:
            statistics.ended(self._time() - began)

    # The two below run for every call between nodes: the wire gives each its own context and deadline.

    async def _request(self, request: Request) -> bytes:
        hosted = self._unary.get(request.target)
        if hosted is None:
            raise self._errors.to_failure(self._unknown(request.target, streaming=False))
        here = Call(self._node, self._bindings, request.deadline, request.metadata)
        _set_current(here)
        # Attributes that are no methods are called by way of a local variable, as in the wire.
        statistics, decode, encode, time = hosted.statistics, hosted.decode, hosted.encode, self._time
        limiters = hosted.limiters
        failed: BaseException | None = _CANCELLED
        if limiters:
            try:
                await self._enter(limiters, hosted, request.deadline)
            except CoterieError as error:
                raise self._errors.to_failure(error) from error
        began = time()
        statistics.pending += 1
        try:
            try:
                arguments = decode(request.body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                arguments = hosted.decode_any(request.body)
            if hosted.keeps_replies and request.metadata is not None:
                reply = await self._once(hosted, arguments, request.metadata)
            else:
                reply = encode(await hosted.call(*arguments))
            failed = None
            return reply
        except Exception as error:
            failed = error
            judge_outcome(error, self._errors, here)
            self._count(statistics, error)
            raise self._errors.to_failure(error) from error
        finally:  # As `ended` does, without a call.
            seconds = time() - began
            statistics.pending -= 1
            statistics.seconds += seconds
            statistics.counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
            if limiters:
                self._leave(limiters, seconds, failed, request.deadline)

    async def _enter(self, limiters: Iterable[Limiter], hosted: _Hosted, deadline: float | None) -> None:
        """Let a call in; raise `Overloaded` or `DeadlineExceeded`, both not applied."""
        entered: list[Limiter] = []
        try:
            for limiter in limiters:
                await limiter.enter(hosted.priority, deadline)
                entered.append(limiter)
        except BaseException as error:
            for limiter in entered:
                limiter.leave(None)
            if not isinstance(error, CoterieError):
                raise
            # Refused before it began: the caller is asked to come back, and so goes to another node.
            if isinstance(error, Overloaded) and error.retry_after_s is None:
                error.retry_after_s = _COME_BACK_S
            self._count(hosted.statistics, error)
            if self._listener is not None and isinstance(error, Overloaded):
                self._listener(PolicyEvent(PolicyEventKind.SHED, hosted.spec.target))
            raise

    def _leave(
        self,
        limiters: Iterable[Limiter],
        took_s: float,
        failed: BaseException | None,
        deadline: float | None,
    ) -> None:
        """End a call that was let in. What took too long says that there was too much to do."""
        late = failed is _CANCELLED and deadline is not None and self._loop_time() >= deadline
        dropped = late or isinstance(failed, Overloaded | DeadlineExceeded | TimeoutError)
        for limiter in limiters:
            limiter.leave(None if failed is not None else took_s, dropped=dropped)

    async def _once(self, hosted: _Hosted, arguments: tuple[Any, ...], metadata: Metadata) -> bytes:
        """Answer a call of an idempotent method with the first reply to its key."""
        key, ledger = metadata.idempotency_key, self._ledger

        async def work() -> bytes:
            return hosted.encode(await hosted.call(*arguments))

        return await (
            work() if key is None or ledger is None else ledger.run(hosted.spec, key, arguments, work)
        )

    async def _stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        hosted = self._methods.get(request.target)
        if hosted is None or not hosted.spec.streaming:
            raise self._errors.to_failure(self._unknown(request.target, streaming=True))
        statistics = hosted.statistics
        began = self._time()
        statistics.pending += 1
        here = Call(self._node, self._bindings, request.deadline, request.metadata)
        try:
            arguments = hosted.decode_any(request.body)
            CURRENT.set(here)
            async with aclosing(hosted.call(*arguments)) as items:
                async for item in items:
                    yield hosted.encode(item)
        except Exception as error:
            judge_outcome(error, self._errors, here)
            self._count(statistics, error)
            raise self._errors.to_failure(error) from error
        finally:
            statistics.ended(self._time() - began)

    def _unknown(self, target: str, *, streaming: bool) -> CoterieError:
        hosted = self._methods.get(target)
        if hosted is not None:
            kind = "one result" if streaming else "a stream"
            return InvalidArgument(f"{target} returns {kind}; the caller expected otherwise")
        public = [name for name in self._methods if not name.startswith("_")]
        near = difflib.get_close_matches(target, public, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(sorted(public)) or 'none'}"
        return NotFound(f"the node {self._node!r} has no method {target!r}", hint=hint)

    def _late(self, hosted: _Hosted, timeout_s: float) -> DeadlineExceeded:
        """Return the error of a call whose time is over, and count it."""
        error = DeadlineExceeded(f"{hosted.spec.target} took longer than {timeout_s:g} s")
        self._count(hosted.statistics, error)
        return error

    def _count(self, statistics: MethodStatistics, error: BaseException) -> None:
        found = self._errors.find(error)
        if found is not None:
            code = found[0]
        elif isinstance(error, CoterieError):
            code = error.code
        else:
            code = "internal"
        statistics.failures[code] = statistics.failures.get(code, 0) + 1

    def collect(self) -> Iterable[Family]:
        """Return calls, failures, latency and calls under way by method, and limits by service."""
        public = [(name, h.statistics) for name, h in self._methods.items() if not name.startswith("_")]
        yield Family(
            name="coterie_calls_failed_total",
            kind="counter",
            help="Calls that ended with an error, by its code.",
            labels=("method", "code"),
            samples=tuple(Sample((n, code), count) for n, s in public for code, count in s.failures.items()),
        )
        yield Family(
            name="coterie_calls_pending",
            kind="gauge",
            help="Calls that are being answered.",
            labels=("method",),
            samples=tuple(Sample((n,), s.pending) for n, s in public),
        )
        yield Family(
            name="coterie_call_duration_seconds",
            kind="histogram",
            help="How long methods took to answer.",
            labels=("method",),
            samples=tuple(
                Sample((n,), Distribution(LATENCY_BUCKETS_S, tuple(s.counts), s.seconds)) for n, s in public
            ),
        )
        if not self._limiters:
            return
        yield Family(
            name="coterie_service_limit",
            kind="gauge",
            help="How many calls to a service, or a method, this node answers at once; learned if adaptive.",
            labels=("service",),
            samples=tuple(Sample((name,), each.state.limit) for name, each in self._limiters.items()),
        )
        yield Family(
            name="coterie_service_waiting",
            kind="gauge",
            help="Calls that wait for the limit of their service or method.",
            labels=("service",),
            samples=tuple(Sample((name,), each.waiting) for name, each in self._limiters.items()),
        )
