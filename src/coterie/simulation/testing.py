"""`@universe`: a test that is run in many universes, with faults by hand or from the tape.

    @universe(nodes=3, universes=200)
    async def test_counts(world: World) -> None:
        await world.start("node-1", serve)
        world.partition({"node-1"}, {"node-2", "node-3"})
        ...

    @universe(app="shop:app", nodes=3, universes=50)
    async def test_sells_once(world: World) -> None:
        async with world.storm(30.0):
            await shop.buy(order)          # the app's handles work here

Under pytest the plugin adds `--universes`, `--universe-seed` and `--universe-jobs`, and keeps failing
seeds, which are tried first the next time. Hypothesis may draw further arguments: put `@given` above.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import pickle
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidArgument
from .forks import explore, run_forked
from .members import Members
from .nursery import Nursery, Target, explore_pinned
from .shrink import shrink
from .tracebacks import without_simulator
from .universe import Request, Result, Scenario, Settings, Verdict
from .world import World

if TYPE_CHECKING:
    from ..app import App

__all__ = ["OPTIONS", "Options", "Seeds", "UniverseFailed", "scenario_of", "universe"]

Test = Callable[..., Coroutine[Any, Any, Any]]
_FOLDER = Path(".coterie") / "sim"
_RECORD = 200_000


class UniverseFailed(AssertionError):
    """A test did not hold in some universe. The message has the recipe, and how to run it again."""


class Seeds(Protocol):
    """Remembers which seeds of a test have failed."""

    def failed(self) -> list[int]: ...

    def remember(self, seed: int, *, failed: bool) -> None: ...


class _Forgetful:
    def failed(self) -> list[int]:
        return []

    def remember(self, seed: int, *, failed: bool) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How tests in universes are run; what the command line says comes before the decorator."""

    test: str = ""
    """What pytest calls the test."""
    universes: int | None = None
    seed: int | None = None
    jobs: int | None = None
    seeds: Seeds = field(default_factory=_Forgetful)


