"""The calling side: what a node makes of a service that its code calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from ..codec import codec_for
from ..context import CURRENT, Call, Metadata
from ..errors import CoterieError, InvalidArgument, Outcome, Unavailable
from ..ports.entropy import Entropy
from ..ports.wire import Failure
from ..resilience import Policy
from ..resilience.stepping import within
from ._channels import CallConfig, Channels, Directory
from ._plans import MethodPlan, Plans, too_late
from ._quorum import Quorum, ask_quorum
from ._remote import FAIR_S, Pending, Remote
from ._routing import Endpoint
from .ledger import ReplyLedger
from .registry import ErrorRegistry
from .spec import MethodSpec, ServiceSpec

__all__ = ["CallConfig", "Channels", "Directory", "Endpoint", "ServiceBinding", "judge_outcome"]

_astuple = msgspec.structs.astuple


class ServiceBinding:
    """How the code on one node reaches one service: in process when it is hosted here, else by the wire.

    A call goes to another endpoint at once when it certainly reached no handler. What may have had an
    effect is raised to the caller, unless the method is idempotent: then it is repeated within the policy.
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
        plans: Plans | None = None,
        ledger: ReplyLedger | None = None,
    ) -> None:
        self.spec = spec
        self._instance = instance
        self._directory = directory
        self._channels = channels
        self._errors = errors
        self._ledger = ledger
        self._entropy = entropy
        config = config or CallConfig()
        self._patience_s = config.patience_s
        plans = plans or Plans(spec, lambda _: Policy(), timeout_s=config.timeout_s)
        self._plans: dict[str, MethodPlan] = plans.build()
        self._remote = Remote(
            spec.name, directory=directory, channels=channels, errors=errors, entropy=entropy
        )
        self._time = asyncio.get_running_loop().time
        self._validators = {
            method.name: [(p.name, codec_for(p.type).validate) for p in method.parameters]
            for method in spec.methods.values()
        }

    async def call(  # noqa: C901, PLR0912 - one way for all, without a step that only some need
        self,
        method: MethodSpec,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        here: Call,
        until: float | None = None,
    ) -> Any:
        """Call `method` for the code that runs in `here`, and return its result.

        `until` is the deadline of a call that has been let in by the gates of its policy.
        """
        # This runs for each call. What only a failure needs is made when there is one, and a quick success
        # is counted by a bare addition.
        time = self._time
        now = time()
        plan = self._plans[method.name]
        if until is None:
            timeout_s = plan.timeout_s
            if here.deadline is not None and here.deadline < now + timeout_s:
                timeout_s = here.deadline - now
                if timeout_s <= 0:
                    raise too_late(method, Outcome.NOT_APPLIED)
            deadline = now + timeout_s
            if plan.managed:
                return await self._managed(plan, args, kwargs, here, deadline)
        else:
            deadline, timeout_s = until, min(until - now, plan.attempt_timeout_s)
            if timeout_s <= 0:
                raise too_late(method, Outcome.NOT_APPLIED)
        if self._instance is not None:
            return await self._call_here(plan, method.bind(args, kwargs), here, deadline)
        body = method.encode_call(args, kwargs)
        plan.budget.fresh += 1
        router = plan.router
        endpoints = self._directory.endpoints(self.spec.name)
        if endpoints is not router.seen:
            router.update(endpoints, now)
        key = plan.key(args, kwargs) if plan.key_at else None
        peer = router.only or router.choose((), now=now, chance=self._entropy.random(), key=key)
        metadata = None if here.metadata is None else _outgoing(here)
        if peer is None:
            return await self._remote.run(self._pending(plan, body, metadata, deadline, key))
        load, channel = peer.load, self._channels.get(peer.address)
        load.pending += 1
        try:
            reply = await channel.request(method.target, body, timeout_s=timeout_s, metadata=metadata)
        except BaseException as error:  # noqa: BLE001 - raised there if it cannot be repeated
            pending = self._pending(plan, body, metadata, deadline, key)
            pause_s = self._remote.failed(pending, peer, error, now, timeout_s)
        else:
            ended = time()
            took_s = ended - now
            if ended < peer.quiet_until and took_s <= peer.peak_s:
                peer.fine += 1
            else:
                router.succeeded(peer, ended, took_s)
            return method.decode_result(reply)
        finally:
            load.pending -= 1
        if pause_s:
            await asyncio.sleep(pause_s)
        return await self._remote.run(pending)

    async def quorum(
        self, method: MethodSpec, args: tuple[Any, ...], kwargs: dict[str, Any], here: Call, quorum: Quorum
    ) -> Any:
        """Call `method` on several nodes, this one like any other, and return what enough agree on."""
        quorum.check(method)
        now, plan = self._time(), self._plans[method.name]
        deadline = now + plan.timeout_s if here.deadline is None else min(here.deadline, now + plan.timeout_s)
        if deadline <= now:
            raise too_late(method, Outcome.NOT_APPLIED)
        body, key = method.encode_call(args, kwargs), plan.key(args, kwargs)
        pending = self._pending(plan, body, _outgoing(here), deadline, key)
        if plan.gates is None:
            return await ask_quorum(self._remote, pending, quorum)
        await plan.gates.enter(now, deadline)
        began, took_s, failure = self._time(), None, None
        try:
            result = await ask_quorum(self._remote, pending, quorum)
            took_s = self._time() - began
        except BaseException as error:
            failure = error
            raise
        finally:
            plan.gates.leave(took_s, failure)
        return result

    def _pending(
        self, plan: MethodPlan, body: bytes, metadata: Metadata | None, deadline: float, key: str | None
    ) -> Pending:
        until = min(deadline, self._time() + self._patience_s)
        return Pending(plan, body, metadata, deadline=deadline, until=until, key=key)

    async def _managed(
        self, plan: MethodPlan, args: tuple[Any, ...], kwargs: dict[str, Any], here: Call, deadline: float
    ) -> Any:
        """Make a call whose policy has more to do than to repeat: a rate, a limit, hedges."""
        method, gates = plan.method, plan.gates
        if gates is None and plan.simple:
            return await self.call(method, args, kwargs, here, deadline)
        if gates is not None:
            await gates.enter(self._time(), deadline)
        began, took_s, failure = self._time(), None, None
        try:
            if plan.simple:
                result = await self.call(method, args, kwargs, here, deadline)
            elif self._instance is not None:
                result = await self._call_here(plan, method.bind(args, kwargs), here, deadline)
            else:
                arguments = method.bind(args, kwargs)
                plan.budget.fresh += 1
                body, key = method.encode_arguments(arguments), plan.key(args, kwargs)
                metadata = _outgoing(here)
                if method.keeps_replies:
                    metadata = _keyed(metadata, here.key or self._entropy.identifier())
                result = await self._remote.run(self._pending(plan, body, metadata, deadline, key))
            took_s = self._time() - began
        except BaseException as error:
            failure = error
            raise
        finally:
            if gates is not None:
                gates.leave(took_s, failure)
        return result

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
        plan, remote = self._plans[method.name], self._remote
        body, key = method.encode_call(args, kwargs), plan.key(args, kwargs)
        deadline = math.inf if here.deadline is None else here.deadline
        pending = self._pending(plan, body, _outgoing(here), deadline, key)
        while True:
            peer = await remote.find(pending)
            channel, began = self._channels.get(peer.address), self._time()
            timeout_s = None if here.deadline is None else here.deadline - began
            started = counted = False
            replies: Any = channel.stream(method.target, body, timeout_s=timeout_s, metadata=pending.metadata)
            peer.load.pending += 1
            try:
                async with aclosing(replies):
                    async for reply in replies:
                        if not started:
                            started = counted = True
                            now = self._time()
                            plan.router.streamed(peer, now, now - began)
                        yield method.decode_result(reply)
            except Failure as failure:
                raise self._errors.from_failure(failure) from None
            except Unavailable as error:
                counted = True
                remote.note_failure(plan, peer, error, began, FAIR_S)
                if started:
                    raise
                remote.give_up_or_retry(pending, peer, error)
            else:
                return
            finally:
                peer.load.pending -= 1
                if not counted:  # It ended before the first item came, as it may at any endpoint.
                    now = self._time()
                    plan.router.unused(peer, now, now - began)

    async def _call_here(self, plan: MethodPlan, arguments: Any, here: Call, deadline: float) -> Any:
        method = plan.method
        arguments = self._isolated(method, arguments)
        function = getattr(self._instance, method.name)
        values = _astuple(arguments)
        metadata = _outgoing(here)
        if method.keeps_replies and here.key is not None:
            metadata = _keyed(metadata, here.key)
        inner = Call(here.node, here.bindings, deadline, metadata)
        token = CURRENT.set(inner)
        try:
            names = (parameter.name for parameter in method.parameters)
            named = dict(zip(names, values, strict=True))
            if method.keeps_replies and here.key is not None and self._ledger is not None:

                async def make() -> bytes:
                    return method.result.encode(await function(**named))

                work = self._ledger.run(method, here.key, values, make)
                return method.decode_result(await within(work, deadline, plan.late))
            return self._received(method, await within(function(**named), deadline, plan.late))
        except Exception as error:
            judge_outcome(error, self._errors, inner)
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
        inner = Call(here.node, here.bindings, here.deadline, _outgoing(here))
        async with aclosing(getattr(self._instance, method.name)(**values)) as items:
            while True:
                scope = asyncio.timeout_at(here.deadline)
                # A generator runs in the context of whoever asks for the next item.
                token = CURRENT.set(inner)
                try:
                    async with scope:
                        item = self._received(method, await anext(items))
                except StopAsyncIteration:
                    return
                except Exception as error:
                    if isinstance(error, TimeoutError) and scope.expired():
                        raise too_late(method, Outcome.UNKNOWN) from None
                    judge_outcome(error, self._errors, inner)
                    received = self._errors.as_received(error)
                    if received is error:
                        raise
                    raise received from error
                finally:
                    CURRENT.reset(token)
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


