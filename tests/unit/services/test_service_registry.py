"""Errors to failures and back: types, arguments, attributes, and what cannot be sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from coterie.errors import (
    Conflict,
    CoterieError,
    InvalidConfiguration,
    NotFound,
    Outcome,
    Overloaded,
    RemoteError,
    TooLarge,
    Unavailable,
)
from coterie.ports.wire import Failure
from coterie.services import ErrorRegistry


class Plain(Exception):
    pass


class Derived(Plain):
    pass


class TwoArguments(Exception):
    def __init__(self, sku: str, left: int) -> None:
        super().__init__(f"{left} of {sku} left")
        self.sku = sku
        self.left = left
        self.handle: object = object()
        self._secret = "not sent"


class KeywordOnly(Exception):
    def __init__(self, *, sku: str) -> None:
        super().__init__(sku)
        self.sku = sku


class Raising(Exception):
    def __init__(self, text: str) -> None:
        if text != "here":
            raise KeyError(text)
        super().__init__("there")


@dataclass
class Fields(Exception):
    sku: str
    tags: list[str]


class Own(CoterieError):
    code = "own"


class OwnConflict(Conflict):
    code = "own_conflict"


class Slots(CoterieError):
    def __init__(self, sku: str) -> None:
        super().__init__(f"no {sku}", hint="order more", outcome=Outcome.NOT_APPLIED)
        self.sku = sku


@pytest.fixture
def errors() -> ErrorRegistry:
    registry = ErrorRegistry()
    for cls in (Plain, TwoArguments, KeywordOnly, Raising, Fields, Own, OwnConflict, Slots):
        registry.register(cls)
    return registry


def crossed(errors: ErrorRegistry, error: BaseException) -> Any:
    """Send and receive `error`, through what a wire can carry."""
    failure = errors.to_failure(error)
    for text in (failure.code, failure.message, failure.hint, failure.traceback):
        msgspec.msgpack.encode(text)
    return errors.from_failure(failure)


@pytest.mark.parametrize("args", [(), ("a",), ("a", 1, [2.5, None], {"b": b"c"})])
def test_a_declared_error_keeps_its_type_and_args(errors: ErrorRegistry, args: tuple[object, ...]) -> None:
    error = crossed(errors, Plain(*args))
    assert type(error) is Plain
    assert error.args == args


def test_a_subclass_arrives_as_what_is_declared(errors: ErrorRegistry) -> None:
    assert type(crossed(errors, Derived("a"))) is Plain


def test_attributes_arrive_whatever_the_constructor_takes(errors: ErrorRegistry) -> None:
    error = crossed(errors, TwoArguments("a", 3))
    assert type(error) is TwoArguments
    assert (str(error), error.sku, error.left) == ("3 of a left", "a", 3)
    assert not hasattr(error, "_secret")
    assert not hasattr(error, "handle")
    assert crossed(errors, KeywordOnly(sku="b")).sku == "b"


def test_the_fields_of_a_dataclass_arrive_typed(errors: ErrorRegistry) -> None:
    assert crossed(errors, Fields("a", ["x"])) == Fields("a", ["x"])


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("cls", [Own, OwnConflict, NotFound, TooLarge, Unavailable, CoterieError])
def test_errors_of_our_kind_keep_message_hint_and_outcome(
    errors: ErrorRegistry, cls: type[CoterieError], outcome: Outcome
) -> None:
    error = crossed(errors, cls("what", hint="do", outcome=outcome))
    assert type(error) is cls
    assert (error.message, error.hint, error.outcome) == ("what", "do", outcome)


def test_errors_of_our_kind_may_have_a_constructor_of_their_own(errors: ErrorRegistry) -> None:
    error = crossed(errors, Slots("a"))
    assert type(error) is Slots
    assert (error.sku, error.message, error.hint, error.outcome) == (
        "a",
        "no a",
        "order more",
        Outcome.NOT_APPLIED,
    )


def test_an_undeclared_error_arrives_with_its_name_and_trace(errors: ErrorRegistry) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by hand")

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    error = crossed(errors, caught.value)
    assert type(error) is RemoteError
    assert (error.message, error.type_name) == ("by hand", "ZeroDivisionError")
    assert "in fail" in error.remote_traceback
    assert error.outcome is Outcome.UNKNOWN
    passed_on = crossed(errors, error)
    assert vars(passed_on) == vars(error)


@pytest.mark.parametrize("cls", [Plain, Own, ValueError, NotFound])
def test_text_that_utf_8_has_no_code_for_is_escaped(errors: ErrorRegistry, cls: type[Exception]) -> None:
    error = crossed(errors, cls("a file \udcff"))
    assert type(error) is (RemoteError if cls is ValueError else cls)
    assert "a file \\udcff" in str(error)


def test_arguments_that_cannot_be_sent_become_text(errors: ErrorRegistry) -> None:
    endless: list[object] = []
    endless.append(endless)
    for argument in (object(), 1 << 80, endless, {"a": object()}):
        error = crossed(errors, Plain(argument))
        assert type(error) is Plain
        assert error.args == (str(argument),)


@pytest.mark.parametrize(
    "detail",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(None),
        msgspec.msgpack.encode("abc"),
        msgspec.msgpack.encode([1, 2, 3]),
        msgspec.msgpack.encode([["elsewhere"], {}]),
        msgspec.msgpack.encode([["here"], {"args": 5}]),
    ],
)
def test_an_error_that_cannot_be_rebuilt_is_remote(errors: ErrorRegistry, detail: bytes) -> None:
    error = errors.from_failure(Failure("Raising", "the message", detail=detail, traceback="the trace"))
    assert type(error) is RemoteError
    assert (error.message, error.type_name, error.remote_traceback) == ("the message", "Raising", "the trace")


@pytest.mark.parametrize("detail", [b"", b"\xc1", b"\xa1\xff", msgspec.msgpack.encode(3)])
def test_an_unknown_code_is_remote(errors: ErrorRegistry, detail: bytes) -> None:
    assert type(errors.from_failure(Failure("nobody_knows", "m", detail=detail))) is RemoteError
    error = errors.from_failure(Failure("remote_error", "m", detail=detail))
    assert type(error) is RemoteError
    assert error.type_name == ""


def test_bad_declarations_are_refused(errors: ErrorRegistry) -> None:
    with pytest.raises(InvalidConfiguration, match="'Plain' is declared already"):
        errors.register(Plain)
    with pytest.raises(InvalidConfiguration, match="'unavailable' is declared already"):
        errors.register(Derived, name="unavailable")
    with pytest.raises(InvalidConfiguration, match="'remote_error' is declared already"):
        errors.register(Derived, name="remote_error")
    with pytest.raises(InvalidConfiguration, match="the error Plain is declared already, as 'Plain'"):
        errors.register(Plain, name="Other")
    with pytest.raises(InvalidConfiguration, match="must be between 400 and 599, not 200"):
        errors.register(Derived, status=200)
    with pytest.raises(InvalidConfiguration, match="must be a subclass of Exception"):
        errors.register(KeyboardInterrupt)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfiguration, match="must be a subclass of Exception, not 3"):
        errors.register(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("wait_s", [None, 0.0, 2.5])
def test_when_to_come_back_crosses_the_wire(wait_s: float | None) -> None:
    registry = ErrorRegistry()
    failure = registry.to_failure(Overloaded("too much", retry_after_s=wait_s))
    received = registry.from_failure(failure)
    assert type(received) is Overloaded
    assert received.retry_after_s == wait_s


@pytest.mark.parametrize("detail", [b"\xc1", b"\xa1x", b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"])
def test_a_hostile_time_to_come_back_is_ignored(detail: bytes) -> None:
    received = ErrorRegistry().from_failure(Failure("overloaded", "", detail=detail))
    assert isinstance(received, Overloaded)
    assert received.retry_after_s is None
