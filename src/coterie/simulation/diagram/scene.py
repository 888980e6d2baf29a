"""What a record says, as the things that a diagram shows: hosts, operations, messages, faults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..trace import Event
from ..universe import Result

__all__ = ["Arrow", "Band", "Outage", "Scene", "Span", "compose"]

_QUIET = "observer"
_ENGINE = "engine"
_DOWN = frozenset({"kill", "crash"})
_WRITE = re.compile(r" \(write (\d+)\)$")
_KINDS = ("call", "handler", "operation")
"""What begins at one moment begins in this order."""
_SHOWN = 22
"""How many characters of a value a label has room for."""


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time on one host. Without an `end_s` nobody knows how it ended."""

    host: str
    kind: str
    """`operation` on a map, `call` of a method, or `handler` of one."""
    start_s: float
    end_s: float | None
    label: str
    key: str
    outcome: str
    witness: bool
    detail: str
    """All of it, for a tooltip."""
    call: int = -1
    """Which call it belongs to: what a caller and its handlers have in common."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """A message from one host to another; without `to_s` it did not arrive."""

    source: str
    from_s: float
    target: str
    to_s: float | None
    kind: str
    """`call`, `reply`, `store` or `packet`."""


@dataclass(frozen=True, slots=True)
class Band:
    """A fault: what it was, when, and the hosts that it names."""

    number: int
    kind: str
    what: str
    hosts: tuple[str, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which nothing ran on a host."""

    host: str
    start_s: float
    end_s: float


@dataclass(slots=True)
class Scene:
    """Everything, in the order of time."""

    hosts: list[str]
    spans: list[Span] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    end_s: float = 0.0

    @property
    def witness(self) -> list[Span]:
        return [span for span in self.spans if span.witness]


def compose(result: Result) -> Scene:
    """Return the scene of a universe that was recorded."""
    events = sorted(result.record, key=lambda event: event.time_s)
    scene = Scene(_hosts(events), end_s=max((event.time_s for event in events), default=0.0))
    scene.end_s = max(scene.end_s, result.time_s)
    for event in events:
        if event.kind == "operation":
            if event.host in scene.hosts:
                scene.spans.append(_operation(event))
        elif event.kind == "call" and event.detail.get("quiet") is not True:
            _add_call(scene, event)
        elif event.kind in {"packet", "lost"}:
            _add_packet(scene, event)
    scene.bands = [
        Band(
            number + 1,
            fired.kind,
            fired.what,
            _named(fired.what, scene.hosts),
            fired.at_s,
            min(fired.at_s + fired.duration_s, scene.end_s),
        )
        for number, fired in enumerate(sorted(result.fired, key=lambda fired: fired.at_s))
    ]
    scene.outages = list(_outages(events, scene.end_s))
    scene.spans.sort(key=lambda span: (span.start_s, _KINDS.index(span.kind)))
    return scene


def _hosts(events: Iterable[Event]) -> list[str]:
    """Return the hosts: who calls first, then who answers, and the engine last."""
    seen: dict[str, None] = {}
    answering: set[str] = set()
    for event in events:
        if event.host not in {"world", _QUIET} or event.detail.get("witness"):
            seen[event.host] = None
        for ran in event.detail.get("handled", ()):
            seen[ran[0]] = None
            answering.add(ran[0])
        if event.kind == "packet" and event.detail["to"] not in {"world", _QUIET}:
            seen[event.detail["to"]] = None
    return sorted(seen, key=lambda name: (name == _ENGINE, name in answering, _natural(name)))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _named(text: str, hosts: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in hosts if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))


def _operation(event: Event) -> Span:
    detail = event.detail
    argument, result, outcome = detail["argument"], detail["result"], detail["outcome"]
    words = [detail["f"], str(detail["key"])]
    if detail["f"] == "cas":
        words += [_short(argument[0]), "⇒", _short(argument[1])]
    elif argument is not None:
        words.append(_short(argument))
    if detail["f"] == "get" and outcome == "ok":
        words += ["→", _short(result)]
    return Span(
        event.host,
        "operation",
        event.time_s,
        detail["end_s"],
        " ".join([*words, *_ending(detail)]),
        str(detail["key"]),
        outcome,
        bool(detail["witness"]),
        f"{event.host}: {detail['f']} {detail['key']}\nargument: {argument}\nresult: {result}\n{outcome}",
    )


def _ending(detail: dict[str, Any]) -> list[str]:
    if detail["outcome"] == "ok":
        return []
    return [
        f"✗ {detail['error'] or 'failed'}" if detail["outcome"] == "fail" else f"? {detail['error'] or ''}"
    ]


def _short(value: Any) -> str:
    """Return a value with the number of its write behind a dot: `29·17`."""
    if value is None:
        return "∅"
    text = str(value)
    found = _WRITE.search(text)
    body = text[: found.start()] if found else text
    body = body if len(body) <= _SHOWN else f"{body[: _SHOWN - 1]}…"
    return f"{body}·{found[1]}" if found else body


def _add_call(scene: Scene, event: Event) -> None:
    detail = event.detail
    number = len(scene.spans)
    label = " ".join([str(detail["key"]), *_ending(detail)])
    ending = f"{detail['outcome']} {detail['error'] or ''}"
    tip = f"{event.host} calls {detail['key']} at {detail['target']}\n{ending}"
    span = Span(
        event.host,
        "call",
        event.time_s,
        detail["end_s"],
        label,
        str(detail["key"]),
        detail["outcome"],
        bool(detail["witness"]),
        tip,
        number,
    )
    scene.spans.append(span)
    answered = detail["outcome"] != "unknown" or detail["error"] not in {
        None,
        "DeadlineExceeded",
        "Unavailable",
    }
    if not detail["handled"] and detail["target"] in scene.hosts:
        scene.arrows.append(Arrow(event.host, event.time_s, detail["target"], None, "call"))
    for host, start_s, end_s, outcome in detail["handled"]:
        scene.arrows.append(Arrow(event.host, event.time_s, host, start_s, "call"))
        scene.spans.append(
            replace(span, host=host, kind="handler", start_s=start_s, end_s=end_s, outcome=outcome)
        )
        if end_s is not None:
            back_s = detail["end_s"] if answered else None
            scene.arrows.append(Arrow(host, end_s, event.host, back_s, "reply"))


def _add_packet(scene: Scene, event: Event) -> None:
    target = event.detail["to"]
    if event.host in scene.hosts and target in scene.hosts and event.host != target:
        arrival_s = event.detail.get("arrive_s") if event.kind == "packet" else None
        scene.arrows.append(Arrow(event.host, event.time_s, target, arrival_s, "packet"))


def _outages(events: Iterable[Event], end_s: float) -> Iterable[Outage]:
    down: dict[str, float] = {}
    for event in events:
        if event.kind in _DOWN:
            down.setdefault(event.host, event.time_s)
        elif event.kind == "start" and event.host in down:
            yield Outage(event.host, down.pop(event.host), event.time_s)
    for host, since_s in down.items():
        yield Outage(host, since_s, end_s)
