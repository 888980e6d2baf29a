"""`coterie policies`: what the calls of each method survive, and where that comes from."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from ..errors import NotFound
from ..services import Effective, Policies
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
    coterie.toml replaces single values.
    """
    app, config, _ = load(target, {})
    specs = {**app.clients, **app.services}
    policies = Policies(app=app.policy, overrides=config.policy)
    policies.check(specs)
    found = {
        each.target: (policies.of(spec, each), each.idempotent)
        for spec in specs.values()
        for each in spec.methods.values()
        if method in {None, spec.name, each.target}
    }
    if method is not None and not found:
        raise NotFound(f"the app {app.name!r} has no service or method {method!r}")
    if json_:
        print_json({name: _as_json(*each) for name, each in found.items()})
    elif method in found:
        effective, _ = found[method]
        rows = [(name, _shown(value), source) for name, value, source in effective.values()]
        print_table(("value", "is", "from"), rows)
    else:
        columns = ("method", "idempotent", "timeout s", "attempts", "hedged", "breaker", "limit", "from")
        print_table(columns, [_row(name, *each) for name, each in found.items()])


def _row(name: str, effective: Effective, idempotent: bool) -> tuple[str, ...]:
    policy = effective.policy
    return (
        name,
        "yes" if idempotent else "no",
        _shown(policy.timeout_s),
        _shown(policy.retry and policy.retry.attempts),
        f"p{policy.hedge.quantile * 100:g}" if policy.hedge and idempotent else "off",
        f"{policy.breaker.error_ratio:.0%}" if policy.breaker else "off",
        _shown(policy.limit if policy.limit is None or isinstance(policy.limit, int) else "adaptive"),
        ", ".join(dict.fromkeys(effective.sources.values())),
    )


def _as_json(effective: Effective, idempotent: bool) -> dict[str, Any]:
    values = {
        name: {"value": msgspec.to_builtins(value, enc_hook=str), "source": source}
        for name, value, source in effective.values()
    }
    return {"idempotent": idempotent, "policy": values}


def _shown(value: Any) -> str:
    return "off" if value is None or value == () else f"{value:g}" if isinstance(value, float) else str(value)
