"""Which policy a method is called under, and where each part of it comes from.

In code the nearest policy counts, whole: that of the client, of the method (`@policy`), of the service,
of the app, or else the default one. `coterie.toml` then replaces single values of it, first for all
services (`[policy]`), then for one (`[policy.Shop]`), then for one method (`[policy."Shop.buy"]`). Only
the last two switch on a part that the code has switched off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from ..errors import InvalidConfiguration
from ..resilience import Policy
from ..resilience.overriding import flat
from ._tables import check_tables, layered, place
from .spec import MethodSpec, ServiceSpec

__all__ = ["Effective", "Policies", "idempotent", "policy"]

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = Policy()
_FIELDS = frozenset(each.name for each in dataclasses.fields(Policy))


@overload
def idempotent(function: F) -> F: ...
@overload
def idempotent(*, by_nature: bool = False) -> Callable[[F], F]: ...
def idempotent(function: Any = None, *, by_nature: bool = False) -> Any:
    """Say of a service's method that a repeated call does no harm, so that its policy may repeat it.

    Each call has an idempotency key, made up unless the caller gives one (`idempotency_key`). All calls
    with the same key have one effect and the first reply, which is kept on the Store.

    A method that reads, or that sets what may as well be set twice, is idempotent `by_nature`: nothing is
    kept, it is just called again, and it may be hedged.
    """

    def mark(function: F) -> F:
        function.__coterie_idempotent__ = "by nature" if by_nature else "kept"  # type: ignore[attr-defined]
        return function

    return mark if function is None else mark(function)


def policy(policy: Policy) -> Callable[[F], F]:
    """Give a service's method a policy of its own."""
    if not isinstance(policy, Policy):
        raise InvalidConfiguration(
            f"@policy takes a Policy, not {policy!r}", hint="write it as @policy(Policy(timeout_s=2.0))"
        )

    def decorate(function: F) -> F:
        function.__coterie_policy__ = policy  # type: ignore[attr-defined]
        return function

    return decorate


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The policy of one method, and by the name of each part (`retry.attempts`) where it comes from."""

    policy: Policy
    sources: Mapping[str, str]

    def values(self) -> Iterator[tuple[str, Any, str]]:
        """Return name, value and source of each part."""
        for name, value in flat(self.policy):
            yield name, value, self.sources[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What an app and its configuration file say about policies."""

    app: Policy | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """The table `[policy]`: parts of a policy, and tables of them by service and by `Service.method`."""
    file: str = "coterie.toml"

    def of(self, spec: ServiceSpec, method: MethodSpec, client: Policy | None = None) -> Effective:
        """Return the policy under which `method` is called; raise `InvalidConfiguration`."""
        found, source = Policy(), "default"
        for layer, name in (
            (client, "app.client(policy=...)"),
            (method.policy, f"@policy of {method.target}"),
            (spec.policy, f"@app.service(policy=...) of {spec.name}"),
            (self.app, "App(policy=...)"),
        ):
            if layer is not None:
                found, source = layer, name
                break
        begun = {name: source for name, _ in flat(found)}
        found, sources = layered(found, begun, self._layers(spec, method, found))
        return Effective(policy=found, sources=sources)

    def check(self, specs: Mapping[str, ServiceSpec]) -> None:
        """Raise `InvalidConfiguration` if a table of the file is of no service or method there is."""
        check_tables(self.file, "policy", self.overrides, specs, _FIELDS)

    def _layers(
        self, spec: ServiceSpec, method: MethodSpec, declared: Policy
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        general = {
            name: value
            for name, value in self.overrides.items()
            if name in _FIELDS and not (isinstance(value, Mapping) and _switched_off(declared, name))
        }
        if general:
            yield place(self.file, "policy"), general
        for name in (spec.name, method.target):
            values = self.overrides.get(name)
            if isinstance(values, Mapping) and name not in _FIELDS:
                yield place(self.file, "policy", name), values


def _switched_off(policy: Policy, name: str) -> bool:
    """Return whether the code has switched off a part that is on by default."""
    return getattr(policy, name) is None and getattr(_DEFAULT, name) is not None
