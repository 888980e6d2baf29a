"""Golden transcripts: what the pure machines decide, step by step, as one can read and discuss it.

Each line is a time, what happens, and after `->` what the machine says.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coterie.resilience import (
    AdaptiveLimit,
    AdaptiveLimitConfig,
    AdmissionQueue,
    BreakerConfig,
    Ejection,
    Gcra,
    QueueConfig,
    Rate,
    RetryBudget,
    RetryBudgetConfig,
    Target,
)

Step = Callable[[float, list[str]], str]
MACHINES: dict[str, tuple[Callable[[], Step], str]] = {}


def transcript(text: str) -> Callable[[Callable[[], Step]], None]:
    def register(machine: Callable[[], Step]) -> None:
        MACHINES[machine.__name__] = machine, text

    return register


@transcript("""
0.0  repeat x3      -> yes yes no     what is saved is two
0.0  calls 20       -> 2.0 saved      a tenth of them, at most the burst
0.0  repeat x3      -> yes yes no
0.0  calls 5        -> 0.5 saved
1.0  repeat x1      -> yes            half from the calls, half from the floor
1.0  repeat x1      -> no
9.0  repeat x3      -> yes yes no     the floor saves up no more than the burst
""")
def retry_budget() -> Step:
    budget = RetryBudget(RetryBudgetConfig(ratio=0.1, floor_per_s=0.5, burst=2))

    def step(now: float, words: list[str]) -> str:
        if words[0] == "calls":
            for _ in range(int(words[1])):
                budget.attempt()
            return f"{budget.saved:.1f} saved"
        return " ".join("yes" if budget.spend(now) else "no" for _ in range(int(words[1][1:])))

    return step


@transcript("""
0.00 add a 1        -> waits
0.01 add b 1        -> waits
0.02 add c 3        -> waits
0.03 add d 3        -> turned away    the queue is full, and nobody waits who matters less
0.04 add e 0        -> waits, c out   the more important takes the place of the least important
0.05 take           -> e              the important first
0.05 take           -> a              then the one that came first
0.09 add f 1        -> waits
0.10 take           -> f              not empty for a tenth of a second: now the newest first
0.11 expire         -> b              and nobody waits longer than 5 ms
0.12 take           -> nobody
0.20 add g 1        -> waits
0.29 expire         -> nobody         it was empty: patient again
0.31 expire         -> g
""")
def admission_queue() -> Step:
    queue = AdmissionQueue[str](QueueConfig(length=3, target_s=0.005, interval_s=0.1))

    def step(now: float, words: list[str]) -> str:
        if words[0] == "add":
            place, displaced = queue.add(words[1], int(words[2]), now)
            if place is None:
                return "turned away"
            return "waits" if displaced is None else f"waits, {displaced.item} out"
        taken = queue.expire(now) if words[0] == "expire" else [queue.take(now)]
        return " ".join(each.item for each in taken if each is not None) or "nobody"

    return step


@transcript("""
1.0  a fails x20    -> b c d e
1.1  look           -> b c d e
1.1  b fails x20    -> c d e          two of five
1.2  c fails x20    -> a d e          no more than half: the one that opened first comes back
1.3  d fails x20    -> a b c d e      fewer than three tenths work: nobody is left out
2.0  a works x2     -> a b e          enough work again: c and d are left out, b comes first to its probe
2.1  b works x2     -> a b e
2.2  c works x2     -> a b c e
2.3  d works x2     -> a b c d e
""")
def ejection() -> Step:
    config = BreakerConfig(open_s=1.0, probes=2, min_calls=10)
    machine, targets = Ejection(config), [Target(name) for name in "abcde"]

    def step(now: float, words: list[str]) -> str:
        if words[0] != "look":
            for _ in range(int(words[2][1:])):
                breaker = machine.of(words[0])
                if breaker.admit(now) or words[1] == "fails":
                    machine.record(words[0], now, failed=words[1] == "fails", took_s=0.0)
        return " ".join(target.address for target in machine.admitted(targets, now))

    return step


@transcript("""
0.0  take 3         -> 0.00
0.0  take 1         -> 0.50           in half a second
0.2  take 1         -> 0.30
0.5  take 1         -> 0.00
0.5  take 4         -> inf            more than the burst, never
9.0  take 3         -> 0.00           no more than the burst is saved up
9.0  take 2         -> 1.00
""")
def gcra() -> Step:
    machine = Gcra(Rate(rate=2, per=1.0, burst=3))
    return lambda now, words: f"{machine.wait_s(now, float(words[1])):.2f}"


@transcript("""
1    10 of 10 ms    -> 13             as quick as ever: it grows by its square root
2    13 of 10 ms    -> 16
3    4 of 10 ms     -> 16             hardly used: that teaches nothing
4    16 of 12 ms    -> 20             a little slower is tolerated
5    20 of 40 ms    -> 14             four times as slow: half, and its square root
6    14 of 40 ms    -> 11
7    9 dropped      -> 9              what is given up is a sure sign: a tenth less
8    8 of 20 ms     -> 10             half as quick as it could be: still too slow to grow much
9    8 of 20 ms     -> 5              time to measure: half of it, until those from before have left
10   4 of 20 ms     -> 5
11   4 of 10 ms     -> 2              clearly faster: they do wait for each other, so half of it again
12   2 of 10 ms     -> 2
13   2 of 10 ms     -> 5              no faster than that: this is what they take alone
""")
def adaptive_limit() -> Step:
    config = AdaptiveLimitConfig(initial=10, lowest=2, highest=20, smoothing=1.0, sample_s=0.9, min_samples=2)
    limit = AdaptiveLimit(config, now=0.95)

    def step(now: float, words: list[str]) -> str:
        assert all(limit.admit() for _ in range(int(words[0])))
        took_s = None if words[1] == "dropped" else float(words[2]) / 1000
        for left in reversed(range(int(words[0]))):
            limit.release(now + (0.5 if left else 0.95), took_s, dropped=took_s is None)
        return str(limit.limit)

    return step


@pytest.mark.parametrize("name", MACHINES)
def test_the_transcript(name: str) -> None:
    machine, text = MACHINES[name]
    step = machine()
    for line in text.strip().splitlines():
        happens, _, says = line.partition("->")
        now, *words = happens.split()
        says = says.strip()
        expected = says.split("  ")[0]
        assert step(float(now), words) == expected, line
