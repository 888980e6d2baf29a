"""The diagram is one page by itself, and shows the hosts, the faults, the operations and the witness."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from coterie.simulation import Edits, Request, Result, Verdict
from coterie.simulation.diagram import render
from coterie.simulation.diagram.focus import focus
from coterie.simulation.diagram.scene import compose
from coterie.simulation.faults import Fired
from coterie.simulation.forks import run_forked
from coterie.simulation.trace import Event

from .. import scenarios

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Keeps the elements and the texts of a page, and demands that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def classes(self, *wanted: str) -> int:
        return sum(set(wanted) <= set((each.get("class") or "").split()) for _, each in self.elements)


def operation(time_s: float, host: str, f: str, *, witness: bool = False, **detail: object) -> Event:
    plain = {"key": "map/a", "argument": None, "result": None, "outcome": "ok", "error": None}
    return Event(
        time_s, host, "operation", {**plain, "f": f, "end_s": time_s + 0.01, "witness": witness, **detail}
    )


def call(time_s: float, host: str, target: str, handled: list[object], **detail: object) -> Event:
    plain = {"f": "call", "key": "Shop.buy", "argument": None, "result": None, "outcome": "ok", "error": None}
    more = {"end_s": time_s + 1.0, "witness": False, "target": target, "handled": handled, "quiet": False}
    return Event(time_s, host, "call", {**plain, **more, **detail})


RESULT = Result(
    seed=7,
    edits=Edits(),
    verdict=Verdict.VIOLATED,
    message="the map <a> is not linearizable & more",
    promise="map a",
    detail="get -> 1",
    fired=(
        Fired("fault/0", "kill", 2.0, 3.0, "node-1 is killed, and started again after it"),
        Fired("fault/1", "reset", 6.0, 0.0, "3 connections of node-2 are reset"),
    ),
    time_s=20.0,
    record=(
        call(1.0, "buyer-1", "node-1", [("node-1", 1.2, 1.6, "ok")]),
        operation(1.3, "node-1", "cas", argument=["1 (write 1)", "2 (write 2)"], witness=True),
        Event(2.0, "node-1", "kill", {}),
        call(3.0, "buyer-1", "node-1", [], outcome="unknown", error="Unavailable"),
        Event(5.0, "node-1", "start", {"pid": 1}),
        operation(7.0, "node-2", "get", result="1 (write 1)", witness=True),
        operation(8.0, "node-2", "put", argument="x" * 100, outcome="fail", error="Conflict"),
        operation(9.0, "engine", "get"),
    ),
)


def test_the_page_stands_by_itself() -> None:
    text = render(RESULT, title="shop <1>", replay="coterie sim shop.py --replay 7")
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    assert "http" not in text
    assert "url(" not in text.replace("url(#head-", "")
    assert "prefers-color-scheme: dark" in text
    together = "".join(page.texts)
    for part in (
        "shop <1>",
        "A promise was broken: map a",
        "The map <a> is not linearizable & more",
        "--replay 7",
        "at 2.000 s, for 3.000 s: node-1 is killed",
        "at 6.000 s: 3 connections of node-2 are reset",
        "get -> 1",
    ):
        assert part in together


def test_hosts_faults_operations_and_the_witness_are_drawn() -> None:
    page = Page(render(RESULT, title="shop"))
    for host in ("buyer-1", "node-1", "node-2", "engine"):
        assert page.texts.count(host) == 2  # in both drawings
    assert page.classes("band", "kill") == 2
    assert page.classes("band", "reset") == 2
    assert page.classes("down") == 2
    assert page.classes("span", "witness") == 3  # one of them is in the legend
    assert page.classes("arrow", "call") == 2
    assert page.classes("arrow", "call", "lost") == 1
    assert page.classes("arrow", "reply") == 1
    assert "cas map/a 1·1 ⇒ 2·2" in page.texts
    assert "get map/a → 1·1" in page.texts


@pytest.mark.parametrize("witness", [True, False])
def test_who_only_looks_is_drawn_as_a_witness_alone(witness: bool) -> None:
    record = (*RESULT.record, operation(9.5, "observer", "get", result="1 (write 1)", witness=witness))
    page = Page(render(Result(**{**_fields(RESULT), "record": record}), title="shop"))
    assert ("observer" in page.texts) is witness


def test_the_close_look_is_bounded_and_keeps_the_witness() -> None:
    many = [operation(10 + number, "node-2", "get", result="1") for number in range(500)]
    scene = compose(Result(**{**_fields(RESULT), "record": (*RESULT.record, *many)}))
    close = focus(scene, most=30)
    assert len(scene.spans) > 500
    assert 2 <= len(close.spans) < 50
    assert [span.start_s for span in close.witness] == [1.3, 7.0]


def _fields(result: Result) -> dict[str, object]:
    return {name: getattr(result, name) for name in Result.__dataclass_fields__}


@pytest.mark.parametrize("record", [(), RESULT.record[:1]])
def test_little_or_nothing_can_be_drawn_too(record: tuple[Event, ...]) -> None:
    Page(render(Result(seed=1, edits=Edits(), verdict=Verdict.OK, record=record), title="empty"))


def test_a_scenario_by_hand_shows_its_packets() -> None:
    result = run_forked(scenarios.noisy, Request(seed=3, record=10_000))
    page = Page(render(result, title="noisy"))
    assert page.classes("arrow", "packet") > 0
