"""Shared state: strong maps, and transactions over them.

A `StrongMap` is linearizable: a read returns the newest acknowledged write, and whoever cannot be
sure of that gets `Unavailable`. Every entry has a version, so that `put(expect=version)` is a
compare-and-set. A transaction reads and writes several entries and commits only if nothing that it
read has changed.
"""

from .maps import Item, MapBinding, MapChange, StrongMap
from .transactions import Transaction, Transactional, TransactionBinding

__all__ = [
    "Item",
    "MapBinding",
    "MapChange",
    "StrongMap",
    "Transaction",
    "TransactionBinding",
    "Transactional",
]
