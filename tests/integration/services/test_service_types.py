"""Values of each type, as an argument and as a result, arrive as what they were."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from service_place import Place

from coterie.errors import InvalidArgument, Outcome, RemoteError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GOOD = "good"


class Flags(enum.IntFlag):
    A = 1
    B = 2


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@dataclass
class Tree:
    value: Decimal
    children: list[Tree] = field(default_factory=list)
    at: datetime | None = None


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


class Compact(msgspec.Struct, array_like=True, frozen=True):
    a: int
    b: frozenset[str] = frozenset()


class Address(pydantic.BaseModel):
    street: str
    opened: datetime
    price: Decimal
    tags: set[str] = set()
    key: UUID | None = None
    lasts: timedelta = timedelta(0)


class Customer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)

    name: Annotated[str, pydantic.Field(min_length=1, alias="fullName")]
    addresses: list[Address] = []


@dataclass
class Parcel:
    """A dataclass with a pydantic model in it."""

    to: Address
    points: tuple[Point, ...]


class Options(TypedDict, total=False):
    dry: bool
    limit: int


class Pair(NamedTuple):
    key: str
    value: int = 0


KEY = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 2, 28, 12, 30, 1, 250, tzinfo=UTC)
THERE = datetime(1999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-5)))
ADDRESS = Address(street="a", opened=NOON, price=Decimal("1.10"), tags={"x"}, key=KEY, lasts=timedelta(1, 2))

CASES: list[tuple[Any, list[Any]]] = [
    (None, [None]),
    (bool, [True, False]),
    (int, [0, -1, 2**63 - 1, -(2**63), 2**64 - 1]),
    (float, [0.0, -1.5, float("inf"), 1e-300]),
    (str, ["", "a", "ü€😀\x00\n", "x" * 100_000]),
    (bytes, [b"", b"\x00\xff" * 50_000]),
    (bytearray, [bytearray(b"ab")]),
    (datetime, [NOON, THERE, datetime(2026, 1, 1), datetime(1, 1, 1, tzinfo=UTC)]),  # noqa: DTZ001
    (date, [date(2026, 2, 28)]),
    (time, [time(1, 2, 3, 4), time(1, tzinfo=UTC)]),
    (timedelta, [timedelta(0), timedelta(days=-3, microseconds=1), timedelta(days=400)]),
    (UUID, [KEY]),
    (Decimal, [Decimal("0.10"), Decimal("-1E+30"), Decimal("12345678901234567890.123456789")]),
    (Colour, list(Colour)),
    (Level, list(Level)),
    (Mood, list(Mood)),
    (Flags, [Flags.A, Flags.A | Flags.B, Flags(0)]),
    (Literal["a", "b"], ["a", "b"]),
    (list[int], [[], [1, 2, 3]]),
    (list[list[str]], [[["a"], []]]),
    (tuple[int, str], [(1, "a")]),
    (tuple[Point, ...], [(), (Point(1), Point(2))]),
    (set[int], [set(), {1, 2}]),
    (frozenset[UUID], [frozenset({KEY})]),
    (dict[str, int], [{}, {"a": 1}]),
    (dict[int, list[Point]], [{1: [Point(1, 2)]}]),
    (dict[UUID, Decimal], [{KEY: Decimal("0.1")}]),
    (Optional[int], [None, 1]),  # noqa: UP045 - the old spelling must work as well
    (int | str | None, [None, 1, "a"]),
    (list[int] | dict[str, int], [[1], {"a": 1}]),
    (Point, [Point(1), Point(-1, 2)]),
    (Point | None, [None, Point(1)]),
    (Tree, [Tree(Decimal(1), [Tree(Decimal("0.2")), Tree(Decimal(3), at=NOON)])]),
    (Circle, [Circle(1.5)]),
    (Circle | Square, [Circle(1.5), Square(2.0)]),
    (Compact, [Compact(1), Compact(2, frozenset({"a"}))]),
    (Address, [ADDRESS]),
    (Customer, [Customer(name="a", addresses=[ADDRESS])]),
    (list[Address], [[], [ADDRESS]]),
    (dict[str, Customer], [{"a": Customer(name="b")}]),
    (Address | None, [None, ADDRESS]),
    (Parcel, [Parcel(ADDRESS, (Point(1),))]),
    (Options, [{}, {"dry": True, "limit": 3}]),
    (Pair, [Pair("a"), Pair("b", 2)]),
    (Annotated[int, msgspec.Meta(ge=1)], [1, 5]),
    (Any, [None, 1, "a", b"b", [1, {"a": [None]}]]),
]


def echo_of(tp: Any) -> Any:
    """Return an instance of a service that echoes values of type `tp`, one by one and as a stream."""

    async def echo(self: object, value: Any) -> Any:
        return value

    async def twice(self: object, value: Any) -> AsyncIterator[Any]:
        yield value
        yield value

    echo.__annotations__ = {"value": tp, "return": tp}
    twice.__annotations__ = {"value": tp, "return": AsyncIterator[tp]}
    return type("Echo", (), {"echo": echo, "twice": twice})()


@pytest.mark.parametrize(("tp", "values"), CASES, ids=lambda case: None if type(case) is list else str(case))
async def test_values_arrive_as_they_were(place: Place, tp: Any, values: list[Any]) -> None:
    echo = await place.serve(echo_of(tp))
    for value in values:
        for arrived in (await echo.echo(value), await echo.echo(value=value)):
            assert arrived == value
            assert type(arrived) is type(value)
        assert [item async for item in echo.twice(value)] == [value, value]


class Bag:
    """Keeps what it was given, to see who else holds it."""

    def __init__(self) -> None:
        self.kept: list[Tree] = []

    async def keep(self, tree: Tree) -> Tree:
        self.kept.append(tree)
        return tree

    async def all(self) -> AsyncIterator[Tree]:
        for tree in self.kept:
            yield tree


async def test_caller_and_service_share_nothing_that_can_change(place: Place) -> None:
    bag = Bag()
    client = await place.serve(bag)
    mine = Tree(Decimal(1))
    theirs = await client.keep(mine)
    streamed = [item async for item in client.all()]
    mine.children.append(Tree(Decimal(2)))
    theirs.children.append(Tree(Decimal(3)))
    streamed[0].children.append(Tree(Decimal(4)))
    assert bag.kept == [Tree(Decimal(1))]


class Defaults:
    async def call(self, a: int, b: str = "b", *, c: list[int] = [1], d: Point | None = None) -> str:  # noqa: B006
        c.append(9)
        return f"{a} {b} {c} {d}"


async def test_arguments_by_position_by_name_and_by_default(place: Place) -> None:
    client = await place.serve(Defaults())
    assert await client.call(1) == "1 b [1, 9] None"
    assert await client.call(1) == "1 b [1, 9] None"
    assert await client.call(a=2, c=[]) == "2 b [9] None"
    assert await client.call(3, "x", d=Point(1), c=[5]) == "3 x [5, 9] Point(x=1, y=0)"


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "Defaults.call: missing required argument 'a'"),
        (("one",), {}, "Defaults.call: parameter `a`: expected `int`, got `str`"),
        ((1, 2), {}, "Defaults.call: parameter `b`: expected `str`, got `int`"),
        ((1,), {"c": [1, "x"]}, "Defaults.call: parameter `c[1]`: expected `int`, got `str`"),
        ((1,), {"d": {"x": "y"}}, "Defaults.call: parameter `d.x`: expected `int`, got `str`"),
        ((1,), {"e": 1}, "Defaults.call: unexpected keyword argument 'e'"),
        ((1,), {"a": 1}, "Defaults.call: argument 'a' given by name and position"),
        ((1, "b", [], None, 5), {}, "Defaults.call: extra positional arguments provided"),
        ((object(),), {}, "Defaults.call: parameter `a`: a value of type object cannot be sent"),
        ((1,), {"c": [object()]}, "Defaults.call: parameter `c`: a value of type object cannot be sent"),
        ((2**70,), {}, "Defaults.call: parameter `a`: "),
        ((1, "\udcff"), {}, "Defaults.call: parameter `b`: "),
    ],
)
async def test_wrong_arguments_say_which_and_what_was_expected(
    place: Place, args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    client: Any = await place.serve(Defaults())
    with pytest.raises(InvalidArgument) as caught:
        await client.call(*args, **kwargs)
    assert says in str(caught.value)


class Immutable:
    """Takes and returns only what cannot change, of which nothing is copied in process."""

    async def exceed(self, number: int, name: str = "") -> int:
        return number * 2

    async def name(self, name: str) -> str:
        return name + "\udcff"


async def test_what_cannot_be_sent_is_refused_in_process_as_well(place: Place) -> None:
    client = await place.serve(Immutable())
    assert await client.exceed(2**63 - 1) == 2**64 - 2
    with pytest.raises(InvalidArgument, match=r"Immutable\.exceed: parameter `number`: "):
        await client.exceed(2**64)
    with pytest.raises(InvalidArgument, match=r"Immutable\.exceed: parameter `name`: "):
        await client.exceed(1, "\udcff")
    with pytest.raises(RemoteError) as exceeded:
        await client.exceed(2**63)
    assert (exceeded.value.type_name, exceeded.value.outcome) == ("OverflowError", Outcome.UNKNOWN)
    with pytest.raises(RemoteError) as named:
        await client.name("a")
    assert named.value.type_name == "UnicodeEncodeError"
