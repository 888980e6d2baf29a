"""Coordination: what several nodes must not do at once, or must do once, on the Store.

A lock of a distributed system is a lease: whoever is paused for too long loses it without noticing. So
every lease carries a token that only rises, and a write that names it is refused once the lease is over.
"""

from ._ticks_machine import JobPolicy, Run, RunStatus
from .barrier import Barrier
from .coordination import Coordination
from .cron import Cron, Every
from .duties import Duties, LeaderDuty
from .election import Election, Leader
from .lease import Lease
from .locks import Lock, ReadWriteLock, Semaphore
from .registry import Instance, InstanceDirectory, Instances
from .schedule import Job, JobRunner, Tick
from .sequence import Sequence
from .session import CoordinationConfig
from .settings import Settings, SettingsFeed, SettingsVersion

__all__ = [
    "Barrier",
    "Coordination",
    "CoordinationConfig",
    "Cron",
    "Duties",
    "Election",
    "Every",
    "Instance",
    "InstanceDirectory",
    "Instances",
    "Job",
    "JobPolicy",
    "JobRunner",
    "Leader",
    "LeaderDuty",
    "Lease",
    "Lock",
    "ReadWriteLock",
    "Run",
    "RunStatus",
    "Semaphore",
    "Sequence",
    "Settings",
    "SettingsFeed",
    "SettingsVersion",
    "Tick",
]
