"""The sample, on a node that leaves without draining: the tests of draining must notice."""

from __future__ import annotations

from process_sample import app

from coterie.node import Node


async def _drain(self: Node, timeout_s: float | None = None) -> int:
    return 0


Node.drain = _drain  # type: ignore[method-assign]
__all__ = ["app"]
