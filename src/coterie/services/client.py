"""Typed clients: objects with a service's methods, whose calls run wherever the service lives."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from ..context import current
from ..errors import InvalidArgument, InvalidConfiguration, NotRunning
from ..resilience import Balancer, Policy
from ._quorum import Quorum
from .binding import ServiceBinding
from .spec import MethodSpec, ServiceSpec

__all__ = ["ClientSpec", "make_client", "quorum"]

S = TypeVar("S")
_HOOK = "__coterie_quorum__"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClientSpec:
    """A client that calls a service in a way of its own."""

    service: ServiceSpec
    policy: Policy | None = None
    balancer: Balancer | None = None
    """Each node works with a copy of it."""
    key: str | None = None
    """The parameter whose value a balancer gets as the key of a call."""

    def __post_init__(self) -> None:
        methods = self.service.methods.values()
        names = {parameter.name for method in methods for parameter in method.parameters}
        if self.key is not None and self.key not in names:
            raise InvalidConfiguration(
                f"no method of {self.service.name} has a parameter {self.key!r} to balance by",
                hint=f"there are: {', '.join(sorted(names)) or 'none'}",
            )


def make_client(spec: ServiceSpec, client: ClientSpec | None = None) -> Any:
    """Return an object with the public methods of the service, to be typed as the service's class.

    Its calls go by the binding of `client`, or else of the service. It has `quorum` as well, unless the
    service has a method of that name.
    """
    methods = {
        name: (_streaming if method.streaming else _unary)(spec, method, client or spec)
        for name, method in spec.methods.items()
    }

    @functools.lru_cache(maxsize=32)
    def of_quorum(wanted: Quorum) -> Any:
        voting = {
            name: _voting(spec, method, client or spec, wanted) for name, method in spec.methods.items()
        }
        return _object(spec, voting)

    def quorum_of(self: object, agreeing: int, *, of: int) -> Any:
        """Return a client whose calls go to `of` nodes and return what the first `agreeing` agree on."""
        return of_quorum(Quorum(agreeing, of))

    return _object(spec, {"quorum": quorum_of, **methods, _HOOK: quorum_of})


def _object(spec: ServiceSpec, methods: dict[str, Any]) -> Any:
    return type(f"{spec.name}Client", (), {"__slots__": (), "__doc__": spec.doc, **methods})()


def quorum(client: S, agreeing: int, *, of: int) -> S:
    """Return a client, typed as `client`, whose calls go to `of` nodes at once.

    They return what the first `agreeing` nodes agree on, by value, or raise the declared error that they
    agree on; the others are cancelled. They raise `Conflict`, `Unavailable` or `DeadlineExceeded`, with
    what each node said. Nothing is repeated, and a method with an effect has it on several nodes.
    """
    hook = getattr(client, _HOOK, None)
    if hook is None:
        raise InvalidArgument(
            f"a quorum is asked by a client, not by {client!r}", hint="get one with app.client(Service)"
        )
    voting: S = hook(agreeing, of=of)
    return voting


def _voting(spec: ServiceSpec, method: MethodSpec, bound: object, wanted: Quorum) -> Any:
    def call(self: object, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        wanted.check(method)
        here = current()
        try:
            binding: ServiceBinding = here.bindings[bound]
        except KeyError:
            raise _undeclared(spec) from None
        here.acted = True
        return binding.quorum(method, args, kwargs, here, wanted)

    return _dressed(call, spec, method)


def _unary(spec: ServiceSpec, method: MethodSpec, bound: object) -> Any:
    # Not `async def`: that would be one more coroutine in every call.
    def call(self: object, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        here = current()
        try:
            binding: ServiceBinding = here.bindings[bound]
        except KeyError:
            raise _undeclared(spec) from None
        here.acted = True  # If it fails, what lets that through cannot know that nothing happened.
        return binding.call(method, args, kwargs, here)

    return _dressed(call, spec, method)


def _streaming(spec: ServiceSpec, method: MethodSpec, bound: object) -> Any:
    async def stream(self: object, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        here = current()
        try:
            binding: ServiceBinding = here.bindings[bound]
        except KeyError:
            raise _undeclared(spec) from None
        here.acted = True
        async with aclosing(binding.stream(method, args, kwargs, here)) as items:
            async for item in items:
                yield item

    return _dressed(stream, spec, method)


def _undeclared(spec: ServiceSpec) -> NotRunning:
    return NotRunning(
        f"the service {spec.name!r} is not known to the app that runs here",
        hint="get the client from the same app with app.client(...) before the node starts",
    )


def _dressed(function: Any, spec: ServiceSpec, method: MethodSpec) -> Any:
    original = inspect.getattr_static(spec.cls, method.name)
    functools.update_wrapper(function, original)
    function.__signature__ = inspect.signature(original)
    return function
