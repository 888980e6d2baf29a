"""Many hosts in one OS process, in virtual time, under every fault, repeatable from one seed.

    from coterie.simulation import World, run

    async def main(world: World) -> None:
        await world.start("a", serve)                      # a coroutine function, or "module:function"
        reader, writer = await asyncio.open_connection("a", 8080)
        world.partition({"a"}, {"b", "c"}); world.heal()
        world.kill("a"); world.restart("a")

    run(main, seed=7)

`World` says what can be done to hosts and to the network, `universe` how universes are run in
processes of their own, judged and repeated, `faults` which faults there are, and `shrink` how a
failing universe is made small.
"""

from .errors import BudgetExhausted, Deadlock, ProcessFailed, Refused, SimulationError
from .network.links import Conditions
from .tape import Edit, Edits, Tape
from .world import World, run

__all__ = [
    "BudgetExhausted",
    "Conditions",
    "Deadlock",
    "Edit",
    "Edits",
    "ProcessFailed",
    "Refused",
    "SimulationError",
    "Tape",
    "World",
    "run",
]
