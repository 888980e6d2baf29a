"""What a service may declare, and what its author is told when it may not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest

from coterie.errors import InvalidArgument, InvalidConfiguration
from coterie.services import describe


@dataclass
class Item:
    sku: str
    tags: list[str]


class Good:
    """A service with one method of each kind."""

    limit: int = 3

    async def plain(self, item: Item, count: int = 1, *, note: str | None = None) -> bool:
        """Say whether."""
        return True

    async def nothing(self) -> None: ...

    async def stream(self, count: int) -> AsyncIterator[Item]:
        yield Item("", [])

    async def generator(self) -> AsyncGenerator[int, None]:
        yield 1

    async def _private(self, anything: object) -> object:
        return anything

    @staticmethod
    def helper(anything: object) -> object:
        return anything

    @property
    def size(self) -> int:
        return 1


class Inherited(Good):
    async def more(self) -> int:
        return 1


def test_public_async_methods_are_the_service() -> None:
    spec = describe(Good)
    assert spec.name == "Good"
    assert spec.doc == "A service with one method of each kind."
    assert {name: (m.streaming, m.returns) for name, m in spec.methods.items()} == {
        "plain": (False, bool),
        "nothing": (False, None),
        "stream": (True, Item),
        "generator": (True, int),
    }
    plain = spec.methods["plain"]
    assert plain.target == "Good.plain"
    assert plain.doc == "Say whether."
    assert [(p.name, p.required) for p in plain.parameters] == [
        ("item", True),
        ("count", False),
        ("note", False),
    ]


def test_inherited_methods_belong_to_the_service() -> None:
    assert {"plain", "stream", "more"} <= set(describe(Inherited).methods)


def test_it_may_have_another_name() -> None:
    assert describe(Good, "Shop").methods["plain"].target == "Shop.plain"


class Unannotated:
    async def f(self, x) -> int:  # type: ignore[no-untyped-def]
        return 1


class Star:
    async def f(self, *xs: int) -> int:
        return 1


class StarStar:
    async def f(self, **xs: int) -> int:
        return 1


class PositionalOnly:
    async def f(self, x: int, /) -> int:
        return 1


class Sync:
    def f(self, x: int) -> int:
        return x


class NoSelf:
    async def f() -> int:  # type: ignore[misc]
        return 1


class OnlyKeywords:
    async def f(*, x: int) -> int:  # type: ignore[misc]
        return 1


class Empty:
    pass


class Unresolved:
    async def f(self, x: Nope) -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1


class AnyObject:
    async def f(self, x: int, y: object) -> int:
        return 1


class Deep:
    async def f(self, x: dict[str, list[Callable[[int], int]]]) -> int:
        return 1


class ResultObject:
    async def f(self) -> object:
        return 1


class DefaultsFirst:
    async def f(self, *, x: int = 1, y: int) -> int:
        return 1


class NoYield:
    async def f(self) -> AsyncIterator[int]: ...


class NoStream:
    async def f(self) -> int:  # type: ignore[misc]
        yield 1


class WrongDefault:
    async def f(self, x: int = "one") -> int:  # type: ignore[assignment]
        return 1


class NoneDefault:
    async def f(self, x: int = None) -> int:  # type: ignore[assignment]  # noqa: RUF013
        return 1


class TwoTexts:
    async def f(self, x: str | bytes) -> int:
        return 1


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (Unannotated, "Unannotated.f: the parameter 'x' has no type annotation"),
        (Star, "Star.f: the parameter *xs: 'int' has no fixed name; name each one"),
        (StarStar, "StarStar.f: the parameter **xs: 'int' has no fixed name; name each one"),
        (PositionalOnly, "PositionalOnly.f: the parameter x: 'int' has no fixed name; name each one"),
        (Sync, "Sync.f is not `async def` (make it async, or rename it with a leading underscore"),
        (NoSelf, "NoSelf.f takes no `self` (make it a method"),
        (OnlyKeywords, "OnlyKeywords.f takes no `self` (make it a method"),
        (Empty, "the service Empty has no public method (add one:"),
        (Unresolved, "an annotation of Unresolved.f cannot be resolved: name 'Nope' is not defined"),
        (AnyObject, "AnyObject.f(x: int, y: object) -> int: values of type object cannot be sent"),
        (Deep, "values of type Callable cannot be sent or stored (use a dataclass"),
        (ResultObject, "ResultObject.f() -> object: values of type object cannot be sent"),
        (DefaultsFirst, "DefaultsFirst.f: the parameter 'y' has no default, but one before it has"),
        (NoYield, "NoYield.f says that it returns a stream, but has no `yield`"),
        (NoStream, "NoStream.f yields items, but says that it returns int (annotate it"),
        (WrongDefault, "the default of `x` is not a valid int: Expected `int`, got `str`"),
        (NoneDefault, "the default of `x` is not a valid int: Expected `int`, got `None`"),
        (TwoTexts, "values of type str | bytes cannot be sent or stored: Type unions may not contain more"),
        (3, "a service must be a class, not 3"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_declaration_is_refused_at_once(cls: Any, says: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        describe(cls)
    assert says in str(caught.value)


def test_a_stream_may_leave_the_type_of_its_items_open() -> None:
    class Open:
        async def f(self) -> AsyncIterator:  # type: ignore[type-arg]
            yield 1

    assert describe(Open).methods["f"].returns is Any


class Limits:
    async def f(self, count: Annotated[int, msgspec.Meta(gt=0)], names: list[str] | None = None) -> int:
        return count


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "Limits.f: missing parameter: count"),
        (["a"], "Limits.f: parameter `count`: expected `int`, got `str`"),
        ([0], "Limits.f: parameter `count`: expected `int` >= 1"),
        ([1, ["a", 2]], "Limits.f: parameter `names[1]`: expected `str`, got `int`"),
        ({"count": 1}, "Limits.f: expected `array`, got `object`"),
        (None, "Limits.f: expected `array`, got `None`"),
    ],
)
def test_wrong_arguments_are_named(body: object, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        describe(Limits).methods["f"].decode_arguments(msgspec.msgpack.encode(body))
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "Limits.f: object missing required field `count`"),
        ('{"count": "a"}', "Limits.f: expected `int`, got `str` at parameter `count`"),
        ('{"count": 1, "names": [1]}', "Limits.f: expected `str`, got `int` at parameter `names[0]`"),
        ('{"count": 1, "nmes": []}', "Limits.f: object contains unknown field `nmes`"),
        ("[1]", "Limits.f: expected `object`, got `array`"),
        ("{", "Limits.f: input data was truncated"),
    ],
)
def test_wrong_json_arguments_are_named(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        describe(Limits).methods["f"].decode_named(text)
    takes = "(count: Annotated[int, msgspec.Meta(gt=0)], names: list[str] | None)"
    assert str(caught.value) == f"{says} (it takes {takes})"


class Defaults:
    async def f(self, items: list[list[int]] = [[1]], item: Item = Item("a", [])) -> None:  # noqa: B006, B008
        ...


def test_a_mutable_default_is_not_shared_by_calls() -> None:
    method = describe(Defaults).methods["f"]
    for _ in range(2):
        arguments = method.decode_named("{}")
        assert arguments.items == [[1]]
        assert arguments.item == Item("a", [])
        arguments.items[0].append(2)
        arguments.item.tags.append("changed")
