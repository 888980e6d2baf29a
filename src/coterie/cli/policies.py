"""`coterie policies`: what the calls of each method survive, and where that comes from."""

from __future__ import annotations

from typing import Any, NamedTuple

import click
import msgspec

from ..errors import NotFound
from ..resilience import AdaptiveLimitConfig
from ..services import Effective, MethodSpec, Policies, ServiceSpec
from .options import Command, as_json, epilog, load, target
from .output import print_json, print_table

__all__ = ["command"]


@click.command(
    "policies",
    cls=Command,
    epilog=epilog(
        "coterie policies examples/shop.py",
        "coterie policies shop:app Shop.buy",
        "coterie policies shop:app --json",
    ),
)
@target
@click.argument("method", required=False)
@as_json
def command(target: str, method: str | None, json_: bool) -> None:
    """Show the policy under which each method of TARGET is called, or each value of one METHOD's.

    In code the nearest policy counts: that of the method, the service, the app, or the default one. Then
    coterie.toml replaces single values. A client with a policy of its own has lines of its own.
    """
    app, config, _ = load(target, {})
    specs = {**app.clients, **app.services}
    policies = Policies(app=app.policy, overrides=config.policy)
    policies.check(specs)
    clients = [(client.service, client.policy) for client in app.tuned if client.policy is not None]
    found = {
        each.target + called: _Shown(policies.of(spec, each, client), each, spec)
        for spec, client, called in (
            *((spec, None, "") for spec in specs.values()),
            *((*client, f" (client {number})") for number, client in enumerate(clients, 1)),
        )
        for each in spec.methods.values()
        if method in {None, spec.name, each.target}
    }
    if method is not None and not found:
        raise NotFound(f"the app {app.name!r} has no service or method {method!r}")
    if json_:
        print_json({name: _as_json(each) for name, each in found.items()})
    elif method in found:
        rows = [(name, _shown(value), source) for name, value, source in found[method].effective.values()]
        print_table(("value", "is", "from"), rows)
    else:
        columns = ("method", "idempotent", "timeout s", "attempts", "hedged", "breaker", "limit")
        lines = [_row(name, each) for name, each in found.items()]
        print_table((*columns, "at a node", "priority", "from"), lines)


class _Shown(NamedTuple):
    """A method, and the policy under which it is called."""

    effective: Effective
    method: MethodSpec
    service: ServiceSpec


def _row(name: str, shown: _Shown) -> tuple[str, ...]:
    policy, idempotent = shown.effective.policy, shown.method.idempotent
    return (
        name,
        "yes" if idempotent else "no",
        _shown(policy.timeout_s),
        _shown(policy.retry and policy.retry.attempts),
        f"p{policy.hedge.quantile * 100:g}" if policy.hedge and idempotent else "off",
        f"{policy.breaker.error_ratio:.0%}" if policy.breaker else "off",
        _limit(policy.limit),
        _limit(shown.service.limit),
        str(shown.method.priority),
        ", ".join(dict.fromkeys(shown.effective.sources.values())),
    )


def _as_json(shown: _Shown) -> dict[str, Any]:
    values = {
        name: {"value": msgspec.to_builtins(value, enc_hook=str), "source": source}
        for name, value, source in shown.effective.values()
    }
    return {
        "idempotent": shown.method.idempotent,
        "priority": shown.method.priority,
        "limit_at_a_node": msgspec.to_builtins(shown.service.limit),
        "policy": values,
    }


def _limit(limit: int | AdaptiveLimitConfig | None) -> str:
    return "adaptive" if isinstance(limit, AdaptiveLimitConfig) else _shown(limit)


def _shown(value: Any) -> str:
    return "off" if value is None or value == () else f"{value:g}" if isinstance(value, float) else str(value)
