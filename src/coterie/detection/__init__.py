"""Who lives, as the nodes tell each other: heartbeats, probes, gossip. Hints only; the Store decides."""

from ._machine import Change, Gossip, Send, Statistics
from ._phi_machine import PhiAccrual, PhiConfig
from ._table_machine import Known
from .config import DetectionConfig
from .detector import Detector
from .messages import State

__all__ = [
    "Change",
    "DetectionConfig",
    "Detector",
    "Gossip",
    "Known",
    "PhiAccrual",
    "PhiConfig",
    "Send",
    "State",
    "Statistics",
]
