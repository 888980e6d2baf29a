"""The machine's own clocks and randomness."""

from .clock import SystemClock
from .entropy import SystemEntropy

__all__ = ["SystemClock", "SystemEntropy"]
