"""Which policy counts, where each value comes from, and how the file's tables are told apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import InvalidConfiguration
from coterie.resilience import AdaptiveLimitConfig, BreakerConfig, Hedge, Policy, Retry
from coterie.services import Policies, describe, idempotent, policy

OF_METHOD, OF_SERVICE = Policy(timeout_s=1.0), Policy(timeout_s=2.0)
OF_APP, OF_CLIENT = Policy(timeout_s=3.0), Policy(timeout_s=4.0)


class Shop:
    @idempotent
    @policy(OF_METHOD)
    async def buy(self, sku: str) -> None: ...

    async def look(self) -> None: ...


SPEC = describe(Shop, policy=OF_SERVICE)
PLAIN = describe(Shop)
BUY, LOOK = SPEC.methods["buy"], SPEC.methods["look"]


def test_marks_are_read_off_the_class() -> None:
    assert (BUY.idempotent, BUY.policy) == (True, OF_METHOD)
    assert (LOOK.idempotent, LOOK.policy) == (False, None)


@pytest.mark.parametrize(
    ("called", "app", "client", "expected", "source"),
    [
        ((SPEC, BUY), OF_APP, OF_CLIENT, OF_CLIENT, "app.client(policy=...)"),
        ((SPEC, BUY), OF_APP, None, OF_METHOD, "@policy of Shop.buy"),
        ((SPEC, LOOK), OF_APP, None, OF_SERVICE, "@app.service(policy=...) of Shop"),
        ((PLAIN, LOOK), OF_APP, None, OF_APP, "App(policy=...)"),
        ((PLAIN, LOOK), None, None, Policy(), "default"),
    ],
)
def test_the_nearest_counts_whole(called: Any, app: Any, client: Any, expected: Policy, source: str) -> None:
    effective = Policies(app=app).of(*called, client)
    assert effective.policy == expected
    assert set(effective.sources.values()) == {source}


def test_the_file_replaces_single_values_from_the_general_to_the_special() -> None:
    overrides = {
        "timeout_s": 9.0,
        "retry": {"attempts": 7},
        "Shop": {"retry": {"base_s": 0.5}, "breaker": "off"},
        "Shop.buy": {"timeout_s": 0.25, "hedge": {"quantile": 0.9}, "limit": 8},
    }
    policies = Policies(app=OF_APP, overrides=overrides)
    policies.check({"Shop": PLAIN})
    buy, look = policies.of(PLAIN, BUY), policies.of(PLAIN, LOOK)
    assert look.policy == Policy(timeout_s=9.0, retry=Retry(attempts=7, base_s=0.5), breaker=None)
    assert buy.policy == Policy(
        timeout_s=0.25, retry=Retry(attempts=7, base_s=0.5), breaker=None, hedge=Hedge(quantile=0.9), limit=8
    )
    assert {name: source for name, _, source in buy.values() if "toml" in source} == {
        "timeout_s": 'coterie.toml [policy."Shop.buy"]',
        "hedge.quantile": 'coterie.toml [policy."Shop.buy"]',
        "hedge.least_s": 'coterie.toml [policy."Shop.buy"]',
        "hedge.min_calls": 'coterie.toml [policy."Shop.buy"]',
        "limit": 'coterie.toml [policy."Shop.buy"]',
        "retry.attempts": "coterie.toml [policy]",
        "retry.base_s": "coterie.toml [policy.Shop]",
        "breaker": "coterie.toml [policy.Shop]",
    }


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"Shpo": {}}, r"\[policy.Shpo\] is no service.*did you mean 'Shop'"),
        ({"Shop.bye": {}}, r'\[policy."Shop.bye"\] is no service.*did you mean \'Shop.buy\''),
        ({"Shop": 3}, "must be a table"),
        ({"time_s": 3}, "did you mean 'timeout_s'"),
    ],
)
def test_what_is_of_nothing_is_refused(overrides: Any, says: str) -> None:
    with pytest.raises(InvalidConfiguration, match=says):
        Policies(overrides=overrides).check({"Shop": PLAIN})


@pytest.mark.parametrize(
    "values", [{"attempts": 3}, {"retry": {"tries": 3}}, {"timeout_s": -1}, {"limit": "many"}, {"retry": 3}]
)
def test_values_that_cannot_be_right_name_their_place(values: Any) -> None:
    with pytest.raises(InvalidConfiguration, match=r"coterie.toml \[policy.Shop\]: "):
        Policies(overrides={"Shop": values}).of(PLAIN, LOOK)


def test_a_table_for_all_does_not_switch_on_what_the_code_has_switched_off() -> None:
    """A service that must not be repeated is not, because somebody has set a number for all others."""
    off = describe(Shop, policy=Policy(retry=None))
    general = {"retry": {"attempts": 7}, "hedge": {"quantile": 0.9}}
    found = Policies(overrides=general).of(off, off.methods["look"])
    assert found.policy == Policy(retry=None, hedge=Hedge(quantile=0.9))
    assert found.sources["retry"] == "@app.service(policy=...) of Shop"
    named = Policies(overrides={**general, "Shop": {"retry": {"base_s": 0.5}}})
    assert named.of(off, off.methods["look"]).policy.retry == Retry(base_s=0.5)


@given(
    timeout_s=st.floats(0.001, 86400),
    attempts=st.integers(1, 100),
    min_calls=st.integers(1, 1000),
    highest=st.integers(64, 10_000),
)
def test_what_the_file_says_is_what_counts(
    timeout_s: float, attempts: int, min_calls: int, highest: int
) -> None:
    values = {
        "timeout_s": timeout_s,
        "retry": {"attempts": attempts},
        "breaker": {"min_calls": min_calls},
        "limit": {"highest": highest},
    }
    assert Policies(overrides={"Shop": values}).of(PLAIN, LOOK).policy == Policy(
        timeout_s=timeout_s,
        retry=Retry(attempts=attempts),
        breaker=BreakerConfig(min_calls=min_calls),
        limit=AdaptiveLimitConfig(highest=highest),
    )


def test_a_policy_is_not_something_else() -> None:
    with pytest.raises(InvalidConfiguration, match="takes a Policy"):
        policy(3)  # type: ignore[arg-type]
