"""The workloads by name. Each is one file: the plan, the user that carries it out, and the promises."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..workload import Workload
from .appends import APPEND
from .bank import BANK
from .locks import LOCK
from .logs import LOG
from .register import REGISTER
from .sets import SET

__all__ = ["WORKLOADS"]

WORKLOADS: Mapping[str, Workload] = MappingProxyType(
    {workload.name: workload for workload in (REGISTER, SET, LOG, LOCK, BANK, APPEND)}
)
"""All of them, in the order in which they are shown."""
