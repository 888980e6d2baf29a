"""Typed clients: objects with a service's methods, whose calls run wherever the service lives."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from ..context import current
from ..errors import NotRunning
from .binding import ServiceBinding
from .spec import MethodSpec, ServiceSpec

__all__ = ["make_client"]


def make_client(spec: ServiceSpec) -> Any:
    """Return an object with the public methods of the service, to be typed as the service's class."""
    methods = {
        name: _streaming(spec, method) if method.streaming else _unary(spec, method)
        for name, method in spec.methods.items()
    }
    cls = type(f"{spec.name}Client", (), {"__slots__": (), "__doc__": spec.doc, **methods})
    return cls()


def _unary(spec: ServiceSpec, method: MethodSpec) -> Any:
    # Not `async def`: that would be one more coroutine in every call.
    def call(self: object, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        here = current()
        try:
            binding: ServiceBinding = here.bindings[spec]
        except KeyError:
            raise _undeclared(spec) from None
        return binding.call(method, args, kwargs, here)

    return _dressed(call, spec, method)


def _streaming(spec: ServiceSpec, method: MethodSpec) -> Any:
    async def stream(self: object, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        here = current()
        try:
            binding: ServiceBinding = here.bindings[spec]
        except KeyError:
            raise _undeclared(spec) from None
        async for item in binding.stream(method, args, kwargs, here):
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
