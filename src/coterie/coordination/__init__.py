"""Coordination: locks and the like that live in the Store, each with a fencing token.

A lock of a distributed system is a lease: whoever is paused for too long loses it without noticing. So
every lease carries a token that only rises, and a write that names it is refused once the lease is over.
"""

from .coordination import Coordination
from .lease import Lease
from .locks import Lock, ReadWriteLock, Semaphore
from .session import CoordinationConfig

__all__ = ["Coordination", "CoordinationConfig", "Lease", "Lock", "ReadWriteLock", "Semaphore"]
