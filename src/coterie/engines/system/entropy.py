"""The operating system's randomness."""

from __future__ import annotations

import random
import secrets
import time

__all__ = ["SystemEntropy"]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U


class SystemEntropy:
    """`Entropy` from the operating system; `random` and `randbelow` from a generator that it seeds."""

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - jitter and choice, as the port says; secrets come from `secrets`

    def random(self) -> float:
        return self._random.random()

    def randbelow(self, bound: int) -> int:
        return self._random.randrange(bound)

    def identifier(self) -> str:
        number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
        return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))

    def secret(self, length: int) -> bytes:
        return secrets.token_bytes(length)
