"""Holds what rate limits let through to what they promise. Pure.

In any time, the units that pass under one key are at most

* what the hosts have at its beginning: each what it has left over, which is less than the most that one
  call asks for, and one batch, also if that is still on its way from the Store; and
* what the Store gives to those who look at their clocks within it. By GCRA that is the burst, and what is
  earned between the first look and the last: the time, and as much as their clocks are apart.

Who looks at a clock that is more than a minute behind the one before it does not believe the Store, and gives
a burst away. So nothing is said of a time in which clocks were that far apart; but all is said of a time in
which they were not, whatever had been before.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...resilience import Rate
from ..environment import Stretch
from .broken import Broken
from .evidence import Passed, Rated
from .notebook import Notebook

__all__ = ["judge_rates", "not_judged"]

_AGREE_S = 60.0
"""Clocks that are further apart than this are not judged; `resilience.rate` forgives as much."""
_ROUNDING_S = 2.5e-7
"""By how much a time is wrong that is written as seconds since 1970, in binary with 53 digits."""
_LEASE_S = 60.0
"""The Store has the record of a key for as long as the burst is earned in, and no shorter than this."""
_DRIFT = 0.03
"""By how much clocks that drift may make that shorter: both the node's and the engine's count twice."""
_SHOWN = 16
"""How many of the units that were too many are shown as the witness."""


def judge_rates(notebook: Notebook) -> Iterator[Broken]:
    """Yield each time in which a rate limit let too much through."""
    for (name, key), rated in notebook.rated.items():
        for period in _periods(notebook.clocks, rated):
            span = period.first_excess() if period.spread_s <= _AGREE_S else None
            if span is not None:
                yield _broken(name, key, period, span)
                break


def not_judged(notebook: Notebook) -> list[str]:
    """Return the rate limits that let something through while clocks were too far apart."""
    return sorted(
        {
            name
            for (name, _), rated in notebook.rated.items()
            for period in _periods(notebook.clocks, rated)[1:]
            if period.passed and period.spread_s > _AGREE_S
        }
    )


@dataclass(slots=True, frozen=True)
class _Period:
    """What passed under a key in a time in which clocks were at most `spread_s` apart."""

    rated: Rated
    passed: Sequence[Passed]
    spread_s: float

    def most(self, span_s: float) -> float:
        """Return how many units may pass within `span_s` seconds."""
        return self._at_once() + self._per_s() * span_s

    def first_excess(self) -> Sequence[Passed] | None:
        """Return the shortest time with too many units, of those that end first; None if there is none."""
        at_once, per_s = self._at_once(), self._per_s()
        # What has passed before, less what was earned until then: the lowest of all beginnings decides.
        before, lowest = 0, math.inf
        for end, last in enumerate(self.passed):
            lowest = min(lowest, before - per_s * _time_s(last))
            before += last.units
            if before - per_s * _time_s(last) - lowest > at_once:
                return self._shortest(end)
        return None

    def _shortest(self, end: int) -> Sequence[Passed]:
        units = 0
        for begin in range(end, -1, -1):
            units += self.passed[begin].units
            if units > self.most(_time_s(self.passed[end]) - _time_s(self.passed[begin])):
                break
        return self.passed[begin : end + 1]

    def held(self) -> int:
        """Return how many units hosts may have at one time that they have not spent."""
        rate, most = self.rated.rate, self.rated.most
        return len(self.rated.hosts) * (max(most, rate.burst // 4) + most - 1)

    def _at_once(self) -> float:
        rate = self.rated.rate
        unsure_s = self.spread_s + _ROUNDING_S * len(self.passed)
        return rate.burst + self.held() + unsure_s / rate.interval_s + 1

    def _per_s(self) -> float:
        """Return the rate, and what is given again when the Store forgets a record too early."""
        rate = self.rated.rate
        burst_s = rate.interval_s * rate.burst
        if burst_s + self.spread_s < (1 - _DRIFT) * _LEASE_S:
            return 1 / rate.interval_s
        kept_s = max(burst_s, _LEASE_S)
        again = (self.spread_s + _DRIFT * kept_s) / ((1 - _DRIFT) * kept_s)
        return (1 + again) / rate.interval_s


def _time_s(passed: Passed) -> float:
    return (passed.noted.end_ns or 0) / 1e9


def _periods(clocks: Mapping[str, Sequence[Stretch]], rated: Rated) -> list[_Period]:
    """Return all that passed, and then what passed between each two moments at which a clock was set."""
    stretches = [each for host in rated.hosts for each in clocks.get(host, ())]
    whole = _Period(rated, rated.passed, _spread_s(stretches))
    edges = sorted({each.begin_s for each in stretches})
    if len(edges) < 2:
        return [whole]
    return [whole, *(_between(rated, stretches, *ends) for ends in pairwise([*edges, math.inf]))]


def _between(rated: Rated, stretches: Sequence[Stretch], begin_s: float, end_s: float) -> _Period:
    # What happened at the very moment at which a clock was set may have seen it before or after.
    first = bisect_right(rated.passed, begin_s, key=_time_s)
    last = bisect_left(rated.passed, end_s, key=_time_s)
    at_work = [each for each in stretches if each.begin_s < end_s and each.end_s > begin_s]
    return _Period(rated, rated.passed[first:last], _spread_s(at_work))


def _spread_s(stretches: Sequence[Stretch]) -> float:
    ahead = [ahead_s for each in stretches for ahead_s in (each.first_ahead_s, each.last_ahead_s)]
    return max(ahead) - min(ahead) if ahead else 0.0


def _broken(name: str, key: str, period: _Period, span: Sequence[Passed]) -> Broken:
    units = sum(each.units for each in span)
    span_s = _time_s(span[-1]) - _time_s(span[0])
    shares = Counter[str]()
    for each in span:
        shares[each.noted.host] += each.units
    apart = (
        f", the clocks of which were up to {period.spread_s:.3f} s apart" if period.spread_s > 1e-3 else ""
    )
    shown = span if len(span) <= _SHOWN else (*span[: _SHOWN // 2], *span[-_SHOWN // 2 :])
    return Broken(
        "rate limits",
        f"the rate limit {name!r} let {units} units{f' of {key!r}' if key else ''} through in {span_s:.3f} s "
        f"({', '.join(f'{host} {count}' for host, count in sorted(shares.items()))}), "
        f"and no more than {math.floor(period.most(span_s))} may pass: {_terms(period)}{apart}",
        tuple(each.noted.interval() for each in shown),
    )


def _terms(period: _Period) -> str:
    rate: Rate = period.rated.rate
    count = len(period.rated.hosts)
    hosts = "1 host" if count == 1 else f"{count} hosts"
    return (
        f"a burst of {rate.burst}, {rate.rate:g} in {rate.per:g} s, "
        f"and {period.held()} that {hosts} may have held"
    )
