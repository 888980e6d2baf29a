"""Coterie: one typed asyncio program, embedded, distributed or simulated, held to its promises.

    from coterie import App

    app = App("shop")
    stock = app.map("stock", int)

    @app.service
    class Shop:
        async def available(self, sku: str) -> int:
            return await stock.get(sku, 0)

Run it with `coterie run shop:app`.
"""

from .app import App
from .coordination import JobPolicy, Lease, Tick
from .errors import (
    AlreadyExists,
    Conflict,
    CoterieError,
    DeadlineExceeded,
    Fenced,
    InvalidArgument,
    KeyReused,
    NotFound,
    Outcome,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RemoteError,
    Unavailable,
)
from .resilience import Hedge, Policy, Retry, deadline, idempotency_key
from .services import Replicated, idempotent, limit, policy, priority, quorum
from .state import Item, MapChange, StrongMap, Transaction

__all__ = [
    "AlreadyExists",
    "App",
    "Conflict",
    "CoterieError",
    "DeadlineExceeded",
    "Fenced",
    "Hedge",
    "InvalidArgument",
    "Item",
    "JobPolicy",
    "KeyReused",
    "Lease",
    "MapChange",
    "NotFound",
    "Outcome",
    "Overloaded",
    "PermissionDenied",
    "Policy",
    "RateLimited",
    "RemoteError",
    "Replicated",
    "Retry",
    "StrongMap",
    "Tick",
    "Transaction",
    "Unavailable",
    "deadline",
    "idempotency_key",
    "idempotent",
    "limit",
    "policy",
    "priority",
    "quorum",
]

__version__ = "0.1.0.dev0"