_OURS = __name__.partition(".")[0] + "."


def judge_outcome(error: Exception, errors: ErrorRegistry, call: Call) -> None:
    """Make the outcome of what a method raised unknown, if the method has only let it through.

    `not_applied` says of one operation, of a map or of another service, that it had no effect. Of the whole
    `call` it says so only if nothing went before. A method that knows better raises an error of its own,
    `from` that one. A declared error keeps its outcome.
    """
    if not isinstance(error, CoterieError) or error.outcome is Outcome.UNKNOWN or errors.find(error):
        return
    if call.acted and _came_through_a_handle(error):
        error.outcome = Outcome.UNKNOWN


def _came_through_a_handle(error: Exception) -> bool:
    """Return whether a frame of Coterie lies below one of the method."""
    trace, in_method = error.__traceback__, False
    while trace is not None:
        ours = trace.tb_frame.f_globals.get("__name__", "").startswith(_OURS)
        if in_method and ours:
            return True
        in_method = in_method or not ours
        trace = trace.tb_next
    return False


def _problem(method: MethodSpec, name: str, error: InvalidArgument) -> str:
    problem = str(error.__cause__)
    return f"{method.target}: parameter `{name}`: {problem[:1].lower()}{problem[1:]}"


def _outgoing(here: Call) -> Metadata | None:
    """Return the metadata of the calls that code in `here` makes: what it was called with itself, but its
    own idempotency key and count of attempts."""
    metadata = here.metadata
    if metadata is None or (metadata.idempotency_key is None and not metadata.retry):
        return metadata
    return Metadata(metadata.traceparent, None, metadata.causal)


def _keyed(metadata: Metadata | None, key: str) -> Metadata:
    if metadata is None:
        return Metadata(idempotency_key=key)
    return Metadata(metadata.traceparent, key, metadata.causal)
