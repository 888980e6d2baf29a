"""Coordination: what several nodes must not do at once, or must do once, on the Store.

A lock of a distributed system is a lease: whoever is paused for too long loses it without noticing. So
every lease carries a token that only rises, and a write that names it is refused once the lease is over.
"""

from .barrier import Barrier
from .coordination import Coordination
from .duties import Duties, LeaderDuty
from .election import Election, Leader
from .lease import Lease
from .locks import Lock, ReadWriteLock, Semaphore
from .registry import Instance, InstanceDirectory, Instances
from .sequence import Sequence
from .session import CoordinationConfig
from .settings import Settings, SettingsFeed, SettingsVersion

__all__ = [
    "Barrier",
    "Coordination",
    "CoordinationConfig",
    "Duties",
    "Election",
    "Instance",
    "InstanceDirectory",
    "Instances",
    "Leader",
    "LeaderDuty",
    "Lease",
    "Lock",
    "ReadWriteLock",
    "Semaphore",
    "Sequence",
    "Settings",
    "SettingsFeed",
    "SettingsVersion",
]
