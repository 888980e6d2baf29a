from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from coterie import errors
from coterie.errors import CoterieError, InvalidArgument, Outcome, Unavailable
from coterie.gateway.problems import argument_fault, problem_of
from coterie.services.registry import ErrorRegistry
from coterie.services.spec import describe

NONE_DECLARED = ErrorRegistry()


@dataclass
class Item:
    name: str
    parts: dict[str, list[int]]


class Store:
    async def put(self, item: Item, count: int = 1) -> None: ...


PUT = describe(Store).methods["put"]


@pytest.mark.parametrize(
    "cls", [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, CoterieError)]
)
def test_every_error_has_a_problem_or_is_internal(cls: type[CoterieError]) -> None:
    internal = {
        "error",
        "invalid_configuration",
        "unsupported",
        "protocol_error",
        "corrupt_data",
        "remote_error",
    }
    found = problem_of(cls("what was wrong", hint="what to do"), NONE_DECLARED)
    if cls.code in internal:
        assert found is None
        return
    assert found is not None
    problem, _ = found
    assert 400 <= problem.status < 600
    assert (problem.code, problem.detail, problem.hint) == (cls.code, "what was wrong", "what to do")
    assert problem.outcome == cls.default_outcome.value


def test_the_outcome_is_that_of_the_instance() -> None:
    found = problem_of(Unavailable("x", outcome=Outcome.NOT_APPLIED), NONE_DECLARED)
    assert found is not None
    assert found[0].outcome == "not_applied"


def test_a_declared_error_goes_before_its_built_in_base() -> None:
    class BadSku(InvalidArgument):
        pass

    declared = ErrorRegistry()
    declared.register(BadSku, status=422)
    found = problem_of(BadSku("no such sku", hint="look it up"), declared)
    assert found is not None
    problem, _ = found
    assert (problem.status, problem.code, problem.title) == (422, "BadSku", "Bad sku")
    assert (problem.detail, problem.hint, problem.outcome) == ("no such sku", "look it up", "not_applied")


@pytest.mark.parametrize(
    ("body", "parameter", "pointer", "said"),
    [
        (b"{}", "item", "#/item", "the parameter `item` is missing"),
        (b'{"itm": 1}', "itm", "#/itm", "there is no parameter `itm`"),
        (b'{"item": {"name": "x"}}', "item", "#/item/parts", "Object missing required field `parts`"),
        (b'{"item": {"name": "x", "parts": {"a/b": ["z"]}}}', "item", "#/item/parts/-/0", "Expected `int`"),
        (b'{"item": 1}', "item", "#/item", "Expected `object`, got `int`"),
        (b"1", "", "#", "Expected `object`, got `int`"),
    ],
)
def test_a_fault_says_where_and_what(body: bytes, parameter: str, pointer: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        PUT.arguments_json.decode_json(body)
    cause = caught.value.__cause__
    assert isinstance(cause, msgspec.ValidationError)
    fault = argument_fault(PUT, cause)
    assert (fault.parameter, fault.pointer) == (parameter, pointer)
    assert said in fault.message
