"""The calling side: what a node makes of a service that its code calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import coroutine
from typing import Any, Protocol

import msgspec

from ..codec import codec_for
from ..context import CURRENT, Call, Metadata
from ..errors import CoterieError, DeadlineExceeded, InvalidArgument, Outcome, Unavailable
from ..ports.entropy import Entropy
from ..ports.wire import Channel, Failure, Wire
from ._routing import Endpoint, Router
from .registry import ErrorRegistry
from .spec import MethodSpec, ServiceSpec

__all__ = ["CallConfig", "Channels", "Directory", "Endpoint", "ServiceBinding", "judge_outcome"]

_astuple = msgspec.structs.astuple


class Directory(Protocol):
    """Knows the live endpoints of each service."""

    def endpoints(self, service: str) -> Sequence[Endpoint]:
        """Return those that take calls now. Must be quick: it is asked at every call."""
        ...

    async def wait_changed(self) -> None:
        """Return when what `endpoints` returns may have changed."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CallConfig:
    """The bounds of a call."""

    timeout_s: float = 5.0
    """The deadline of a call whose caller has none."""
    patience_s: float = 2.0
    """How long a call waits for an endpoint when there is none, or none that can be reached."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= 86400 or not 0 <= self.patience_s <= 3600:
            raise ValueError(f"not usable bounds of a call: {self}")


class Channels:
    """One channel an address, shared by all services of a node."""

    __slots__ = ("_channels", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._channels: dict[str, Channel] = {}

    def get(self, address: str) -> Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._wire.connect(address)
        return channel

    def pending(self, address: str) -> int:
        """Return how many calls are under way to `address`."""
        channel = self._channels.get(address)
        return 0 if channel is None else channel.pending

    async def retain(self, addresses: Iterable[str]) -> None:
        """Close the channels to all other addresses that have nothing under way."""
        keep = set(addresses)
        for address in [a for a, c in self._channels.items() if a not in keep and not c.pending]:
            await self._channels.pop(address).close()

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()


class _Search:
    """How long a call still looks for an endpoint, and the last pause that it made."""

    __slots__ = ("until", "wait_s")

    def __init__(self, until: float) -> None:
        self.until = until
        self.wait_s = 0.005


class ServiceBinding:
    """How the code on one node reaches one service: in process when it is hosted here, else by the wire.

    A call fails over to another endpoint only when it certainly reached no handler. Whatever may have
    had an effect is raised to the caller.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        *,
        instance: object | None,
        directory: Directory,
        channels: Channels,
        errors: ErrorRegistry,
        entropy: Entropy,
        config: CallConfig | None = None,
    ) -> None:
        self.spec = spec
        self._instance = instance
        self._directory = directory
        self._channels = channels
        self._errors = errors
        self._entropy = entropy
        self._config = config or CallConfig()
        self._timeout_s = self._config.timeout_s
        self._router = Router()
        self._time = asyncio.get_running_loop().time
        self._validators = {
            method.name: [(p.name, codec_for(p.type).validate) for p in method.parameters]
            for method in spec.methods.values()
        }

    async def call(
        self, method: MethodSpec, args: tuple[Any, ...], kwargs: dict[str, Any], here: Call
    ) -> Any:
        """Call `method` for the code that runs in `here`, and return its result."""
        time = self._time
        now = time()
        timeout_s = self._timeout_s
        if here.deadline is not None and here.deadline < now + timeout_s:
            timeout_s = here.deadline - now
            if timeout_s <= 0:
                raise _too_late(method, Outcome.NOT_APPLIED)
        if self._instance is not None:
            return await self._call_here(method, method.bind(args, kwargs), here, now + timeout_s)
        body = method.encode_call(args, kwargs)
        metadata = None if here.metadata is None else _outgoing(here.metadata)
        deadline = now + timeout_s
        tried: list[str] = []
        search: _Search | None = None
        while True:
            endpoint = self._choose(tried)
            if endpoint is None:
                search = search or _Search(min(deadline, time() + self._config.patience_s))
                endpoint = await self._endpoint(tried, search)
                timeout_s = deadline - time()
            channel = self._channels.get(endpoint.address)
            try:
                reply = await channel.request(method.target, body, timeout_s=timeout_s, metadata=metadata)
            except Failure as failure:
                raise self._errors.from_failure(failure) from None
            except Unavailable as error:
                self._give_up_or_retry(error, endpoint, tried)
                timeout_s = deadline - time()
            else:
                if tried:
                    self._router.worked(endpoint.address)
                return method.decode_result(reply)

    async def stream(
        self, method: MethodSpec, args: tuple[Any, ...], kwargs: dict[str, Any], here: Call
    ) -> AsyncGenerator[Any, None]:
        """Call a streaming `method` and iterate over its items, until the caller's deadline, if any."""
        if self._instance is not None:
            arguments = method.bind(args, kwargs)
            async with aclosing(self._stream_here(method, arguments, here)) as items:
                async for item in items:
                    yield item
            return
        body = method.encode_call(args, kwargs)
        metadata = _outgoing(here.metadata)
        tried: list[str] = []
        patient_until = self._time() + self._config.patience_s
        search = _Search(patient_until if here.deadline is None else min(here.deadline, patient_until))
        while True:
            endpoint = await self._endpoint(tried, search)
            channel = self._channels.get(endpoint.address)
            timeout_s = None if here.deadline is None else here.deadline - self._time()
            started = False
            replies: Any = channel.stream(method.target, body, timeout_s=timeout_s, metadata=metadata)
            try:
                async with aclosing(replies):
                    async for reply in replies:
                        started = True
                        yield method.decode_result(reply)
            except Failure as failure:
                raise self._errors.from_failure(failure) from None
            except Unavailable as error:
                if started:
                    raise
                self._give_up_or_retry(error, endpoint, tried)
            else:
                return

    def _give_up_or_retry(self, error: Unavailable, endpoint: Endpoint, tried: list[str]) -> None:
        if error.outcome is not Outcome.NOT_APPLIED:
            raise error
        self._router.failed(endpoint.address, self._time())
        tried.append(endpoint.address)

    def _choose(self, tried: list[str]) -> Endpoint | None:
        endpoints = self._directory.endpoints(self.spec.name)
        if len(endpoints) == 1 and not tried:
            return endpoints[0]
        return self._router.choose(
            endpoints,
            tried,
            now=self._time(),
            chance=self._entropy.random(),
            pending=self._channels.pending,
        )

    async def _endpoint(self, tried: list[str], search: _Search) -> Endpoint:
        """Return the endpoint for the next attempt, and wait for one while there is hope."""
        while True:
            chosen = self._choose(tried)
            if chosen is not None:
                return chosen
            now = self._time()
            if now >= search.until:
                raise self._nobody(self._directory.endpoints(self.spec.name))
            tried.clear()  # All were tried: begin again after a pause, or as soon as the view changes.
            search.wait_s = min(search.wait_s * 2, 0.25)
            wait_s = min(search.wait_s * (0.5 + self._entropy.random() / 2), search.until - now)
            try:
                async with asyncio.timeout(wait_s):
                    await self._directory.wait_changed()
            except TimeoutError:
                continue

    def _nobody(self, endpoints: Sequence[Endpoint]) -> Unavailable:
        if endpoints:
            return Unavailable(
                f"none of the {len(endpoints)} nodes that offer {self.spec.name} can be reached",
                hint="they may just have died: look at `coterie status`",
                outcome=Outcome.NOT_APPLIED,
            )
        return Unavailable(
            f"no live node offers the service {self.spec.name}",
            hint="start one with `coterie run`, on the same engine",
            outcome=Outcome.NOT_APPLIED,
        )

    async def _call_here(self, method: MethodSpec, arguments: Any, here: Call, deadline: float) -> Any:
        arguments = self._isolated(method, arguments)
        function = getattr(self._instance, method.name)
        values = _astuple(arguments)
        token = CURRENT.set(Call(here.node, here.bindings, deadline, _outgoing(here.metadata)))
        try:
            names = (parameter.name for parameter in method.parameters)
            result = await _within(function(**dict(zip(names, values, strict=True))), deadline, method)
            return self._received(method, result)
        except Exception as error:
            judge_outcome(error, self._errors)
            received = self._errors.as_received(error)
            if received is error:
                raise
            raise received from error
        finally:
            CURRENT.reset(token)

    async def _stream_here(self, method: MethodSpec, arguments: Any, here: Call) -> AsyncGenerator[Any, None]:
        arguments = self._isolated(method, arguments)
        names = (parameter.name for parameter in method.parameters)
        values = dict(zip(names, _astuple(arguments), strict=True))
        async with aclosing(getattr(self._instance, method.name)(**values)) as items:
            while True:
                scope = asyncio.timeout_at(here.deadline)
                try:
                    async with scope:
                        item = self._received(method, await anext(items))
                except StopAsyncIteration:
                    return
                except Exception as error:
                    if isinstance(error, TimeoutError) and scope.expired():
                        raise _too_late(method, Outcome.UNKNOWN) from None
                    judge_outcome(error, self._errors)
                    received = self._errors.as_received(error)
                    if received is error:
                        raise
                    raise received from error
                yield item

    def _received(self, method: MethodSpec, result: Any) -> Any:
        """Return a result that shares nothing mutable with the service, checked as in a remote call."""
        sent = method.result.encode(result)  # Refuses what cannot be sent, as integers beyond 64 bits.
        if not method.immutable_result:
            return method.decode_result(sent)
        try:
            return method.result.validate(result)
        except InvalidArgument as error:
            raise method.bad_result(error) from error

    def _isolated(self, method: MethodSpec, arguments: Any) -> Any:
        """Return arguments that share nothing mutable with the caller, checked as in a remote call."""
        sent = method.encode_arguments(arguments)  # Refuses what cannot be sent, as integers beyond 64 bits.
        if not method.immutable_arguments:
            return method.decode_arguments(sent)
        for name, validate in self._validators[method.name]:
            try:
                validate(getattr(arguments, name))
            except InvalidArgument as error:
                raise InvalidArgument(_problem(method, name, error)) from error
        return arguments


