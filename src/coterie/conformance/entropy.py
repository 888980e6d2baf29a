"""The conformance suite of the `Entropy` port. The fixture is the source itself.

Entropy may be seeded, so a check may not rely on luck: the bounds are so wide that an honest source
misses one with a probability below one in a billion.
"""

from __future__ import annotations

import sys
from collections import Counter

from ..ports.entropy import Entropy
from ._expect import expect, expect_equal
from .suite import Suite, check

__all__ = ["EntropySuite"]

_CROCKFORD = set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


@check
async def random_is_even(entropy: Entropy) -> None:
    """`random` returns floats in [0, 1), spread evenly."""
    draws = [entropy.random() for _ in range(10_000)]
    expect(all(0 <= draw < 1 for draw in draws), f"the draws reach from {min(draws)} to {max(draws)}")
    for tenth, count in Counter(int(draw * 10) for draw in draws).items():
        expect(780 <= count <= 1220, f"{count} of 10,000 draws are between 0.{tenth} and 0.{tenth + 1}")
    expect(len(set(draws)) > 9_900, f"only {len(set(draws))} of 10,000 draws differ")


@check
async def randbelow_stays_below(entropy: Entropy) -> None:
    """`randbelow` returns every int from 0 to below its bound, evenly; bounds may be large."""
    expect_equal({entropy.randbelow(1) for _ in range(100)}, {0}, "the draws below 1")
    counts = Counter(entropy.randbelow(6) for _ in range(6000))
    expect_equal(set(counts), set(range(6)), "the draws below 6")
    expect(all(780 <= count <= 1220 for count in counts.values()), f"6000 draws below 6 are {dict(counts)}")
    large = [entropy.randbelow(2**100) for _ in range(100)]
    expect(all(0 <= draw < 2**100 for draw in large), "a draw is out of its bound")
    expect(max(large) > 2**93, "draws below a large bound are all small")


@check
async def identifiers_never_repeat(entropy: Entropy) -> None:
    """Each identifier is 26 characters of Crockford's base 32, and no two are the same."""
    identifiers = [entropy.identifier() for _ in range(20_000)]
    expect_equal({len(identifier) for identifier in identifiers}, {26}, "the lengths")
    strange = set("".join(identifiers)) - _CROCKFORD
    expect_equal(strange, set(), "the characters that are not of the alphabet")
    expect_equal(len(set(identifiers)), len(identifiers), "how many of them differ")


@check
async def secrets_have_their_length(entropy: Entropy) -> None:
    """`secret` returns as many bytes as were asked for, and never the same ones."""
    for length in (1, 16, 32, 1000):
        expect_equal(len(entropy.secret(length)), length, "the length")
    secrets = {entropy.secret(16) for _ in range(1000)}
    expect_equal(len(secrets), 1000, "how many of 1000 secrets differ")
    ones = sum(byte.bit_count() for secret in secrets for byte in secret)
    expect(62_800 <= ones <= 65_200, f"{ones} of 128,000 bits are ones")


class EntropySuite(Suite[Entropy]):
    """Every promise of `coterie.ports.entropy`."""

    port = "entropy"

    def __init__(self) -> None:
        super().__init__((sys.modules[__name__],))
