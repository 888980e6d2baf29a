"""Calls that survive: deadlines, retries within a budget, breakers, limits, balancing. Usable alone."""

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
from .deadlines import check_deadline, deadline, remaining_s
from .ejection import Ejection, EjectionConfig
from .events import Listener, PolicyEvent, PolicyEventKind
from .guard import Guard
from .keys import idempotency_key
from .latency import PeakEwma, Quantiles
from .limit import AdaptiveLimit, AdaptiveLimitConfig
from .limiter import Limiter
from .policy import Hedge, Policy
from .queue import AdmissionQueue, Priority, QueueConfig, Waiting
from .rate import Gcra, Rate, TokenBucket
from .shared_rate import RateBinding, RateLimit, WhenUnsure

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
    "Guard",
    "Hedge",
    "LeastRequests",
    "Limiter",
    "Listener",
    "Loads",
    "Local",
    "PeakEwma",
    "Policy",
    "PolicyEvent",
    "PolicyEventKind",
    "PowerOfTwo",
    "Priority",
    "Quantiles",
    "QueueConfig",
    "Rate",
    "RateBinding",
    "RateLimit",
    "Retry",
    "RetryBudget",
    "RetryBudgetConfig",
    "RoundRobin",
    "Target",
    "TokenBucket",
    "Waiting",
    "Weighted",
    "WhenUnsure",
    "check_deadline",
    "deadline",
    "idempotency_key",
    "remaining_s",
]
