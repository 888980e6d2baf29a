"""Runs a whole app under faults, and holds it to what it and its declared blocks promise.

A `Campaign` tries an app in many universes; `coterie sim` prints what it finds. Nothing but the app is
needed: its workloads are the clients, and the histories of its maps, transactions and
calls are recorded at the ports and judged by the checkers of `coterie.history`.
"""

from .campaign import Campaign, Finding, Progress
from .scenario import Trial, scenario
from .target import importable

__all__ = ["Campaign", "Finding", "Progress", "Trial", "importable", "scenario"]
