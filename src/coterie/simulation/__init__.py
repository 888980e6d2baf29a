"""Many hosts in one OS process, in virtual time, under every fault, repeatable from one seed.

By hand, in this process:

    async def main(world: World) -> None:
        await world.start("a", serve)                      # a coroutine function, or "module:function"
        reader, writer = await asyncio.open_connection("a", 8080)
        world.partition({"a"}, {"b", "c"}); world.heal()
        world.kill("a"); world.restart("a")                # no `finally` runs
        world.pause("a", 12.0); world.clock("a", offset_s=5, drift_ppm=200)
        world.link("a", "b", latency_s=(0.001, 0.01), loss=0.05)
        async with world.storm(60.0):                      # faults drawn from the tape, undone at the end
            await world.wait("client")

    run(main, seed=7)

Many universes of it, each in a process of its own, judged, repeatable anywhere, made small:

    target = Target("scenarios.py:main")
    for result in explore_pinned(target, (Request(seed=seed) for seed in range(500)), jobs=2):
        if result.verdict is Verdict.VIOLATED:
            shrunk = shrink(lambda request: run_pinned(target, request), result)
            print(shrunk.result.message, *shrunk.result.fired, shrunk.result.edits.to_json(), sep="\\n")

`nodes` runs Coterie's own apps on hosts, on the stand-in engine of `standin`. `faults` has the
classes of faults, `tape` what they and everything else are drawn from.
"""

from .errors import BudgetExhausted, Deadlock, ProcessFailed, Refused, SimulationError
from .forks import explore, run_forked
from .host import Host, Process
from .members import Members
from .network.links import Conditions
from .nursery import Target, explore_pinned, run_pinned
from .shrink import Shrunk, shrink
from .tape import Edit, Edits, Tape
from .testing import universe
from .universe import Inconclusive, Request, Result, Scenario, Settings, Verdict, Violation, run_universe
from .world import World, run

__all__ = [
    "BudgetExhausted",
    "Conditions",
    "Deadlock",
    "Edit",
    "Edits",
    "Host",
    "Inconclusive",
    "Members",
    "Process",
    "ProcessFailed",
    "Refused",
    "Request",
    "Result",
    "Scenario",
    "Settings",
    "Shrunk",
    "SimulationError",
    "Tape",
    "Target",
    "Verdict",
    "Violation",
    "World",
    "explore",
    "explore_pinned",
    "run",
    "run_forked",
    "run_pinned",
    "run_universe",
    "shrink",
    "universe",
]
