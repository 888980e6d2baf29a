"""The conformance suite of the `Log` port."""

from __future__ import annotations

from ..suite import Suite
from . import records, topics
from .fixture import LogFixture

__all__ = ["LogFixture", "LogSuite"]


class LogSuite(Suite[LogFixture]):
    """Every promise of `coterie.ports.log`."""

    port = "log"

    def __init__(self) -> None:
        super().__init__((topics, records))
