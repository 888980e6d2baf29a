"""Who is in the cluster: nodes join by a lease in the Store, and are gone when it ends."""

from ._machine import Event, EventKind, Member, MemberState, Standing, View
from .membership import Membership, MembershipConfig

__all__ = [
    "Event",
    "EventKind",
    "Member",
    "MemberState",
    "Membership",
    "MembershipConfig",
    "Standing",
    "View",
]
