"""What the gateway needs of the node behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ..context import Metadata
from ..ports import Entropy
from ..services.spec import MethodSpec, ServiceSpec
from ..telemetry import Family

__all__ = ["Backend", "DeclaredErrors"]


class DeclaredErrors(Protocol):
    """The exceptions that a program declares with `@app.error`."""

    def find(self, error: BaseException) -> tuple[str, int] | None:
        """Return the declared name and HTTP status of an exception's type, or None."""
        ...

    def declared(self) -> Iterable[tuple[str, type[Exception], int]]:
        """Return name, class and HTTP status of each declared exception."""
        ...


class Backend(Protocol):
    """A node, as the gateway sees it."""

    @property
    def name(self) -> str:
        """The node's name."""
        ...

    @property
    def app_name(self) -> str: ...

    @property
    def services(self) -> Mapping[str, ServiceSpec]:
        """The services that can be called, by name. Read once, when the ASGI app is made."""
        ...

    @property
    def errors(self) -> DeclaredErrors: ...

    @property
    def entropy(self) -> Entropy:
        """Gives internal errors the identifiers under which they are logged."""
        ...

    async def invoke(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> Any:
        """Call a method and return its typed result.

        `arguments` is the Struct of `method.arguments_json`: one attribute a parameter. Raises
        `DeadlineExceeded` after `timeout_s`. Cancelling it cancels the call.
        """
        ...

    def stream(
        self, method: MethodSpec, arguments: Any, *, timeout_s: float, metadata: Metadata | None
    ) -> AsyncIterator[Any]:
        """Call a streaming method and iterate over its typed items; `timeout_s` bounds all of it.

        Closing the iterator (`aclose`, if it has one) cancels the call.
        """
        ...

    def ready(self) -> Sequence[str]:
        """Return why the node should get no traffic now: one sentence a reason, empty when ready."""
        ...

    def collect(self) -> Iterable[Family]:
        """Return the node's own metrics."""
        ...
