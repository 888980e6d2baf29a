"""What a service declares: its methods, their parameters and results, read off the class once."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from ..codec import UNENCODABLE, Buffer, Codec, codec_for, encode_hook, is_immutable, type_name
from ..errors import InvalidArgument, InvalidConfiguration, RemoteError
from ..resilience import AdaptiveLimitConfig, Policy, Priority, QueueConfig
from ..resilience.limit import check_limit

__all__ = ["Admission", "MethodSpec", "ParameterSpec", "ServiceSpec", "admission_of", "describe"]

_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
_canonical = msgspec.msgpack.Encoder(enc_hook=encode_hook, order="deterministic").encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """How many calls, to a service or to one method, one node answers at once."""

    limit: int | AdaptiveLimitConfig | None = None
    """A number, or learned from latency; None for any number."""
    queue: QueueConfig = field(default_factory=QueueConfig)
    """Who waits when the limit is reached."""

    def __post_init__(self) -> None:
        check_limit(self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """One parameter of a method; `default` is `inspect.Parameter.empty` when it must be given."""

    name: str
    type: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MethodSpec:
    """One callable method of a service."""

    service: str
    name: str
    parameters: tuple[ParameterSpec, ...]
    returns: Any
    """The type of the result, or of one item of a stream."""
    streaming: bool
    doc: str
    arguments: Codec[Any] = field(repr=False)
    """Of a Struct with one field a parameter: a msgpack array by position."""
    arguments_json: Codec[Any] = field(repr=False)
    """Of a Struct with one field a parameter: a JSON object by name. Unknown names are refused."""
    result: Codec[Any] = field(repr=False)

    target: str
    """The name by which the method is called: `Service.method`."""
    immutable_arguments: bool
    """Whether no argument can be changed, so that a call in process need not copy them."""
    immutable_result: bool
    idempotent: bool = False
    """Whether a repeated call does no harm (`@idempotent`)."""
    priority: Priority = 1
    """Who goes first when the service has too much to do: 0 before 3 (`@priority`)."""
    keeps_replies: bool = False
    """Whether that is because the first reply is kept, and not by the nature of the method."""
    policy: Policy | None = None
    """The policy that the method was given (`@policy`), if any."""
    admission: Admission | None = None
    """How many calls to the method one node answers at once, if that was said (`@limit`)."""

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the encoding of the arguments of a call, given as to a function.

        Raises `InvalidArgument` when they do not fit, or when one cannot be sent.
        """
        if not kwargs and len(args) == len(self.parameters):
            try:
                return self.arguments.encode(args)  # A tuple is encoded as the Struct would be.
            except UNENCODABLE:
                pass  # Told in full below.
        return self.encode_arguments(self.bind(args, kwargs))

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the arguments of a call as the Struct of `arguments`; raise `InvalidArgument`."""
        try:
            return self.arguments.type(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgument(f"{self.target}: {str(error)[:1].lower()}{str(error)[1:]}") from None

    def encode_arguments(self, arguments: Any) -> bytes:
        """Return the encoding of `arguments`, the Struct of the same name.

        Raises `InvalidArgument` that names the parameter whose value cannot be sent.
        """
        try:
            return self.arguments.encode(arguments)
        except UNENCODABLE as error:
            for parameter in self.parameters:
                try:
                    self.arguments.encode(getattr(arguments, parameter.name))
                except UNENCODABLE as problem:
                    message = f"{self.target}: parameter `{parameter.name}`: {problem}"
                    raise InvalidArgument(message) from problem
            raise InvalidArgument(f"{self.target}: {error}") from error

    @staticmethod
    def canonical(arguments: tuple[Any, ...]) -> bytes:
        """Return an encoding that is the same for equal arguments, in the order of the parameters."""
        return _canonical(arguments)

    def decode_result(self, body: Buffer) -> Any:
        """Return the result, or the item of a stream, in `body`; raise `RemoteError` if it is none."""
        try:
            return self.result.decode(body)
        except InvalidArgument as error:
            raise self.bad_result(error) from error

    def bad_result(self, error: InvalidArgument) -> RemoteError:
        """Return the error for a result that is not of the declared type: the method itself has run."""
        return RemoteError(f"{self.target} did not return {type_name(self.returns)}: {error.__cause__}")

    def decode_arguments(self, body: Buffer) -> Any:
        """Return the arguments as the Struct of `arguments`.

        Raises `InvalidArgument` that names the parameter and says what was expected.
        """
        try:
            return self.arguments.decode(body)
        except InvalidArgument as error:
            raise InvalidArgument(self.explain(str(error.__cause__))) from error

    def decode_named(self, data: Buffer | str) -> Any:
        """Return the arguments that a JSON object holds by name, as the Struct of `arguments_json`.

        Raises `InvalidArgument` that names the parameter and says what was expected.
        """
        try:
            return self.arguments_json.decode_json(data)
        except InvalidArgument as error:
            problem = re.sub(r" - at `\$\.?(.+)`$", r" at parameter `\1`", str(error.__cause__))
            expects = ", ".join(f"{p.name}: {type_name(p.type)}" for p in self.parameters)
            raise InvalidArgument(
                f"{self.target}: {problem[:1].lower()}{problem[1:]}", hint=f"it takes ({expects})"
            ) from error

    def explain(self, problem: str) -> str:
        """Return msgspec's `problem` with the arguments in the terms of the method's signature."""
        found = re.search(r" - at `\$\[(\d+)\](.*)`$", problem)
        if found is not None and int(found[1]) < len(self.parameters):
            name = self.parameters[int(found[1])].name
            what = problem[: found.start()]
            return f"{self.target}: parameter `{name}{found[2]}`: {what[:1].lower()}{what[1:]}"
        found = re.search(r"at least length (\d+), got (\d+)", problem)
        if found is not None:
            missing = [p.name for p in self.parameters[int(found[2]) :] if p.required]
            return f"{self.target}: missing parameter{'s' if len(missing) > 1 else ''}: {', '.join(missing)}"
        return f"{self.target}: {problem[:1].lower()}{problem[1:]}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceSpec:
    """A service: a class whose public async methods can be called from anywhere."""

    name: str
    cls: type[Any]
    methods: dict[str, MethodSpec]
    doc: str
    policy: Policy | None = None
    """The policy that the service was declared with, if any."""
    admission: Admission | None = None
    """How many calls to the service one node answers at once, if that was said."""


def describe(
    cls: type[Any],
    name: str | None = None,
    *,
    policy: Policy | None = None,
    limit: int | AdaptiveLimitConfig | None = None,
    queue: QueueConfig | None = None,
) -> ServiceSpec:
    """Read a service's declaration off its class.

    Every public method (no leading underscore) must be `async def` with annotated parameters.
    Raises `InvalidConfiguration` that names the class, the method and the parameter at fault.
    """
    if not isinstance(cls, type):
        raise InvalidConfiguration(f"a service must be a class, not {cls!r}")
    service = name or cls.__name__
    methods = {}
    for attribute in dir(cls):
        if attribute.startswith("_"):
            continue
        value = inspect.getattr_static(cls, attribute)
        if isinstance(value, (staticmethod, classmethod, property)) or not inspect.isfunction(value):
            continue
        methods[attribute] = _describe_method(service, attribute, value)
    if not methods:
        raise InvalidConfiguration(
            f"the service {service} has no public method",
            hint="add one: `async def greet(self, name: str) -> str`",
        )
    return ServiceSpec(
        name=service,
        cls=cls,
        methods=methods,
        doc=inspect.getdoc(cls) or "",
        policy=policy,
        admission=admission_of(f"the service {service}", limit, queue),
    )


def admission_of(
    who: str, limit: int | AdaptiveLimitConfig | None, queue: QueueConfig | None
) -> Admission | None:
    """Return what was declared, None if nothing was; raise `InvalidConfiguration` that says of `who`."""
    if limit is not None:
        return Admission(limit=limit, queue=queue or QueueConfig())
    if queue is not None:
        raise InvalidConfiguration(
            f"{who} has a queue and no limit: nobody would ever wait", hint="set limit=..."
        )
    return None


def _describe_method(service: str, name: str, function: Any) -> MethodSpec:
    where = f"{service}.{name}"
    streaming = inspect.isasyncgenfunction(function)
    if not streaming and not inspect.iscoroutinefunction(function):
        raise InvalidConfiguration(
            f"{where} is not `async def`",
            hint="make it async, or rename it with a leading underscore to keep it private",
        )
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise InvalidConfiguration(
            f"an annotation of {where} cannot be resolved: {error}",
            hint="types of services must be defined at module level",
        ) from error
    mark = getattr(function, "__coterie_idempotent__", None)
    if mark is not None and streaming:
        raise InvalidConfiguration(
            f"{where} is a stream and cannot be @idempotent", hint="a stream that has begun is never repeated"
        )
    if streaming and hasattr(function, "__coterie_admission__"):
        raise InvalidConfiguration(
            f"{where} is a stream, and streams are let in without limit",
            hint="take @limit off it; @app.service(limit=...) does not count streams either",
        )
    parameters = _parameters(where, function, hints)
    returns = _result_type(where, hints.get("return", Any), streaming=streaming)
    fields = [(p.name, p.type) if p.required else (p.name, p.type, _default(p.default)) for p in parameters]
    try:
        compact = msgspec.defstruct(f"{service}_{name}", fields, array_like=True, kw_only=False)
        named = msgspec.defstruct(f"{service}_{name}_named", fields, kw_only=True, forbid_unknown_fields=True)
    except TypeError as error:
        raise InvalidConfiguration(f"{where}: {error}") from error
    try:
        for each in parameters:
            _check_parameter(each)
        return MethodSpec(
            service=service,
            name=name,
            target=where,
            parameters=tuple(parameters),
            returns=returns,
            immutable_arguments=all(is_immutable(p.type) for p in parameters),
            immutable_result=is_immutable(returns),
            streaming=streaming,
            doc=inspect.getdoc(function) or "",
            arguments=codec_for(compact),
            arguments_json=codec_for(named),
            result=codec_for(returns),
            idempotent=mark is not None,
            keeps_replies=mark == "kept",
            policy=getattr(function, "__coterie_policy__", None),
            priority=getattr(function, "__coterie_priority__", 1),
            admission=getattr(function, "__coterie_admission__", None),
        )
    except InvalidConfiguration as error:
        shown = ", ".join(f"{p.name}: {type_name(p.type)}" for p in parameters)
        raise InvalidConfiguration(
            f"{where}({shown}) -> {type_name(returns)}: {error.message}", hint=error.hint
        ) from error


def _parameters(where: str, function: Any, hints: dict[str, Any]) -> list[ParameterSpec]:
    declared = list(inspect.signature(function).parameters.values())
    if not declared or declared[0].kind not in {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.POSITIONAL_ONLY,
    }:
        raise InvalidConfiguration(f"{where} takes no `self`", hint="make it a method: `async def f(self)`")
    parameters: list[ParameterSpec] = []
    for parameter in declared[1:]:
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise InvalidConfiguration(f"{where}: the parameter {parameter} has no fixed name; name each one")
        if parameter.name not in hints:
            raise InvalidConfiguration(f"{where}: the parameter {parameter.name!r} has no type annotation")
        described = ParameterSpec(name=parameter.name, type=hints[parameter.name], default=parameter.default)
        if described.required and parameters and not parameters[-1].required:
            raise InvalidConfiguration(
                f"{where}: the parameter {parameter.name!r} has no default, but one before it has",
                hint="parameters without a default come first, also those by keyword only",
            )
        parameters.append(described)
    return parameters


def _result_type(where: str, returns: Any, *, streaming: bool) -> Any:
    """Return the type of the result, or of one item of a stream, from the annotation of a method."""
    is_stream = returns in _STREAMS or get_origin(returns) in _STREAMS
    if is_stream and not streaming:
        raise InvalidConfiguration(
            f"{where} says that it returns a stream, but has no `yield`",
            hint="a streaming method is an async generator: `async for item in source: yield item`",
        )
    if streaming and not is_stream and returns is not Any:
        raise InvalidConfiguration(
            f"{where} yields items, but says that it returns {type_name(returns)}",
            hint=f"annotate it with the type of an item: `-> AsyncIterator[{type_name(returns)}]`",
        )
    if is_stream:
        return next(iter(get_args(returns)), Any)
    return None if returns is type(None) else returns


def _check_parameter(parameter: ParameterSpec) -> None:
    """Raise `InvalidConfiguration` when no value, or not the default, of a parameter can be sent."""
    codec = codec_for(parameter.type)
    if parameter.required:
        return
    try:
        codec.decode(codec.encode(parameter.default))
    except (InvalidArgument, TypeError, ValueError) as error:
        raise InvalidConfiguration(f"the default of `{parameter.name}` is {error}") from error


def _default(value: Any) -> Any:
    # A mutable default would be shared by all calls; a factory copies it.
    if is_immutable(type(value)):
        return value
    return msgspec.field(default_factory=lambda: copy.deepcopy(value))
