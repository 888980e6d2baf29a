"""`coterie policies`: what the calls of each method survive, and where that comes from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import msgspec

from ..errors import InvalidArgument
from ..resilience import AdaptiveLimitConfig
from ..resilience.overriding import flat
from ..services import Admission, Admissions, Effective, MethodAdmission, MethodSpec, Policies, Sourced
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
    coterie.toml replaces single values. A client with a policy of its own has lines of its own. Below the
    policy stands how much a node takes on: of the service, of the method, and the method's priority.
    """
    app, config, _ = load(target, {})
    specs = {**app.clients, **app.services}
    policies = Policies(app=app.policy, overrides=config.policy)
    policies.check(specs)
    admissions = Admissions(app=app.admission, overrides=config.admission)
    admissions.check(specs)
    clients = [(client.service, client.policy) for client in app.tuned if client.policy is not None]
    found = {
        each.target + called: _Shown(
            policies.of(spec, each, client),
            each,
            admissions.of_service(spec),
            admissions.of_method(spec, each),
        )
        for spec, client, called in (
            *((spec, None, "") for spec in specs.values()),
            *((*client, f" (client {number})") for number, client in enumerate(clients, 1)),
        )
        for each in spec.methods.values()
        if method in {None, spec.name, each.target}
    }
    if method is not None and not found:
        names = [*specs, *(each.target for spec in specs.values() for each in spec.methods.values())]
        near = difflib.get_close_matches(method, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(names)) or 'none'}"
        raise InvalidArgument(f"the app {app.name!r} has no service or method {method!r}", hint=hint)
    if json_:
        print_json({name: _as_json(each) for name, each in found.items()})
    elif method in found:
        rows = [(name, _shown(value), source) for name, value, source in found[method].values()]
        print_table(("value", "is", "from"), rows)
    else:
        columns = ("method", "idempotent", "timeout s", "attempts", "hedged", "breaker", "limit")
        lines = [_row(name, each) for name, each in found.items()]
        print_table((*columns, "service at a node", "method at a node", "priority", "from"), lines)


class _Shown(NamedTuple):
    """A method, and the policy under which it is called."""

    effective: Effective
    method: MethodSpec
    at_a_node: Sourced[Admission]
    """How much a node takes on of the whole service."""
    of_method: Sourced[MethodAdmission]

    def values(self) -> Iterator[tuple[str, Any, str]]:
        """Return name, value and source of each part, first of the policy, then of what a node takes on."""
        yield from self.effective.values()
        for prefix, admission in (("service.", self.at_a_node), ("method.", self.of_method)):
            for name, value in flat(admission.value):
                if admission.value.limit is not None or not name.startswith("queue."):
                    yield prefix + name, value, admission.sources[name]


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
        _limit(shown.at_a_node.value.limit),
        _limit(shown.of_method.value.limit),
        str(shown.of_method.value.priority),
        ", ".join(dict.fromkeys(source for _, _, source in shown.values())),
    )


def _as_json(shown: _Shown) -> dict[str, Any]:
    service, method = shown.at_a_node, shown.of_method
    return {
        "idempotent": shown.method.idempotent,
        "priority": method.value.priority,
        "limit_at_a_node": msgspec.to_builtins(service.value.limit),
        "policy": {name: _told(value, source) for name, value, source in shown.effective.values()},
        "admission": {
            "service": {name: _told(value, service.sources[name]) for name, value in flat(service.value)},
            "method": {name: _told(value, method.sources[name]) for name, value in flat(method.value)},
        },
    }


def _told(value: Any, source: str) -> dict[str, Any]:
    return {"value": msgspec.to_builtins(value, enc_hook=str), "source": source}


def _limit(limit: int | AdaptiveLimitConfig | None) -> str:
    return "adaptive" if isinstance(limit, AdaptiveLimitConfig) else _shown(limit)


def _shown(value: Any) -> str:
    return "off" if value is None or value == () else f"{value:g}" if isinstance(value, float) else str(value)
