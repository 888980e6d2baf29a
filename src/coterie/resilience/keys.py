"""The idempotency key of the calls that are made within a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..context import CURRENT, Call, current
from ..errors import InvalidArgument

__all__ = ["MAX_KEY", "check_key", "idempotency_key"]

MAX_KEY = 255
"""The longest idempotency key, in characters."""


def check_key(key: object) -> str:
    """Return `key` if it is one; raise `InvalidArgument`."""
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or not key.isprintable():
        shown = f"{key[:40]!r}" if isinstance(key, str) else repr(key)
        raise InvalidArgument(f"an idempotency key has 1 to {MAX_KEY} printable characters, unlike {shown}")
    return key


@contextmanager
def idempotency_key(key: str) -> Iterator[None]:
    """Give the calls made within this block the idempotency key `key`.

    Of each `@idempotent` method, all calls with the same key have one effect and the first reply, from
    wherever they come, until the retention of the reply is over. Other methods take no notice. Code that
    the calls lead to has keys of its own.
    """
    here = current()
    token = CURRENT.set(Call(here.node, here.bindings, here.deadline, here.metadata, check_key(key)))
    try:
        yield
    finally:
        CURRENT.reset(token)
