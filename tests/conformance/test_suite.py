"""The runner of the suites, and the suites as a document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest

from coterie.conformance import (
    Check,
    ClockSuite,
    EntropySuite,
    LogSuite,
    Report,
    StoreSuite,
    Suite,
    Violation,
    WireSuite,
    run_check,
    run_suite,
)
from coterie.conformance.suite import check

SUITES = [StoreSuite(), LogSuite(), WireSuite(), ClockSuite(), EntropySuite()]


@check
async def keeps(_fixture: int) -> None:
    """It keeps
    its word."""


@check
async def breaks(_fixture: int) -> None:
    """It breaks its word."""
    raise Violation("it is broken")


@check
async def hangs(_fixture: int) -> None:
    """It answers."""
    await asyncio.Event().wait()


@check(when=lambda fixture: fixture > 1)
async def promises_more(_fixture: int) -> None:
    """It promises more."""


class Trial(Suite[int]):
    port = "trial"

    def __init__(self) -> None:
        module = ModuleType("trial")
        vars(module).update(keeps=keeps, breaks=breaks, hangs=hangs, promises_more=promises_more)
        super().__init__((module,))


class Fixtures:
    """Counts how many fixtures are open."""

    def __init__(self) -> None:
        self.opened = self.open = self.most = 0

    @asynccontextmanager
    async def make(self) -> AsyncIterator[int]:
        self.opened += 1
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)
        try:
            yield 1
        finally:
            self.open -= 1


async def run(**options: Any) -> tuple[Report, Fixtures]:
    fixtures = Fixtures()
    return await run_suite(Trial(), fixtures.make, timeout_s=0.05, **options), fixtures


async def test_a_report_tells_what_is_kept_broken_and_not_promised() -> None:
    report, fixtures = await run()
    assert not report.ok
    assert report.passed == ("keeps",)
    assert report.not_promised == ("promises_more",)
    assert [failed.name for failed in report.failed] == ["breaks", "hangs"]
    assert isinstance(report.failed[1].error, TimeoutError)
    assert (fixtures.opened, fixtures.open) == (4, 0)
    assert str(report).splitlines() == [
        "trial: 1 kept, 2 broken, 1 not promised (promises_more)",
        "breaks",
        "  promised: It breaks its word.",
        "  but: Violation: it is broken",
        "hangs",
        "  promised: It answers.",
        "  but: TimeoutError: ",
    ]


async def test_some_checks_can_be_run_alone() -> None:
    report, _fixtures = await run(only="^keeps|promises")
    assert report.ok
    assert (report.passed, report.failed, report.not_promised) == (("keeps",), (), ("promises_more",))


@pytest.mark.parametrize("concurrency", [1, 2, 4])
async def test_only_so_many_checks_run_at_once(concurrency: int) -> None:
    _report, fixtures = await run(concurrency=concurrency)
    assert fixtures.most == concurrency


async def test_a_fixture_that_cannot_be_made_fails_the_check() -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[int]:
        raise OSError("no disk")
        yield 1

    report = await run_suite(Trial(), broken)
    assert [str(failed.error) for failed in report.failed] == ["no disk"] * 4


async def test_one_check_raises_what_it_found() -> None:
    fixtures = Fixtures()
    assert await run_check(keeps, fixtures.make)
    assert not await run_check(promises_more, fixtures.make)
    with pytest.raises(Violation, match="it is broken"):
        await run_check(breaks, fixtures.make)
    with pytest.raises(TimeoutError):
        await run_check(hangs, fixtures.make, timeout_s=0.01)
    assert fixtures.open == 0


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.port)
def test_each_check_has_a_name_of_its_own_and_says_a_sentence(suite: Suite[Any]) -> None:
    checks: list[Check[Any]] = suite.checks()
    assert len({each.name for each in checks}) == len(checks) > 0
    for each in checks:
        assert each.promise[0] in "ABCDEFGHIJKLMNOPQRSTUVWXYZ`", each.name
        assert each.promise.endswith("."), each.name
        assert len(each.promise) < 130, each.name


def test_a_promise_is_one_line() -> None:
    assert keeps.promise == "It keeps its word."
