"""Stand-ins of engines: a Store and a Log on a host of the simulated network, as strong or as weak as asked.

engine = StandIn(world)                                   # linearizable, loses nothing
engine = StandIn(world, weak={Weakness.STALE_READS})      # an engine with that anomaly
await engine.start()
client = engine.open()                                    # on each host that uses it
"""

from .client import StandInClient
from .server import StandIn, Weakness

__all__ = ["StandIn", "StandInClient", "Weakness"]
