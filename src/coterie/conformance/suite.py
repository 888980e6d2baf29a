"""What a conformance suite is, and the runner.

A suite holds the checks of one port. Each check is one promise of the port's contract: it gets a
fresh fixture around the engine under test and raises if the promise is broken. Nothing here needs a
test framework.

    from coterie.conformance import StoreSuite, run_suite

    report = await run_suite(StoreSuite(), my_store_fixture)
    print(report)
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar, overload

__all__ = ["Check", "Failed", "Report", "Suite", "check", "run_check", "run_suite"]

F = TypeVar("F")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check(Generic[F]):
    """One promise of a port, and how to see whether an engine keeps it."""

    name: str
    promise: str
    """One sentence: what holds for every engine that conforms."""
    run: Callable[[F], Awaitable[None]]
    """Raises `Violation`, or whatever the engine raised out of turn, when the promise is broken."""
    applies: Callable[[F], bool]
    """Whether the engine makes this promise at all, by its declared guarantees."""


@overload
def check(function: Callable[[F], Awaitable[None]], /) -> Check[F]: ...
@overload
def check(*, when: Callable[[F], bool]) -> Callable[[Callable[[F], Awaitable[None]]], Check[F]]: ...
def check(
    function: Callable[[F], Awaitable[None]] | None = None, /, *, when: Callable[[F], bool] | None = None
) -> Any:
    """Make a check of an async function: its name is the check's, its docstring the promise."""

    def decorate(function: Callable[[F], Awaitable[None]]) -> Check[F]:
        name = function.__name__
        # Under `python -OO` there are no docstrings; the name says the same in fewer words.
        promise = " ".join((inspect.getdoc(function) or name.replace("_", " ")).split())
        return Check(name=name, promise=promise, run=function, applies=when or (lambda _fixture: True))

    return decorate if function is None else decorate(function)


class Suite(Generic[F]):
    """The checks of one port, gathered from the modules that define them."""

    port: str
    """The name of the port."""

    def __init__(self, modules: Iterable[ModuleType]) -> None:
        self._checks = tuple(
            value for module in modules for value in vars(module).values() if isinstance(value, Check)
        )

    def checks(self) -> list[Check[F]]:
        """Return every check, in the order in which the contract is best read."""
        return list(self._checks)


@dataclass(frozen=True, slots=True)
class Failed:
    """A promise that was broken, and how."""

    name: str
    promise: str
    error: BaseException

    def __str__(self) -> str:
        return f"{self.name}\n  promised: {self.promise}\n  but: {type(self.error).__name__}: {self.error}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a suite found out about an engine, in the order of its checks."""

    port: str
    passed: tuple[str, ...]
    failed: tuple[Failed, ...]
    not_promised: tuple[str, ...]
    """Checks of what the engine's declared guarantees leave out."""

    @property
    def ok(self) -> bool:
        """Whether the engine keeps every promise that it makes."""
        return not self.failed

    def __str__(self) -> str:
        counts = f"{self.port}: {len(self.passed)} kept, {len(self.failed)} broken"
        if self.not_promised:
            counts += f", {len(self.not_promised)} not promised ({', '.join(self.not_promised)})"
        return "\n".join([counts, *(str(failed) for failed in self.failed)])


async def run_check(
    check: Check[F], factory: Callable[[], AbstractAsyncContextManager[F]], *, timeout_s: float = 30.0
) -> bool:
    """Run one check on a fixture of its own; return False if the engine does not make its promise.

    Raises what the check raised, and `TimeoutError` when it hangs.
    """
    async with factory() as fixture:
        if not check.applies(fixture):
            return False
        async with asyncio.timeout(timeout_s):
            await check.run(fixture)
    return True


async def run_suite(
    suite: Suite[F],
    factory: Callable[[], AbstractAsyncContextManager[F]],
    *,
    only: str = "",
    timeout_s: float = 30.0,
    concurrency: int = 8,
) -> Report:
    """Run the checks of `suite` whose names match the pattern `only`, each on a fixture of its own.

    Up to `concurrency` of them run at once, since many do little but wait for a lease to end. The
    fixtures must therefore not share data.
    """
    chosen = [check for check in suite.checks() if re.search(only, check.name)]
    turns = asyncio.Semaphore(concurrency)

    async def attempt(check: Check[F]) -> bool | Exception:
        async with turns:
            try:
                return await run_check(check, factory, timeout_s=timeout_s)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
                return error

    results = await asyncio.gather(*(attempt(check) for check in chosen))
    pairs = list(zip(chosen, results, strict=True))
    return Report(
        port=suite.port,
        passed=tuple(check.name for check, result in pairs if result is True),
        failed=tuple(
            Failed(check.name, check.promise, result)
            for check, result in pairs
            if isinstance(result, Exception)
        ),
        not_promised=tuple(check.name for check, result in pairs if result is False),
    )
