"""One public suite per port, free of any test framework, so that anyone can run it on an own engine."""

from ._expect import Violation
from .clock import ClockSuite
from .entropy import EntropySuite
from .log import LogFixture, LogSuite
from .store import StoreFixture, StoreSuite
from .suite import Check, Failed, Report, Suite, run_check, run_suite
from .wire import WireFixture, WireSuite

__all__ = [
    "Check",
    "ClockSuite",
    "EntropySuite",
    "Failed",
    "LogFixture",
    "LogSuite",
    "Report",
    "StoreFixture",
    "StoreSuite",
    "Suite",
    "Violation",
    "WireFixture",
    "WireSuite",
    "run_check",
    "run_suite",
]
