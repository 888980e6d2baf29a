"""`World`: hosts, the network between them, and everything that can be done to both.

    async def main(world: World) -> None:
        await world.start("db", serve_database)
        await world.start("app", serve_app, "db")
        world.partition({"app"}, {"db"})
        await asyncio.sleep(10)
        world.heal()
        reader, writer = await asyncio.open_connection("app", 8080)

    run(main, seed=7)

A host is reached by its name, through ordinary asyncio. The test's own code runs in the world: it
sees true time, and no fault touches its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal as signals
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from ..errors import InvalidArgument
from . import ambient
from .environment import Environment
from .errors import ProcessFailed
from .faults import CLASSES, Damaged, Plan, Storm, swarm
from .host import Host, Main, Process, State, freeze
from .members import Members
from .modules import Namespaces
from .network.calls import SimulationLoop
from .network.fabric import Fabric
from .network.links import Conditions, Cut
from .tape import Edits, Stream, Tape
from .trace import Trace
from .unhandled import pending_tasks

__all__ = ["World", "run"]

T = TypeVar("T")


class World:
    """One universe. Made by `run`, by `coterie sim`, or by the pytest plugin.

    `private` names modules and packages of the program of which every host gets its own copy. What
    the world does to hosts takes effect at once.
    """

    def __init__(
        self,
        tape: Tape,
        *,
        conditions: Conditions | None = None,
        private: Iterable[str] = (),
        max_events: int = 50_000_000,
        max_time_s: float = 1e9,
        record: int = 0,
    ) -> None:
        self.tape = tape
        self.trace: Trace = Trace(keep=record)
        self.loop: SimulationLoop = SimulationLoop(tape, trace=self.trace, max_events=max_events)
        self.loop.end_s = max_time_s
        self.loop.world.owner = Environment(self.loop, tape, "world", 0)
        self.network: Fabric = self.loop.fabric
        self.hosts: dict[str, Host] = {}
        self.modules: Namespaces = Namespaces(private, lambda: self.loop.scope.owner)
        self.weaknesses: dict[str, Callable[[Stream], Damaged | None]] = {}
        """What can go wrong with the stand-ins of engines, by name: faults of the class `engine`."""
        self.members: Members | None = None
        """The nodes that faults of the class `scale` let join and leave."""
        self.storms: list[Storm] = []
        """What has gone wrong, by the order of `storm`."""
        self.strict = True
        """Whether `run` fails when the main coroutine of a process has raised."""
        self._processes = 0
        self._restarts: dict[str, list[tuple[Main | str, tuple[Any, ...]]]] = {}
        self.loop.on_exit = self._exited
        if conditions is not None:
            self.network.set_conditions(conditions)

    # Time and the record.

    @property
    def time(self) -> float:
        """True time in seconds since the universe began."""
        return self.loop.time()

    def note(self, kind: str, host: str = "world", **detail: Any) -> None:
        """Write an event into the trace, and into its record if there is one."""
        self.trace.mark(self.loop.time(), host, kind, **detail)

    # Hosts and processes.

    def host(self, name: str) -> Host:
        """Return the host called `name`; raise `InvalidArgument` if there is none."""
        try:
            return self.hosts[name]
        except KeyError:
            known = ", ".join(self.hosts) or "none"
            raise InvalidArgument(f"there is no host called {name!r}; there are {known}") from None

    def add_host(self, name: str) -> Host:
        """Return the host called `name`, with nothing running on it if it is new."""
        if name not in self.hosts:
            if not name or name == self.loop.world.name:
                raise InvalidArgument(f"a host cannot be called {name!r}")
            self.hosts[name] = Host(self.loop, name, len(self.hosts) + 1)
        return self.hosts[name]

    async def start(self, name: str, main: Main | str, *args: Any) -> Process:
        """Run `main(*args)` as a process of the host `name`, which is made if it is new.

        `main` is a coroutine function, or `module:function`, whose module each host then has for
        itself. Returns after the first pass of the process, which may have ended by then.
        """
        process = self.launch(name, main, *args)
        await asyncio.sleep(0)
        return process

    def launch(self, name: str, main: Main | str, *args: Any) -> Process:
        """Do what `start` does, but return before the process has done anything."""
        host = self.add_host(name)
        if not host.stack.up:
            host.stack.boot()
        self._restarts.setdefault(name, []).append((main, args))
        return self._launch(host, main, args)

    def _launch(self, host: Host, main: Main | str, args: tuple[Any, ...]) -> Process:
        self._processes += 1
        process = Process(host, self._processes, _placeholder, args)
        with self.loop.within(process.scope):
            process.main = self._function(host, main)
        host.processes.append(process)
        self.note("start", host.name, pid=process.pid)
        process.start()
        return process

    def _function(self, host: Host, main: Main | str) -> Main:
        if not isinstance(main, str):
            found: Main = self.modules.own(host, main)
            return found
        module, colon, path = main.partition(":")
        if not colon:
            raise InvalidArgument(f"a program is named as module:function, not {main!r}")
        self.modules.private.add(module)
        target: Any = self.modules.load(host, module)
        for part in path.split("."):
            target = getattr(target, part)
        function: Main = target
        return function

    def kill(self, name: str) -> None:
        """End all processes of a host as `kill -9` does: no `finally` runs, the kernel closes the sockets."""
        host = self.host(name)
        self.note("kill", name)
        for process in host.running:
            process.over(State.KILLED)

    def crash(self, name: str) -> None:
        """Take the power from a host: peers hear nothing, and what was not synced may be lost."""
        host = self.host(name)
        self.note("crash", name)
        host.stack.lose_power()
        for process in host.running:
            process.over(State.KILLED)
        host.disk.lose_power()

    def restart(self, name: str) -> None:
        """Start anew what was started on a host, as a service manager does; kill it first if it runs."""
        host = self.host(name)
        if host.running:
            self.kill(name)
        host.stack.boot()
        host.modules.clear()
        for main, args in self._restarts.get(name, ()):
            self._launch(host, main, args)

    def revive(self, name: str) -> None:
        """Restart a host unless it runs."""
        if not self.host(name).running:
            self.restart(name)

    def forget(self, name: str) -> None:
        """Let `restart` and `revive` start nothing on a host any more; what runs goes on."""
        self._restarts.pop(name, None)

    def slow(self, name: str, step_s: float) -> None:
        """Let every step of a host's processes take `step_s`; 0 makes the host quick again."""
        self.note("slow", name, step_s=step_s)
        for process in self.host(name).running:
            process.slow(step_s)

    def signal(self, name: str, number: int = signals.SIGTERM) -> None:
        """Send a signal to all processes of a host."""
        self.note("signal", name, number=number)
        for process in self.host(name).running:
            process.signal(number)

    def pause(self, name: str, duration_s: float | None = None) -> None:
        """Stop a host's processes as SIGSTOP does, for `duration_s` or until `resume`."""
        host = self.host(name)
        self.note("pause", name, duration_s=duration_s)
        paused = host.running
        for process in paused:
            process.pause()
        if duration_s is not None:
            self.later(duration_s, lambda: _resume(paused))

    def resume(self, name: str) -> None:
        """Let paused processes go on."""
        self.note("resume", name)
        for process in self.host(name).running:
            process.resume()

    async def wait(self, name: str) -> None:
        """Return when no process of the host runs any more."""
        for process in self.host(name).running:
            await asyncio.shield(process.ended)

    def _exited(self, scope: Any, error: BaseException) -> None:
        """A process called `sys.exit`."""
        process = scope.owner
        if isinstance(process, Process):
            if not isinstance(error, SystemExit) or error.code not in {0, None}:
                process.error = error
            process.over(State.ENDED)

    # Clocks.

    def clock(self, name: str, *, offset_s: float | None = None, drift_ppm: float | None = None) -> None:
        """Set a host's wall clock off true time, or make its clocks run fast or slow, from here on."""
        self.note("clock", name, offset_s=offset_s, drift_ppm=drift_ppm)
        self.host(name).clock.set(offset_s=offset_s, drift_ppm=drift_ppm)

    # The network.

    def partition(self, *groups: Iterable[str]) -> tuple[Cut, ...]:
        """Let nothing pass between hosts of different groups, in either direction.

        A host that is in no group reaches all; one that is in several bridges them, which makes the
        partition partial. With a single group it is that group against all others there are now.
        Returns the cuts, for `heal`.
        """
        sets = [frozenset(self._names(group)) for group in groups]
        if len(sets) == 1:
            sets.append(frozenset(self.hosts) - sets[0])
        cuts = [Cut(one - other, other - one) for one in sets for other in sets if one is not other]
        for cut in cuts:
            self.network.cut(cut)
        self.note("partition", groups=[sorted(each) for each in sets])
        return tuple(cuts)

    def block(self, sources: Iterable[str], targets: Iterable[str]) -> tuple[Cut, ...]:
        """Let nothing pass from `sources` to `targets`, while the other direction stays open."""
        cut = Cut(frozenset(self._names(sources)), frozenset(self._names(targets)))
        self.network.cut(cut)
        self.note("block", sources=sorted(cut.sources), targets=sorted(cut.targets))
        return (cut,)

    def heal(self, cuts: Iterable[Cut] | None = None) -> None:
        """Undo these cuts, or all there are."""
        self.note("heal")
        self.network.mend(cuts)

    def link(self, source: str, target: str, *, both: bool = True, **conditions: Any) -> None:
        """Change the conditions of the link between two hosts; see `Conditions` for what there is."""
        self._names((source, target))
        pairs = [(source, target), (target, source)] if both else [(source, target)]
        for pair in pairs:
            before = self.network.undisturbed(pair)
            self.network.set_conditions(dataclasses.replace(before, **conditions), pair)
        self.note("link", source, target=target, **conditions)

    def reset(self, source: str, target: str) -> int:
        """Break all connections between two hosts with a reset at both ends; return how many there were."""
        there = self.network.get(target)
        endpoints = [each for each in self.network.get(source).endpoints if each.peer.stack is there]
        for endpoint in endpoints:
            endpoint.break_off()
        self.note("reset", source, target=target, connections=len(endpoints))
        return len(endpoints)

    def _names(self, names: Iterable[str]) -> list[str]:
        found = [names] if isinstance(names, str) else list(names)
        for name in found:
            self.host(name)
        return found

    def conditions_between(self, source: str, target: str) -> Conditions:
        """Return the conditions of the link from `source` to `target`."""
        return self.network.link(self.network.get(source), self.network.get(target)).conditions

    # Faults.

    @contextlib.asynccontextmanager
    async def storm(
        self,
        duration_s: float,
        *,
        classes: Iterable[str] | None = None,
        hosts: Iterable[str] | None = None,
        most: int = 12,
        use_swarm: bool = True,
    ) -> AsyncGenerator[Storm, None]:
        """Let faults happen from now on for `duration_s`; leaving the block ends and undoes them all.

        `classes` limits what may happen and `hosts` to whom (all there are now). Of the classes about
        half are on in a universe, unless `use_swarm` is false. Leaving does not wait: sleep inside.
        """
        on = swarm(self.tape, classes) if use_swarm else tuple(classes or CLASSES)
        names = list(self.hosts if hosts is None else self._names(hosts))
        label = f"fault{len(self.storms) or ''}"
        storm = Storm(self, Plan.draw(self.tape, on, duration_s, most=most, name=label), names)
        self.storms.append(storm)
        try:
            yield storm
        finally:
            storm.end()
            self.note("calm")

    # Running.

    def later(self, delay_s: float, action: Callable[[], object]) -> Any:
        """Do something to the world after `delay_s`."""
        return self.loop.call_in_world(self.loop.time() + delay_s, action)

    def run(self, main: Callable[[World], Coroutine[Any, Any, T]]) -> T:
        """Run `main(world)` to its end and return what it returns.

        Raises what it raises, and `ProcessFailed` when a process did and the world is `strict`.
        """
        with ambient.installed(), self.modules.installed():
            result: T = self.loop.run_until_complete(main(self))
        if self.strict:
            self.check_processes()
        return result

    def check_processes(self) -> None:
        """Raise `ProcessFailed` if the main coroutine of any process has raised."""
        for host in self.hosts.values():
            for process in host.processes:
                if process.error is not None:
                    name = type(process.error).__name__
                    raise ProcessFailed(
                        f"the process on {host.name} ended with {name}: {process.error}",
                        hint="catch it in the program, or set world.strict = False if it is meant to end",
                    ) from process.error

    def digest(self) -> str:
        """Return the hash of all that has happened: the same in every run of a seed."""
        return self.loop.digest()

    def close(self) -> None:
        """End the universe: everything that still runs is frozen."""
        for task in pending_tasks(self.loop):
            freeze(task)
        self.loop.close()


def _resume(processes: Iterable[Process]) -> None:
    for process in processes:
        process.resume()


async def _placeholder() -> None:
    """Stand in until the host's own copy of the function is found."""


def run(
    main: Callable[[World], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    edits: Edits | None = None,
    **options: Any,
) -> T:
    """Run one universe in this process and return what `main(world)` returns; see `World` for `options`."""
    world = World(Tape(seed, edits), **options)
    with contextlib.closing(world):
        return world.run(main)
