"""The `Entropy` port: all randomness and all identifiers come from here."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Entropy"]


class Entropy(Protocol):
    def random(self) -> float:
        """Return a float in [0, 1), for jitter and choice. Not for secrets."""
        ...

    def randbelow(self, bound: int) -> int:
        """Return an int in [0, bound); `bound` is at least 1. Not for secrets."""
        ...

    def identifier(self) -> str:
        """Return 26 characters that no other call returns (130 bits, base 32, sorted by wall time).

        The shape of a ULID: 48 bits of milliseconds and 80 random bits. Sorting is a convenience for
        people; nothing may rely on it.
        """
        ...

    def secret(self, length: int) -> bytes:
        """Return `length` bytes fit for keys and nonces."""
        ...
