"""The conformance suite of the `Store` port."""

from __future__ import annotations

from ..suite import Suite
from . import commits, concurrency, leases, lifecycle, scans, watches
from .fixture import StoreFixture

__all__ = ["StoreFixture", "StoreSuite"]


class StoreSuite(Suite[StoreFixture]):
    """Every promise of `coterie.ports.store`."""

    port = "store"

    def __init__(self) -> None:
        super().__init__((commits, scans, concurrency, leases, watches, lifecycle))
