"""The pytest plugin: options for tests in universes, and the seeds that have failed."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest

from .testing import OPTIONS, Options, UniverseFailed

__all__ = ["pytest_addoption", "pytest_runtest_call", "pytest_runtest_makereport"]

_CACHE = "coterie/failed-universes"
_MOST_SEEDS = 20
"""How many failed seeds of one test are kept, the newest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("universes", "tests in many universes (coterie)")
    group.addoption("--universes", type=_positive, metavar="N", help="how many universes each test runs in")
    group.addoption("--universe-seed", type=_natural, metavar="S", help="the first universe (default 0)")
    group.addoption(
        "--universe-jobs",
        type=_positive,
        metavar="J",
        help="universes at a time (default: one a processor)",
    )


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
    return int(text)


_positive = partial(_at_least, 1)
_natural = partial(_at_least, 0)


class _Cached:
    """Failed seeds of one test, in pytest's own cache."""

    def __init__(self, config: pytest.Config, test: str) -> None:
        self._cache: Any = getattr(config, "cache", None)
        self._test = test

    def failed(self) -> list[int]:
        return list(self._all().get(self._test, ()))

    def remember(self, seed: int, *, failed: bool) -> None:
        if self._cache is None:
            return
        every = self._all()
        others = [known for known in every.get(self._test, ()) if known != seed]
        every[self._test] = ([seed] if failed else []) + others[: _MOST_SEEDS - 1]
        if not every[self._test]:
            del every[self._test]
        self._cache.set(_CACHE, every)

    def _all(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {} if self._cache is None else self._cache.get(_CACHE, {})
        return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let a test in universes know what the command line says."""
    config = item.config
    token = OPTIONS.set(
        Options(
            test=item.nodeid,
            universes=config.getoption("universes"),
            seed=config.getoption("universe_seed"),
            jobs=config.getoption("universe_jobs"),
            seeds=_Cached(config, item.nodeid),
        )
    )
    try:
        return (yield)
    finally:
        OPTIONS.reset(token)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show what a universe has to tell, and not where in our own code that was said."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, UniverseFailed):
        error = call.excinfo.value
        report.longrepr = "\n".join([str(error), *getattr(error, "__notes__", ())])
    return report
