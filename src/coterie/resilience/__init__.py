"""Calls that survive: retries within a budget, breakers, limits, balancing. Usable alone."""

from .balance import (
    Balancer,
    ConsistentHash,
    LeastRequests,
    Loads,
    Local,
    PowerOfTwo,
    RoundRobin,
    Target,
    Weighted,
)
from .breaker import Breaker, BreakerConfig, BreakerState
from .budget import Retry, RetryBudget, RetryBudgetConfig
from .ejection import Ejection, EjectionConfig
from .latency import PeakEwma, Quantiles
from .limit import AdaptiveLimit, AdaptiveLimitConfig
from .queue import AdmissionQueue, Priority, QueueConfig, Waiting
from .rate import Gcra, Rate, TokenBucket

__all__ = [
    "AdaptiveLimit",
    "AdaptiveLimitConfig",
    "AdmissionQueue",
    "Balancer",
    "Breaker",
    "BreakerConfig",
    "BreakerState",
    "ConsistentHash",
    "Ejection",
    "EjectionConfig",
    "Gcra",
    "LeastRequests",
    "Loads",
    "Local",
    "PeakEwma",
    "PowerOfTwo",
    "Priority",
    "Quantiles",
    "QueueConfig",
    "Rate",
    "Retry",
    "RetryBudget",
    "RetryBudgetConfig",
    "RoundRobin",
    "Target",
    "TokenBucket",
    "Waiting",
    "Weighted",
]
