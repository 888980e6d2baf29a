"""`App`: the declarations of one program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast, overload

from ..coordination import (
    Barrier,
    Cron,
    Election,
    Every,
    Instances,
    Job,
    JobPolicy,
    LeaderDuty,
    Lease,
    Lock,
    ReadWriteLock,
    Semaphore,
    Sequence,
    Settings,
)
from ..errors import InvalidConfiguration
from ..ports.guarantees import Durability
from ..resilience import (
    AdaptiveLimitConfig,
    Balancer,
    Listener,
    Policy,
    QueueConfig,
    Rate,
    RateLimit,
    WhenUnsure,
)
from ..services import Admission, ClientSpec, ErrorRegistry, ServiceSpec, admission_of, describe, make_client
from ..state import StrongMap, Transaction, Transactional
from .checks import checked_function, checked_name, checked_service
from .trials import Promise, Workload, promise, workload

if TYPE_CHECKING:
    from ..node import Connection, MountedNode, NodeConfig

__all__ = ["App"]

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")
S = TypeVar("S")
E = TypeVar("E", bound=type[Exception])
W = TypeVar("W", bound=Callable[..., Awaitable[object]])
F = TypeVar("F", bound=Callable[[], object])
D = TypeVar("D", bound=Callable[[Lease], Awaitable[object]])
L = TypeVar("L", bound=Listener)


class App:
    """One program: what it declares, without a trace of where it runs.

    The declarations are handles. They work in any code that runs on a node of this app, or inside
    `async with app.connect():`.
    """

    def __init__(
        self,
        name: str,
        *,
        policy: Policy | None = None,
        limit: int | AdaptiveLimitConfig | None = None,
        queue: QueueConfig | None = None,
    ) -> None:
        self.name: str = checked_name("an app", name)
        self.services: dict[str, ServiceSpec] = {}
        self.clients: dict[str, ServiceSpec] = {}
        """Services that are called, whether or not this app hosts them."""
        self.tuned: list[ClientSpec] = []
        """Clients that call a service in a way of their own."""
        self.policy: Policy | None = policy
        """What all clients call under where nothing nearer says otherwise."""
        self.admission: Admission | None = admission_of(f"the app {name!r}", limit, queue)
        """How many calls one node answers at once, to each service that does not say otherwise."""
        self.policy_listeners: list[Listener] = []
        """Who is told of each event, on every node; see `on_policy`."""
        self.rate_limits: dict[str, RateLimit] = {}
        self.maps: dict[str, StrongMap[Any]] = {}
        self.transactions: list[Transactional[..., Any]] = []
        self.configs: dict[str, Settings[Any]] = {}
        self.leaders: dict[str, LeaderDuty] = {}
        self.jobs: dict[str, Job] = {}
        self.errors: ErrorRegistry = ErrorRegistry()
        self.workloads: list[Workload] = []
        self.invariants: list[Promise] = []
        """What `always` declares."""
        self.goals: list[Promise] = []
        """What `eventually` declares."""

    def __repr__(self) -> str:
        return f"App({self.name!r})"

    def map(self, name: str, tp: type[V], *, durability: Durability = Durability.NONE) -> StrongMap[V]:
        """Declare a strong map of values of type `tp`.

        `durability` is the least that the engine must guarantee for its writes; a node does not start
        on an engine that gives less.
        """
        checked_name("a map", name)
        if name in self.maps:
            raise InvalidConfiguration(f"the app {self.name!r} declares the map {name!r} twice")
        declared = self.maps[name] = StrongMap(name, tp, durability=durability)
        return declared

    def lock(self, name: str, *, wait_s: float | None = 30.0) -> Lock:
        """Return the lock called `name`: `async with app.lock("restock") as lease:`. See `Lock`."""
        return Lock(name, wait_s=wait_s)

    def read_write_lock(self, name: str, *, wait_s: float | None = 30.0) -> ReadWriteLock:
        """Return the lock `name` that many hold for reading, or one for writing. See `ReadWriteLock`."""
        return ReadWriteLock(name, wait_s=wait_s)

    def semaphore(self, name: str, places: int, *, wait_s: float | None = 30.0) -> Semaphore:
        """Return the lock `name` that up to `places` hold at once. See `Semaphore`."""
        return Semaphore(name, places, wait_s=wait_s)

    def barrier(self, name: str, parties: int, *, wait_s: float | None = 30.0) -> Barrier:
        """Return the point `name` that `parties` tasks pass together: `await barrier.wait()`."""
        return Barrier(name, parties, wait_s=wait_s)

    def election(self, name: str, *, wait_s: float | None = None) -> Election:
        """Return the election `name`: `async with election as lease:` returns when this task leads."""
        return Election(name, wait_s=wait_s)

    def sequence(self, name: str, *, block: int = 100) -> Sequence:
        """Return the sequence `name` of unique numbers: `await sequence.next()`. See `Sequence`."""
        return Sequence(name, block=block)

    def instances(self, service: type[Any] | str) -> Instances:
        """Return where the instances of a service are, given its class or name: `now()` and `watch()`."""
        if isinstance(service, str):
            return Instances(service)
        known = (*self.services.values(), *self.clients.values())
        return Instances(next((spec.name for spec in known if spec.cls is service), service.__name__))

    def leader(self, name: str) -> Callable[[D], D]:
        """Declare an `async def f(lease)` that runs on exactly one node, the one that leads `name`.

        It is cancelled when the lease is lost or the node drains. When it returns, the node goes on leading
        and does not run it again; when it raises, another node may lead.
        """
        checked_name("a leader", name)

        def declare(function: D) -> D:
            if name in self.leaders:
                raise InvalidConfiguration(f"the app {self.name!r} declares the leader {name!r} twice")
            checked_function(f"the leader {name!r}", function, "lease")
            self.leaders[name] = LeaderDuty(name, function)
            return function

        return declare

    def every(
        self, seconds: float, *, name: str | None = None, policy: JobPolicy | None = None
    ) -> Callable[[Callable[..., Awaitable[object]]], Job]:
        """Run an `async def f()` or `f(tick)` every `seconds`, once in the whole cluster.

        The ticks are the multiples of `seconds` since 1970, so that all nodes mean the same moments.
        `policy` says what happens to a tick that nobody was there for, that finds another run under way,
        or whose node died; by default `JobPolicy()`.
        """
        return self._job(Every(seconds), name, policy or JobPolicy(grace_s=min(60.0, seconds)))

    def cron(
        self, expression: str, *, tz: str = "UTC", name: str | None = None, policy: JobPolicy | None = None
    ) -> Callable[[Callable[..., Awaitable[object]]], Job]:
        """Run an `async def f()` or `f(tick)` as `"0 3 * * *"` says in the time zone `tz`; as `every`.

        `coterie.coordination.cron` says what expressions mean, and what happens when clocks change.
        """
        return self._job(Cron(expression, tz), name, policy or JobPolicy())

    def _job(
        self, schedule: Every | Cron, name: str | None, policy: JobPolicy
    ) -> Callable[[Callable[..., Awaitable[object]]], Job]:
        def declare(function: Callable[..., Awaitable[object]]) -> Job:
            checked_function("what runs on a schedule", function)
            job = Job(name or str(getattr(function, "__name__", "")), function, schedule, policy)
            if job.name in self.jobs:
                raise InvalidConfiguration(
                    f"the app {self.name!r} has two scheduled functions called {job.name!r}",
                    hint="give one of them another name=",
                )
            self.jobs[job.name] = job
            return job

        return declare

    def config(
        self,
        model: type[V],
        *,
        name: str | None = None,
        validate: Callable[[V], None] | None = None,
        keep: int = 50,
    ) -> Settings[V]:
        """Declare a configuration of type `model` that all nodes share. See `Settings`.

        `validate` raises `ValueError` for a value that makes no sense. `keep` is how many versions can be
        looked at and rolled back to.
        """
        declared = Settings(model, name=name, validate=validate, keep=keep)
        if declared.name in self.configs:
            raise InvalidConfiguration(
                f"the app {self.name!r} declares the configuration {declared.name!r} twice",
                hint="give one of them another name=",
            )
        self.configs[declared.name] = declared
        return declared

    def rate_limit(
        self,
        name: str,
        *,
        rate: float,
        per: float = 1.0,
        burst: int | None = None,
        when_unsure: WhenUnsure = "open",
    ) -> RateLimit:
        """Declare a rate limit of the whole cluster: by key, `rate` units per `per` seconds, `burst` at once.

        `when_unsure` says whether everything (`open`) or nothing (`closed`) is let through while the
        engine does not answer.
        """
        checked_name("a rate limit", name)
        if name in self.rate_limits:
            raise InvalidConfiguration(f"the app {self.name!r} declares the rate limit {name!r} twice")
        allowed = Rate(rate=rate, per=per, burst=max(1, round(rate)) if burst is None else burst)
        declared = self.rate_limits[name] = RateLimit(name, allowed, when_unsure=when_unsure)
        return declared

    @overload
    def service(self, cls: type[S]) -> type[S]: ...
    @overload
    def service(
        self,
        *,
        name: str | None = None,
        policy: Policy | None = None,
        limit: int | AdaptiveLimitConfig | None = None,
        queue: QueueConfig | None = None,
    ) -> Callable[[type[S]], type[S]]: ...
    def service(
        self,
        cls: type[S] | None = None,
        *,
        name: str | None = None,
        policy: Policy | None = None,
        limit: int | AdaptiveLimitConfig | None = None,
        queue: QueueConfig | None = None,
    ) -> Any:
        """Declare a service: each public `async def` method of the class can be called from anywhere.

        Every node makes one instance, without arguments. If the class is an async context manager, it
        is entered before the node serves and left after it has drained. `policy` is what its clients
        call it under. `limit` is how many calls to it one node answers at once, a number or learned from
        latency: a few more wait for a moment, as `queue` says, the rest is turned away (`Overloaded`).
        Streams do not count, nor do calls that the node makes to itself: they are part of what was let
        in already.
        """

        def declare(cls: type[S]) -> type[S]:
            spec = describe(cls, name, policy=policy, limit=limit, queue=queue)
            checked_name("a service", spec.name)
            checked_service(cls)
            if spec.name in self.services:
                raise InvalidConfiguration(f"the app {self.name!r} declares the service {spec.name!r} twice")
            self.services[spec.name] = spec
            return cls

        return declare if cls is None else declare(cls)

    def client(
        self,
        cls: type[S],
        *,
        policy: Policy | None = None,
        balancer: Balancer | None = None,
        key: str | None = None,
    ) -> S:
        """Return a client of a service, typed as the service: calls run wherever the service lives.

        `policy` counts before those of the service and its methods. `balancer` chooses among the nodes
        that have the service; it is told the value of the parameter that `key` names.
        """
        for known in (*self.services.values(), *self.clients.values()):
            if known.cls is cls:
                spec = known
                break
        else:
            spec = describe(cls)
        self.clients[spec.name] = spec
        tuned = None
        if policy is not None or balancer is not None:
            tuned = ClientSpec(service=spec, policy=policy, balancer=balancer, key=key)
            self.tuned.append(tuned)
        elif key is not None:
            raise InvalidConfiguration(
                f"the key {key!r} is for a balancer, and there is none",
                hint="for instance balancer=ConsistentHash()",
            )
        return cast("S", make_client(spec, tuned))

    def on_policy(self, listener: L) -> L:
        """Call `listener(event)` for each thing that the policies of this app's clients do, on each node.

        It is called in the middle of a call, so it must be quick; what it raises is logged. Attempts are
        events as well, so calls cost a little more once there is a listener.
        """
        self.policy_listeners.append(listener)
        return listener

    def transactional(
        self, function: Callable[Concatenate[Transaction, P], Awaitable[R]], /
    ) -> Transactional[P, R]:
        """Make a function of `(txn, ...)` a transaction over strong maps, called without the `txn`."""
        checked_function("a transaction", function, "txn")
        declared = Transactional(function)
        self.transactions.append(declared)
        return declared

    @overload
    def error(self, cls: E) -> E: ...
    @overload
    def error(self, *, status: int = 400, name: str | None = None) -> Callable[[E], E]: ...
    def error(self, cls: E | None = None, *, status: int = 400, name: str | None = None) -> Any:
        """Declare an exception of the program, so that it crosses the wire as its own type.

        `status` is its HTTP status. Its `args`, or its fields if it is a dataclass, must be of types
        that can be sent.
        """

        def declare(cls: E) -> E:
            self.errors.register(cls, status=status, name=name)
            return cls

        return declare if cls is None else declare(cls)

    @overload
    def workload(self, function: W) -> W: ...
    @overload
    def workload(self, *, clients: int = 1, pause_s: float = 1.0) -> Callable[[W], W]: ...
    def workload(self, function: W | None = None, *, clients: int = 1, pause_s: float = 1.0) -> Any:
        """Declare a client of the app for `coterie sim`; it has no effect in a normal run.

        In each universe the function runs on hosts of its own, `clients` of them, again and again with
        a pause of about `pause_s` seconds, for as long as faults happen. It may take the client's
        number. An error of Coterie, or one that the app declares, ends a run of it and no more; any
        other exception is a broken promise, a failed `assert` above all.
        """

        def declare(function: W) -> W:
            self.workloads.append(workload(function, clients=clients, pause_s=pause_s))
            return function

        return declare if function is None else declare(function)

    def always(self, function: F) -> F:
        """Declare what must hold whenever nothing is under way; for `coterie sim`, like `workload`.

        The function, `async` or not, runs on a client, takes no arguments, and says that the promise is
        broken by returning false or by an `assert`. It must not write. It is called between operations
        while faults happen, and at the end.
        """
        self.invariants.append(promise("always", function))
        return function

    @overload
    def eventually(self, function: F) -> F: ...
    @overload
    def eventually(self, *, within_s: float = 30.0) -> Callable[[F], F]: ...
    def eventually(self, function: F | None = None, *, within_s: float = 30.0) -> Any:
        """Declare what must become true within `within_s` after the last fault; otherwise as `always`."""

        def declare(function: F) -> F:
            self.goals.append(promise("eventually", function, within_s=within_s))
            return function

        return declare if function is None else declare(function)

    def connect(
        self, engine: str | None = None, *, config: NodeConfig | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """Join as a caller that serves nothing: within the `async with`, the handles work.

        `engine` is the URL of the engine that the nodes run on; by default what `coterie run` would use.
        """
        from ..node import connect  # the node imports this module

        return connect(self, engine=engine, config=config)

    def asgi(self, *, config: NodeConfig | None = None) -> MountedNode:
        """Return an ASGI app that runs a node in its lifespan and serves its HTTP gateway.

        Mount it in FastAPI or Starlette, or run it with any ASGI server.
        """
        from ..node import asgi  # the node imports this module

        return asgi(self, config=config)
