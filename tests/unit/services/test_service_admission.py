"""How much a node takes on: which limit counts, where it comes from, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie import App, limit, priority
from coterie.errors import InvalidConfiguration
from coterie.resilience import AdaptiveLimitConfig, QueueConfig
from coterie.services import Admission, Admissions, MethodAdmission, describe

FILE = "coterie.toml [admission"


class Shop:
    @limit(3, queue=QueueConfig(length=1))
    @priority(0)
    async def buy(self, sku: str) -> None: ...

    async def look(self) -> None: ...

    async def follow(self) -> AsyncIterator[int]:
        yield 1


LIMITED = describe(Shop, limit=9, queue=QueueConfig(length=2))
PLAIN = describe(Shop)
BUY, LOOK, FOLLOW = (PLAIN.methods[name] for name in ("buy", "look", "follow"))


@pytest.mark.parametrize(
    ("spec", "app", "expected", "source"),
    [
        (PLAIN, None, Admission(), "default"),
        (PLAIN, Admission(limit=5), Admission(limit=5), "App(limit=...)"),
        (
            LIMITED,
            Admission(limit=5),
            Admission(limit=9, queue=QueueConfig(length=2)),
            "@app.service(limit=...) of Shop",
        ),
    ],
)
def test_in_code_the_service_counts_before_the_app(
    spec: Any, app: Admission | None, expected: Admission, source: str
) -> None:
    found = Admissions(app=app).of_service(spec)
    assert found.value == expected
    assert set(found.sources.values()) == {source}


def test_a_method_has_a_limit_of_its_own() -> None:
    buy, look = Admissions().of_method(PLAIN, BUY), Admissions().of_method(PLAIN, LOOK)
    assert buy.value == MethodAdmission(limit=3, queue=QueueConfig(length=1), priority=0)
    assert (buy.sources["limit"], buy.sources["priority"]) == ("@limit of Shop.buy", "@priority of Shop.buy")
    assert look.value == MethodAdmission()
    assert set(look.sources.values()) == {"default"}


def test_the_file_replaces_single_values_from_the_general_to_the_special() -> None:
    overrides = {
        "limit": 50,
        "queue": {"length": 7},
        "Shop": {"queue": {"interval_s": 0.2}},
        "Shop.buy": {"limit": {"highest": 64}, "priority": 2},
        "Shop.look": {"limit": 4},
    }
    admissions = Admissions(overrides=overrides)
    admissions.check({"Shop": LIMITED})
    shop = admissions.of_service(LIMITED)
    assert shop.value == Admission(limit=50, queue=QueueConfig(length=7, interval_s=0.2))
    assert shop.sources == {
        "limit": f"{FILE}]",
        "queue.length": f"{FILE}]",
        "queue.target_s": "@app.service(limit=...) of Shop",
        "queue.interval_s": f"{FILE}.Shop]",
    }
    buy = admissions.of_method(LIMITED, LIMITED.methods["buy"])
    assert buy.value.limit == AdaptiveLimitConfig(highest=64)
    assert (buy.value.priority, buy.sources["priority"]) == (2, f'{FILE}."Shop.buy"]')
    assert buy.sources["queue.length"] == "@limit of Shop.buy"
    look = admissions.of_method(LIMITED, LIMITED.methods["look"])
    assert (look.value.limit, look.value.queue) == (4, QueueConfig())


def test_a_limit_of_the_code_can_be_switched_off() -> None:
    for overrides in ({"limit": "off"}, {"Shop": {"limit": "off"}}, {"limit": 5, "Shop": {"limit": "off"}}):
        assert Admissions(overrides=overrides).of_service(LIMITED).value.limit is None
    off = Admissions(overrides={"Shop.buy": {"limit": "off"}})
    assert off.of_method(PLAIN, BUY).value.limit is None


def test_a_queue_for_all_is_for_those_that_have_a_limit() -> None:
    general = Admissions(overrides={"queue": {"length": 7}})
    general.check({"Shop": PLAIN})
    assert general.of_service(PLAIN).value == Admission()
    assert general.of_service(LIMITED).value == Admission(limit=9, queue=QueueConfig(length=7))


@given(
    at_once=st.one_of(
        st.integers(1, 1_000_000), st.builds(AdaptiveLimitConfig, highest=st.integers(32, 999))
    ),
    length=st.integers(0, 1000),
    level=st.integers(0, 3),
)
def test_what_the_file_says_is_what_counts(at_once: Any, length: int, level: int) -> None:
    said = at_once if isinstance(at_once, int) else {"highest": at_once.highest}
    table = {"limit": said, "queue": {"length": length}, "priority": level}
    found = Admissions(overrides={"Shop.look": table}).of_method(PLAIN, LOOK).value
    assert found == MethodAdmission(limit=at_once, queue=QueueConfig(length=length), priority=level)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"Shpo": {}}, r"\[admission.Shpo\] is no service.*did you mean 'Shop'"),
        ({"Shop.bye": {}}, r'\[admission."Shop.bye"\] is no service.*did you mean \'Shop.buy\''),
        ({"limt": 3}, r"\[admission.limt\] is no service.*did you mean 'limit'"),
        ({"Shop": 3}, r"\[admission.Shop\] must be a table"),
        ({"limit": 0}, r"\[admission\]: limit must be between 1 and 1,000,000, not 0"),
        (
            {"Shop": {"limit": "many"}},
            r"\[admission.Shop\]: limit: expected `int \| table \| 'off'`, got",
        ),
        ({"Shop": {"limits": 3}}, r"\[admission.Shop\]: there is no 'limits' to set .did you mean 'limit'"),
        ({"Shop": {"limit": {"hihest": 3}}}, "there is no 'limit.hihest' to set .did you mean 'highest'"),
        ({"Shop": {"queue": {"length": 3}}}, r"\[admission.Shop\]: a queue and no limit.*set a limit"),
        ({"Shop": {"limit": 3, "queue": {"len": 3}}}, "no 'queue.len' to set .did you mean 'length'"),
        ({"Shop": {"priority": 0}}, r'neither .*admission.Shop. has one .set .*admission."Shop.buy"'),
        ({"priority": 0}, "a priority says which calls to a service go before the others"),
        ({"Shop.look": {"priority": 4}}, r'"Shop.look"\]: a priority is 0, 1, 2 or 3, not 4'),
        ({"Shop.look": {"queue": {"length": 3}}}, r'"Shop.look"\]: a queue and no limit'),
        ({"Shop.follow": {"limit": 3}}, r'"Shop.follow"\]: it is a stream, and streams are let in without'),
    ],
)
def test_what_cannot_be_right_says_where_and_what_to_do(overrides: Any, says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=says):
        Admissions(overrides=overrides).check({"Shop": PLAIN})


def test_what_cannot_be_right_in_code_is_refused_where_it_stands() -> None:
    with pytest.raises(InvalidConfiguration, match="limit must be between 1 and 1,000,000, not 0"):
        limit(0)
    with pytest.raises(InvalidConfiguration, match="limit must be between"):
        describe(Shop, limit=0)
    with pytest.raises(InvalidConfiguration, match="the app 'shop' has a queue and no limit"):
        App("shop", queue=QueueConfig())

    class Streams:
        @limit(3)
        async def follow(self) -> AsyncIterator[int]:
            yield 1

    with pytest.raises(InvalidConfiguration, match=r"Streams\.follow is a stream"):
        describe(Streams)
