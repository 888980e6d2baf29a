"""What checks are written with. `assert` would vanish under `python -O`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from ..errors import CoterieError, Outcome

__all__ = ["Violation", "background", "eventually", "expect", "expect_equal", "raises", "settle"]

T = TypeVar("T")
_POLL_S = 0.005


class Violation(AssertionError):
    """A promise is broken. The message says how."""


def expect(condition: object, message: str) -> None:
    """Raise `Violation` unless `condition` is true."""
    if not condition:
        raise Violation(message)


def expect_equal(actual: object, wanted: object, what: str) -> None:
    """Raise `Violation` unless the two are equal."""
    if actual != wanted:
        raise Violation(f"{what} is {_short(actual)}, not {_short(wanted)}")


@contextmanager
def raises(
    error: type[CoterieError], outcome: Outcome | None = None, *, what: str = "the call"
) -> Iterator[None]:
    """Demand that the block raises `error`, with `outcome` if one is given."""
    try:
        yield
    except error as raised:
        if outcome is not None and raised.outcome is not outcome:
            raise Violation(
                f"{what} raised {error.__name__} with the outcome {raised.outcome}, not {outcome}"
            ) from raised
        return
    except CoterieError as raised:
        raise Violation(f"{what} raised {type(raised).__name__}, not {error.__name__}") from raised
    raise Violation(f"{what} did not raise {error.__name__}")


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, *, within_s: float = 15.0) -> None:
    """Wait until `condition` holds; the time only bounds a hang and is no promise of speed."""
    try:
        async with asyncio.timeout(within_s):
            while not await condition():  # noqa: ASYNC110 - any engine can be polled; not all can notify
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise Violation(f"{what}: not so even after {within_s} s") from None


async def settle(measure: Callable[[], int], *, quiet_s: float = 0.15) -> int:
    """Return `measure()` once it has stayed the same for `quiet_s`."""
    loop = asyncio.get_running_loop()
    value, since = measure(), loop.time()
    while loop.time() - since < quiet_s:
        await asyncio.sleep(_POLL_S)
        if (now := measure()) != value:
            value, since = now, loop.time()
    return value


@asynccontextmanager
async def background(coroutine: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Run `coroutine` beside the block, and cancel it at the end if it still runs."""
    task = asyncio.ensure_future(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
