"""The tape: every choice that a universe leaves to chance, labelled, repeatable and editable.

A tape is a set of independent streams, one for each label ("link/a>b", "fault/3", ...). A stream is
a sequence of fractions in [0, 1); whoever draws maps a fraction onto its own domain, so any fraction
is legal anywhere and an edited tape never fails to replay. A draw may also be *calm*: then it takes
the choice that disturbs least (no loss, the shortest latency, no fault), which is what shrinking
moves towards. Streams do not share a generator, so editing one leaves the draws of all others as
they were, the idea of splittable generators (Claessen and Pałka, 2013) put to the use that
Hypothesis makes of its choice sequence (MacIver and Donaldson, "Test-Case Reduction via Test-Case
Generation", 2020).

    tape = Tape(7)
    link = tape.stream("link/a>b")
    latency_s = link.uniform(0.001, 0.010, calm=0.001)

    calmer = Tape(7, Edits({"link/*": Edit()}))         # every link calm, the rest as before
    again = Tape.recorded(tape.values())                # from a recording (`keep=True`)
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import InvalidArgument

__all__ = ["Edit", "Edits", "Stream", "Tape"]

T = TypeVar("T")

_FOREVER = 1 << 62
_SHOWN = 60
"""How much is shown of a text that is refused."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is changed in one stream: calm from the draw `calm_from` on, and single draws by index.

    `values` maps the index of a draw to a fraction in [0, 1), or to None for a calm draw; it has
    precedence over `calm_from`. `Edit()` makes the whole stream calm.
    """

    calm_from: int | None = 0
    values: Mapping[int, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.calm_from is not None and self.calm_from < 0:
            raise InvalidArgument(f"calm_from must be None or at least 0, not {self.calm_from}")
        for index, value in self.values.items():
            if index < 0 or not (value is None or 0.0 <= value < 1.0):
                raise InvalidArgument(f"the draw {index} must be None or in [0, 1), not {value!r}")


class Edits:
    """Edits by label. A label that ends with `*` stands for all that begin so; the longest match wins."""

    def __init__(self, edits: Mapping[str, Edit] | None = None) -> None:
        self._edits: dict[str, Edit] = dict(edits or {})
        self._prefixes = sorted((key[:-1] for key in self._edits if key.endswith("*")), key=len, reverse=True)

    def __len__(self) -> int:
        return len(self._edits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edits) and self._edits == other._edits

    def __hash__(self) -> int:
        return hash(frozenset(self._edits))

    def __repr__(self) -> str:
        return f"Edits({self._edits!r})"

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._edits)

    def find(self, label: str) -> Edit | None:
        """Return the edit that applies to `label`."""
        found = self._edits.get(label)
        if found is not None:
            return found
        for prefix in self._prefixes:
            if label.startswith(prefix):
                return self._edits[prefix + "*"]
        return None

    def calm(self, labels: Iterable[str]) -> Edits:
        """Return these edits with the streams of `labels` calm as well."""
        return Edits({**self._edits, **{label: Edit() for label in labels}})

    def with_edit(self, label: str, edit: Edit) -> Edits:
        """Return these edits with `edit` for `label`."""
        return Edits({**self._edits, label: edit})

    def to_json(self) -> str:
        """Return one line that `from_json` reads; short enough for a command line."""
        plain: dict[str, Any] = {}
        for label, edit in sorted(self._edits.items()):
            values = {str(index): value for index, value in sorted(edit.values.items())}
            plain[label] = [edit.calm_from, values] if values else edit.calm_from
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Edits:
        """Raise `InvalidArgument` when `text` is not what `to_json` writes."""
        try:
            edits = {}
            for label, plain in json.loads(text).items():
                calm_from, values = plain if isinstance(plain, list) else (plain, {})
                if not isinstance(calm_from, int | None):
                    raise TypeError(f"{label!r} is calm from {calm_from!r}")
                edits[label] = Edit(calm_from, {int(index): value for index, value in values.items()})
        except (AttributeError, TypeError, ValueError) as error:
            short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            raise InvalidArgument(f"{short!r} holds no edits of a tape: {error}") from error
        return cls(edits)


class Stream:
    """The draws of one label. Each method makes one draw and names its calm choice."""

    __slots__ = ("_calm_from", "_edited", "_fraction", "_kept", "_random", "_recording", "drawn", "label")

    def __init__(
        self,
        label: str,
        seed: int | None,
        edit: Edit | None,
        recording: Sequence[float | None] | None,
        keep: bool,
    ) -> None:
        self.label: str = label
        self.drawn: int = 0
        """How many draws were made; counted only when the stream is edited, recorded or replayed."""
        self._random = random.Random(f"{seed}/{label}").random  # noqa: S311 - repeatable is the point
        self._recording = recording
        self._edited: Mapping[int, float | None] = edit.values if edit is not None else {}
        self._calm_from = edit.calm_from if edit is not None and edit.calm_from is not None else _FOREVER
        self._kept: list[float | None] | None = [] if keep else None
        plain = edit is None and recording is None and not keep
        self._fraction = self._random if plain else self._next

    def _next(self) -> float | None:
        index = self.drawn
        self.drawn = index + 1
        fresh: float | None
        if self._recording is None:
            fresh = self._random()  # drawn even when it is edited away, so that later draws stay
        else:
            fresh = self._recording[index] if index < len(self._recording) else None
        if index in self._edited:
            fresh = self._edited[index]
        elif index >= self._calm_from:
            fresh = None
        if self._kept is not None:
            self._kept.append(fresh)
        return fresh

    def fraction(self) -> float | None:
        """Return the next draw itself: a fraction in [0, 1), or None when it is calm."""
        return self._fraction()

    def uniform(self, low: float, high: float, *, calm: float | None = None) -> float:
        """Return a float in [low, high); calm is `calm`, or `low`."""
        fraction = self._fraction()
        if fraction is None:
            return low if calm is None else calm
        return low + (high - low) * fraction

    def spread(self, low: float, high: float, *, calm: float | None = None) -> float:
        """Return a float in [low, high), each order of magnitude as likely as another; `low` > 0."""
        fraction = self._fraction()
        if fraction is None:
            return low if calm is None else calm
        return low * math.exp(math.log(high / low) * fraction)

    def exponential(self, mean: float, *, calm: float = 0.0) -> float:
        """Return a float from 0 on with this mean."""
        fraction = self._fraction()
        return calm if fraction is None else -mean * math.log(1.0 - fraction)

    def chance(self, probability: float) -> bool:
        """Return True with this probability; calm is False."""
        fraction = self._fraction()
        return fraction is not None and fraction < probability

    def below(self, bound: int, *, calm: int = 0) -> int:
        """Return an int in [0, bound)."""
        fraction = self._fraction()
        return calm if fraction is None else int(fraction * bound)

    def choose(self, options: Sequence[T]) -> T:
        """Return one of `options`; calm is the first."""
        return options[self.below(len(options))]

    def seed(self) -> int:
        """Return an int in [0, 2**53) to seed another generator with; calm is 0."""
        return self.below(1 << 53)


class Tape:
    """All streams of one universe. `seed` and `edits` determine every draw of every label.

    With `keep` each draw is recorded for `values`, which costs memory; without it a tape holds
    nothing but one generator a label.
    """

    def __init__(self, seed: int, edits: Edits | None = None, *, keep: bool = False) -> None:
        self.seed: int | None = seed
        self.edits: Edits = edits or Edits()
        self._keep = keep
        self._recorded: Mapping[str, Sequence[float | None]] | None = None
        self._streams: dict[str, Stream] = {}

    @classmethod
    def recorded(
        cls, values: Mapping[str, Sequence[float | None]], edits: Edits | None = None, *, keep: bool = False
    ) -> Tape:
        """Return a tape that plays `values` by label; what it does not hold is calm."""
        tape = cls(0, edits, keep=keep)
        tape.seed = None
        tape._recorded = values
        return tape

    def stream(self, label: str) -> Stream:
        """Return the stream of `label`, the same one at each call."""
        found = self._streams.get(label)
        if found is None:
            recording = None if self._recorded is None else self._recorded.get(label, ())
            found = Stream(label, self.seed, self.edits.find(label), recording, self._keep)
            self._streams[label] = found
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels drawn from, in the order of their first use."""
        return tuple(self._streams)

    def values(self) -> dict[str, list[float | None]]:
        """Return what was drawn, by label; needs `keep=True`."""
        if not self._keep:
            raise InvalidArgument("this tape was not recorded: make it with keep=True")
        return {label: list(stream._kept or ()) for label, stream in self._streams.items()}  # noqa: SLF001