_CALLS = frozenset({ServiceBinding.call.__code__, ServiceBinding.stream.__code__})


def judge_outcome(error: Exception, errors: ErrorRegistry) -> None:
    """Make the outcome of what a method raised unknown, if the method has only let it through.

    `not_applied` says of a nested call that it had no effect. What the method did before, only the method
    knows: it may raise an error of its own, `from` that one. A declared error keeps its outcome.
    """
    if not isinstance(error, CoterieError) or error.outcome is Outcome.UNKNOWN or errors.find(error):
        return
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in _CALLS:
            error.outcome = Outcome.UNKNOWN
            return
        trace = trace.tb_next


def _problem(method: MethodSpec, name: str, error: InvalidArgument) -> str:
    problem = str(error.__cause__)
    return f"{method.target}: parameter `{name}`: {problem[:1].lower()}{problem[1:]}"


def _outgoing(metadata: Metadata | None) -> Metadata | None:
    """Return what of a call's metadata the calls made within it inherit: all but its idempotency key."""
    if metadata is None or (metadata.idempotency_key is None and not metadata.retry):
        return metadata
    return Metadata(metadata.traceparent, None, metadata.causal)


def _too_late(method: MethodSpec, outcome: Outcome) -> DeadlineExceeded:
    when = "before it started" if outcome is Outcome.NOT_APPLIED else "while it ran"
    return DeadlineExceeded(f"the deadline of {method.target} was over {when}", outcome=outcome)


async def _within(work: Any, deadline: float, method: MethodSpec) -> Any:
    """Await `work`, but not beyond `deadline`; without a timer if it does not suspend."""
    try:
        waits_for = work.send(None)
    except StopIteration as stop:
        return stop.value
    scope = asyncio.timeout_at(deadline)
    try:
        async with scope:
            return await _rest(work, waits_for)
    except TimeoutError:
        if scope.expired():
            raise _too_late(method, Outcome.UNKNOWN) from None
        raise


@coroutine
def _rest(work: Any, waits_for: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that was stepped to its first await, `waits_for`."""
    while True:
        sent: Any = None
        thrown: BaseException | None = None
        try:
            sent = yield waits_for
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to `work`
            thrown = error
        try:
            waits_for = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration as stop:
            return stop.value
