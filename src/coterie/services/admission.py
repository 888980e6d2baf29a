"""How much a node takes on: how many calls to a service, and to a method, it answers at once.

In code a service is given a limit by `@app.service(limit=...)`, or by `App(limit=...)` for each service
without one, and a method by `@limit`. `coterie.toml` replaces single values: for each service
(`[admission]`), for one (`[admission.Shop]`), for one method (`[admission."Shop.buy"]`). A call must be let
in by its method and by its service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from ..errors import InvalidConfiguration
from ..resilience import AdaptiveLimitConfig, Priority, QueueConfig
from ..resilience.overriding import flat
from ._tables import check_tables, layered, place
from .spec import Admission, MethodSpec, ServiceSpec

__all__ = ["Admissions", "MethodAdmission", "Sourced", "limit", "priority"]

F = TypeVar("F", bound=Callable[..., Any])
T_co = TypeVar("T_co", bound=Admission, covariant=True)

_FIELDS = frozenset(each.name for each in fields(Admission))


def limit(at_once: int | AdaptiveLimitConfig, *, queue: QueueConfig | None = None) -> Callable[[F], F]:
    """Say how many calls to a service's method one node answers at once: a number, or learned from latency.

    A few more wait for a moment, as `queue` says; the rest is turned away (`Overloaded`). The limit of the
    service, if it has one, counts as well.
    """
    admission = Admission(limit=at_once, queue=queue or QueueConfig())

    def decorate(function: F) -> F:
        function.__coterie_admission__ = admission  # type: ignore[attr-defined]
        return function

    return decorate


def priority(level: Priority) -> Callable[[F], F]:
    """Say which calls of a service with a limit go first when it has too much to do: 0 before 1 ... 3."""
    _check_priority(level)

    def decorate(function: F) -> F:
        function.__coterie_priority__ = level  # type: ignore[attr-defined]
        return function

    return decorate


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodAdmission(Admission):
    """How many calls to a method one node answers at once, and how important they are."""

    priority: Priority = 1
    """Who goes first where there is a limit: 0 before 3."""

    def __post_init__(self) -> None:
        Admission.__post_init__(self)
        _check_priority(self.priority)


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T_co]):
    """A value, and by the name of each of its parts (`queue.length`) where that comes from."""

    value: T_co
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admissions:
    """What an app and its configuration file say about how much a node takes on."""

    app: Admission | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """The table `[admission]`: a limit and a queue, and tables of them by service and `Service.method`."""
    file: str = "coterie.toml"

    def of_service(self, spec: ServiceSpec) -> Sourced[Admission]:
        """Return how many calls to a service a node answers at once; raise `InvalidConfiguration`."""
        found, source = Admission(), "default"
        if spec.admission is not None:
            found, source = spec.admission, f"@app.service(limit=...) of {spec.name}"
        elif self.app is not None:
            found, source = self.app, "App(limit=...)"
        general = {name: value for name, value in self.overrides.items() if name in _FIELDS}
        if found.limit is None and general.get("limit", "off") == "off":
            general.pop("queue", None)  # A queue for all is for those that have a limit.
        named = self._named(spec.name)
        layers = [(place(self.file, "admission"), general), named]
        value, sources = layered(found, {name: source for name, _ in flat(found)}, layers)
        _check_queue(value, *named)
        return Sourced(value, sources)

    def of_method(self, spec: ServiceSpec, method: MethodSpec) -> Sourced[MethodAdmission]:
        """Return how many calls to a method a node answers at once, and their priority."""
        declared = method.admission or Admission()
        found = MethodAdmission(limit=declared.limit, queue=declared.queue, priority=method.priority)
        limited = "default" if method.admission is None else f"@limit of {method.target}"
        begun = {name: limited for name, _ in flat(found)}
        marked = hasattr(getattr(spec.cls, method.name), "__coterie_priority__")
        begun["priority"] = f"@priority of {method.target}" if marked else "default"
        named = self._named(method.target)
        if method.streaming and named[1]:
            raise InvalidConfiguration(f"{named[0]}: it is a stream, and streams are let in without limit")
        value, sources = layered(found, begun, [named])
        _check_queue(value, *named)
        return Sourced(value, sources)

    def check(self, specs: Mapping[str, ServiceSpec]) -> None:
        """Raise `InvalidConfiguration` if the file names what there is not, or says what cannot be right."""
        for name, spec in specs.items():
            if "priority" in self.overrides or "priority" in self._named(name)[1]:
                raise InvalidConfiguration(
                    f"{self.file}: a priority says which calls to a service go before the others, so neither "
                    f"[admission] nor [admission.{name}] has one",
                    hint=f'set it for a method: [admission."{name}.{next(iter(spec.methods))}"]',
                )
        check_tables(self.file, "admission", self.overrides, specs, _FIELDS)
        for spec in specs.values():
            self.of_service(spec)
            for method in spec.methods.values():
                self.of_method(spec, method)

    def _named(self, name: str) -> tuple[str, Mapping[str, Any]]:
        values = self.overrides.get(name)
        return place(self.file, "admission", name), values if isinstance(values, Mapping) else {}


def _check_queue(admission: Admission, where: str, values: Mapping[str, Any]) -> None:
    if "queue" in values and admission.limit is None:
        raise InvalidConfiguration(
            f"{where}: a queue and no limit: nobody would ever wait", hint="set a limit as well"
        )


def _check_priority(level: object) -> None:
    if level not in range(4):
        raise InvalidConfiguration(f"a priority is 0, 1, 2 or 3, not {level!r}")
