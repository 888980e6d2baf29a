"""One public suite per port, free of any test framework, so that anyone can run it on an own engine."""

from ._expect import Violation
from .store import StoreFixture, StoreSuite
from .suite import Check, Failed, Report, Suite, run_check, run_suite

__all__ = [
    "Check",
    "Failed",
    "Report",
    "StoreFixture",
    "StoreSuite",
    "Suite",
    "Violation",
    "run_check",
    "run_suite",
]
