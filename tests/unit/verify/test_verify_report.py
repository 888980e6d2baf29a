"""What machines and the page tell of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from verify_kit import FAILOVER, TERMS, report

from coterie.history import History
from coterie.verify.judge import judge
from coterie.verify.page import render

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checker(HTMLParser):
    """Notes text, and what a page would load; raises if elements do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(**options: object) -> Checker:
    checker = Checker()
    checker.feed(render(report(**options), command="coterie verify redis --seed 7"))  # type: ignore[arg-type]
    checker.close()
    assert checker.open == []
    return checker


@pytest.mark.parametrize(
    ("lost", "faults", "interrupted", "code", "strict"),
    [
        (False, (), False, 0, 0),
        (True, (), False, 1, 1),
        (True, (FAILOVER,), False, 0, 1),
        (False, (FAILOVER,), False, 0, 0),
        (False, (), True, 130, 130),
        (True, (), True, 1, 1),
    ],
)
def test_the_exit_code_says_whether_a_promise_was_broken(
    lost: bool, faults: tuple[object, ...], interrupted: bool, code: int, strict: int
) -> None:
    told = report(lost=lost, faults=faults, interrupted=interrupted)  # type: ignore[arg-type]
    assert told.exit_code() == code
    assert told.exit_code(strict=True) == strict


def test_a_run_whose_faults_could_not_be_done_decides_nothing() -> None:
    tried = replace(FAILOVER, happened=False, trouble="no replica runs")
    told = report(faults=(tried,))
    assert (told.verdict, told.exit_code()) == ("inconclusive", 3)
    assert "none of the faults could be done" in " ".join(page(faults=(tried,)).text)
    assert report(faults=(tried, FAILOVER)).exit_code() == 0


def test_the_page_of_a_run_that_was_interrupted_says_so_first() -> None:
    assert "Interrupted: no promise was seen broken until then" in page(interrupted=True).text


def test_machines_read_all_of_it() -> None:
    told = json.loads(json.dumps(report(lost=True, faults=(FAILOVER,)).to_json()))
    assert told["engine"] == "redis"
    assert told["settings"] == {"appendfsync": "no"}
    assert told["operations"] == {"ok": 2, "failed": 0, "unknown": 1}
    [fault] = told["faults"]
    assert (fault["kind"], fault["leader"], fault["end_s"]) == ("failover", True, 2.5)
    [part] = told["workloads"]
    assert sum(piece["ok"] for piece in part["availability"]) == 2
    loss, progress = part["promises"]
    assert (loss["standing"], loss["anomaly"]) == ("observed", "lost-element")
    assert loss["why_not"].startswith("failover")
    assert loss["witness"][0]["f"] == "add"
    assert progress["standing"] == "kept"


def test_what_is_undecided_or_was_interrupted_is_not_ok() -> None:
    assert report().to_json()["verdict"] == "ok"
    assert report(lost=True, interrupted=True).to_json()["verdict"] == "violated"
    assert report(interrupted=True).to_json()["verdict"] == "inconclusive"
    told = report()
    [part] = told.parts
    nothing = replace(part, judgements=tuple(judge(part.workload, History([]), TERMS, ())))
    assert replace(told, parts=(nothing,)).to_json()["verdict"] == "inconclusive"


def test_what_was_left_out_is_told_by_its_reason() -> None:
    assert report().left_out_in_words == ["log, lock: not offered", "partition: cannot be done"]


def test_the_page_needs_nothing_else_and_tells_all() -> None:
    checker = page(lost=True, faults=(FAILOVER,))
    assert checker.loads == []
    text = " ".join(checker.text)
    for expected in (
        "redis 7.0",
        "seed 7",
        "appendfsync=no",
        "coterie verify redis --seed 7",
        "not promised: violated",
        "lost-element",
        "failover of member 0, the leader",
        'add "s0" 7',
        "A <note>.",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("lost", "headline"),
    [(True, "A promise was broken: set, no element lost"), (False, "Every promise was kept")],
)
def test_the_page_begins_with_the_verdict(lost: bool, headline: str) -> None:
    assert headline in page(lost=lost).text
