"""Workloads and promises are declared, checked, and without effect in a normal run."""

from __future__ import annotations

from typing import Any

import pytest

from coterie import App
from coterie.errors import InvalidConfiguration


def test_declarations_are_kept_and_leave_the_functions_as_they_are() -> None:
    app = App("shop")

    @app.workload
    async def buyer() -> None: ...

    @app.workload(clients=3, pause_s=0.5)
    async def numbered(number: int) -> None: ...

    @app.always
    async def balanced() -> bool:
        return True

    @app.always
    def sound() -> None: ...

    @app.eventually
    async def settled() -> bool:
        return True

    @app.eventually(within_s=5)
    def soon() -> bool:
        return True

    first, second = app.workloads
    assert (first.name, first.function, first.clients, first.pause_s, first.numbered) == (
        *("buyer", buyer, 1, 1.0),
        False,
    )
    assert (second.clients, second.pause_s, second.numbered) == (3, 0.5, True)
    assert [each.function for each in app.invariants] == [balanced, sound]
    assert [(each.name, each.within_s) for each in app.goals] == [("settled", 30.0), ("soon", 5)]


async def two(one: int, other: int) -> None: ...


async def argument(one: int) -> None: ...


def plain() -> None: ...


@pytest.mark.parametrize(
    ("kind", "function", "options", "problem"),
    [
        ("workload", plain, {}, "must be an `async def` function"),
        ("workload", two, {}, "takes 2 arguments"),
        ("workload", argument, {"clients": 0}, "must have 1 to 100 clients, not 0"),
        ("workload", argument, {"pause_s": -1}, "must pause for 0 to 3,600 s, not -1"),
        ("always", argument, {}, "of app.always must be a function without arguments"),
        ("eventually", argument, {}, "of app.eventually must be a function without arguments"),
        ("eventually", plain, {"within_s": -1}, "within 0 to 3,600 s, not -1"),
    ],
)
def test_what_cannot_be_one_is_refused(kind: str, function: Any, options: Any, problem: str) -> None:
    declare = getattr(App("shop"), kind)
    with pytest.raises(InvalidConfiguration, match=problem):
        declare(**options)(function) if options else declare(function)