OPTIONS: ContextVar[Options] = ContextVar("coterie_universe_options")
"""Set by the plugin while a test runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Spec:
    """What the decorator was told."""

    test: Test
    nodes: int
    universes: int
    shrink: int
    app: App | str | None
    settings: Settings
    bound: int
    """How many arguments come before the world: 1 for a method of a class of tests."""


def universe(
    *,
    nodes: int = 3,
    universes: int = 100,
    app: App | str | None = None,
    shrink: int = 100,
    settings: Settings | None = None,
) -> Callable[[Test], Callable[..., None]]:
    """Run an `async def test(world, ...)` in so many universes; what it raises in one fails the test.

    The world has the hosts `node-1` to `node-<nodes>`, with nothing on them; or, with an `app`, the
    app's nodes on a stand-in engine, and the app's handles work in the test. A universe that fails is
    made small in at most `shrink` runs.
    """
    if not 0 <= nodes <= 100 or universes < 1 or shrink < 0:
        raise InvalidArgument(f"not usable: nodes={nodes}, universes={universes}, shrink={shrink}")

    def decorate(test: Test) -> Callable[..., None]:
        if not inspect.iscoroutinefunction(test):
            raise InvalidArgument(f"{test.__name__} must be an `async def` that takes the world")
        parameters = list(inspect.signature(test).parameters.values())
        bound = 1 if parameters and parameters[0].name == "self" else 0
        if len(parameters) <= bound:
            raise InvalidArgument(f"{test.__name__} must take the world as its first argument")
        spec = _Spec(
            test=test,
            nodes=nodes,
            universes=universes,
            shrink=shrink,
            app=app,
            settings=settings or Settings(),
            bound=bound,
        )

        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            failure = _run(spec, run, args, kwargs)
            if failure is not None:
                raise UniverseFailed(failure)

        # Its own arguments are those of the test but for the world, which is not pytest's to give.
        del parameters[bound]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__universe__ = spec  # type: ignore[attr-defined]
        del run.__wrapped__  # Else pytest looks at the signature of the test, and asks who gives a world.
        return run

    return decorate


def scenario_of(spec: _Spec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scenario:
    """Return the scenario of a test with its further arguments."""
    before, after = args[: spec.bound], args[spec.bound :]

    async def scenario(world: World) -> Any:
        if spec.app is None:
            for number in range(spec.nodes):
                world.add_host(f"node-{number + 1}")
            return await spec.test(*before, world, *after, **kwargs)
        from .nodes import connected, run_node
        from .standin import StandIn

        engine = StandIn(world)
        await engine.start()
        world.members = Members(world, spec.nodes, run_node, engine, spec.app)
        await world.members.start()
        async with connected(engine, _shared(spec.app)):
            return await spec.test(*before, world, *after, **kwargs)

    return scenario


def _shared(app: App | str) -> App:
    """Return the app as the test itself has it."""
    if not isinstance(app, str):
        return app
    module, _, name = app.partition(":")
    found: App = getattr(importlib.import_module(module), name or "app")
    return found


def _imported(module: str, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scenario:
    """Find a test by its name, in a nursery."""
    return scenario_of(_spec_at(module, path), args, kwargs)


def _spec_at(module: str, path: str) -> _Spec:
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    while not hasattr(found, "__universe__") and hasattr(found, "hypothesis"):
        found = found.hypothesis.inner_test
    spec: _Spec = found.__universe__
    return spec


def _target(run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Target | None:
    """Return how a fresh interpreter finds the test, or None if it cannot."""
    module, path = run.__module__, run.__qualname__
    try:
        pickle.dumps((args, kwargs))
        if not _importable(module) or _spec_at(module, path) is not run.__universe__:
            return None
    except (AttributeError, ImportError, TypeError, ValueError, pickle.PicklingError):
        return None
    return Target(f"{__name__}:_imported", (module, path, args, kwargs))


def _importable(module: str) -> bool:
    """Return whether the module that is loaded is the one that an `import` would find."""
    file = getattr(sys.modules.get(module), "__file__", None)
    found = PathFinder.find_spec(module.partition(".")[0])
    if found is None or file is None:
        return False
    folders = list(found.submodule_search_locations or ())
    return found.origin == file or any(Path(file).is_relative_to(folder) for folder in folders)


@dataclass(frozen=True, slots=True)
class _Universes:
    """Runs universes of one test: out of a nursery if there is a target, else forked from here."""

    scenario: Scenario
    target: Target | None
    settings: Settings

    def explore(self, requests: list[Request], jobs: int) -> Generator[Result, None, None]:
        if self.target is not None:
            yield from explore_pinned(self.target, requests, self.settings, jobs=jobs)
        else:
            yield from explore(self.scenario, requests, self.settings, jobs=jobs)

    @contextlib.contextmanager
    def one_by_one(self) -> Iterator[Callable[[Request], Result]]:
        if self.target is None:
            yield lambda request: run_forked(self.scenario, request, self.settings)
            return
        with Nursery(self.target, self.settings) as nursery:
            yield nursery.run


def _run(spec: _Spec, run: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Run a test in its universes; return why it failed, or None."""
    options = OPTIONS.get(Options())
    universes = _Universes(scenario_of(spec, args, kwargs), _target(run, args, kwargs), spec.settings)
    first = options.seed or 0
    count = options.universes or spec.universes
    known = options.seeds.failed() if options.seed is None else []
    requests = [Request(seed=seed) for seed in dict.fromkeys([*known, *range(first, first + count)])]
    with contextlib.closing(universes.explore(requests, options.jobs or os.cpu_count() or 1)) as results:
        for result in results:
            failed = result.verdict is not Verdict.OK
            if failed or result.seed in known:
                options.seeds.remember(result.seed, failed=failed)
            if failed:
                results.close()
                with universes.one_by_one() as run_one:
                    return _explain(result, spec, options, run_one)
    return None


def _explain(failing: Result, spec: _Spec, options: Options, run_one: Callable[[Request], Result]) -> str:
    """Make a universe small, draw it, and return all that is to be told of it."""
    repeatable = run_one(Request(seed=failing.seed)).digest == failing.digest
    budget = spec.shrink if repeatable and not _draws_more() else 0
    result = shrink(run_one, failing, budget=budget).result if budget else failing
    recorded = run_one(Request(seed=result.seed, edits=result.edits, record=_RECORD))
    lines = [f"universe {result.seed}: {result.message}", "", f"faults ({len(result.fired)}):"]
    lines += [f"  {fired}" for fired in result.fired] or ["  none is needed"]
    if not repeatable:
        lines.append("a second run went another way: the test does something that is not repeatable")
    lines += ["", without_simulator(result.detail)]
    if result.output.strip():
        lines += ["", "output:", *(f"  {line}" for line in result.output.strip().splitlines()[-20:])]
    lines += ["", f"diagram: {_draw(replace(result, record=recorded.record), spec)}"]
    name = options.test or f"{spec.test.__module__}::{spec.test.__qualname__}"
    lines.append(f"replay:  pytest '{name}' --universe-seed {result.seed} --universes 1")
    return "\n".join(lines)


def _draws_more() -> bool:
    """Whether Hypothesis runs the test: it makes its own draws small, over many failing runs."""
    hypothesis: Any = sys.modules.get("hypothesis")
    return hypothesis is not None and bool(hypothesis.currently_in_test_context())


def _draw(result: Result, spec: _Spec) -> Path:
    from .diagram import render

    _FOLDER.mkdir(parents=True, exist_ok=True)
    path = _FOLDER / f"{spec.test.__name__}-{result.seed}.html"
    path.write_text(render(result, title=f"{spec.test.__qualname__}, universe {result.seed}"))
    return path
