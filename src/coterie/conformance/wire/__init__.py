"""The conformance suite of the `Wire` port."""

from __future__ import annotations

from ..suite import Suite
from . import lifecycle, requests, streams
from .fixture import WireFixture

__all__ = ["WireFixture", "WireSuite"]


class WireSuite(Suite[WireFixture]):
    """Every promise of `coterie.ports.wire`."""

    port = "wire"

    def __init__(self) -> None:
        super().__init__((requests, streams, lifecycle))
