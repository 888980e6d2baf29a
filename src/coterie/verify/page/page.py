"""The page around the drawings."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from ...simulation.diagram.style import STYLE as BASE
from ..judge import Judgement, Standing
from ..report import Part, Report
from ..tally import percentile
from .style import STYLE
from .timeline import draw_timeline
from .witness import draw_witness

__all__ = ["render"]

_WORDS = {
    Standing.KEPT: "kept",
    Standing.BROKEN: "broken",
    Standing.OBSERVED: "not promised: violated",
    Standing.NOT_OBSERVED: "not promised: not violated",
    Standing.UNDECIDED: "undecided",
}
_SHOWN = 40


def render(report: Report, *, command: str = "") -> str:
    """Return the page. `command` is what makes the same plan again."""
    title = f"{report.engine} {report.version}".strip()
    return "".join(
        (
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>coterie verify {html.escape(title)}</title><style>{BASE}\n{STYLE}</style></head><body>",
            *_head(report, title, command),
            "<section><h2>Promises</h2>",
            *_promises(report),
            "</section><section><h2>Over time</h2>",
            "<p class='key'>For each workload operations by when they ended: <b class='ok'>ok</b>, ",
            "<b class='failed'>failed</b> (certainly without effect, conflicts too), ",
            "<b class='unknown'>unknown</b>; below it the <b class='latency-name'>latency</b> of those that ",
            "are ok, the middle one and, paler, the 99th percentile. A star is a fault at the leader.</p>",
            f"<div class='scroll'>{draw_timeline(report)}</div>",
            *_numbers(report.parts),
            "</section>",
            *_witnesses(report),
            *_faults(report),
            *_histories(report.parts),
            "</body></html>\n",
        )
    )


def _head(report: Report, title: str, command: str) -> Iterator[str]:
    config, counts = report.config, report.counts
    observed = any(j.standing is Standing.OBSERVED for j in report.judgements)
    style = "violated" if report.broken else "observed" if observed else "ok"
    verdict = "Every promise was kept"
    if report.broken:
        verdict = (
            f"{len(report.broken)} promises were broken"
            if len(report.broken) > 1
            else (f"A promise was broken: {report.broken[0].workload}, {report.broken[0].promise.name}")
        )
    elif report.doubt:
        style, verdict = "inconclusive", report.doubt
    yield f"<header class='{style}'><p class='title'>coterie verify {html.escape(title)}</p>"
    yield f"<h1>{html.escape(verdict)}</h1><p class='facts'>"
    facts = (
        *([report.origin] if report.origin else []),
        report.what,
        f"{config.clients} clients",
        f"{report.elapsed_s:.1f} s",
        f"seed {config.seed}",
        f"{counts['ok']:,} ok, {counts['failed']:,} failed, {counts['unknown']:,} unknown",
        *(["interrupted"] if report.interrupted else []),
    )
    yield html.escape(" · ".join(facts))
    yield "</p>"
    if report.trouble:
        yield f"<p class='message'>It could not be made well again: {html.escape(report.trouble)}</p>"
    if command:
        yield f"<pre class='replay'>{html.escape(command)}</pre>"
    yield "</header>"


def _promises(report: Report) -> Iterator[str]:
    yield "<table><tr><th>workload</th><th>promise</th><th>verdict</th><th></th></tr>"
    for judgement in report.judgements:
        anomaly = judgement.verdict.anomaly
        why = ": ".join(part for part in (anomaly, judgement.why_not) if part)
        yield (
            f"<tr><td>{judgement.workload}</td><td>{html.escape(judgement.promise.name)}</td>"
            f"<td class='{judgement.standing.name.lower()}'>{_WORDS[judgement.standing]}</td>"
            f"<td class='why'>{html.escape(why)}</td></tr>"
        )
    yield "</table>"
    for note in report.terms.notes:
        yield f"<p class='hint'>{html.escape(note)}</p>"
    for line in report.left_out_in_words:
        yield f"<p class='hint'>Left out: {html.escape(line)}</p>"


def _numbers(parts: Iterable[Part]) -> Iterator[str]:
    head = (
        "workload",
        "ok",
        "failed",
        "unknown",
        "p50 ms",
        "p99 ms",
        "longest gap s",
        "recovered s",
        "errors",
    )
    yield "<table><tr>" + "".join(f"<th{_number(name)}>{name}</th>" for name in head) + "</tr>"
    for part in parts:
        tally = part.tally
        latencies = sorted(ms for bucket in tally.buckets for ms in bucket.latencies_ms)
        cells = (
            part.workload.name,
            *(f"{tally.counts[name]:,}" for name in ("ok", "failed", "unknown")),
            f"{percentile(latencies, 0.5):.1f}",
            f"{percentile(latencies, 0.99):.1f}",
            f"{tally.gap_s:.1f}",
            "" if part.recovered_s is None else f"{part.recovered_s:.1f}",
            ", ".join(f"{name} {count:,}" for name, count in tally.errors.most_common()),
        )
        row = (f"<td{_number(name)}>{html.escape(cell)}</td>" for name, cell in zip(head, cells, strict=True))
        yield f"<tr>{''.join(row)}</tr>"
    yield "</table>"


def _number(name: str) -> str:
    return "" if name in {"workload", "errors"} else " class='number'"


def _witnesses(report: Report) -> Iterator[str]:
    if report.findings:
        yield "<section class='witness'><h2>Witnesses</h2>"
        for part, judgement in report.findings:
            yield from _witness(part, judgement)
        yield "</section>"


def _witness(part: Part, judgement: Judgement) -> Iterator[str]:
    verdict = judgement.verdict
    sentence = verdict.sentence[:1].upper() + verdict.sentence[1:]
    yield f"<h3>{part.workload.name}, {html.escape(judgement.promise.name)}: "
    yield f"<span>{html.escape(verdict.anomaly or 'undecided')}</span></h3>"
    yield f"<p class='message'>{html.escape(sentence)}.</p>"
    if judgement.why_not:
        yield f"<p class='hint'>Not promised: {html.escape(judgement.why_not)}.</p>"
    if verdict.witness:
        yield f"<div class='scroll'>{draw_witness(verdict.witness)}</div>"
        lines = [
            f"lines {part.history.line(op.start)}-"
            f"{'?' if op.outcome == 'unknown' else part.history.line(op.end)}  {op}"
            for op in verdict.witness[:_SHOWN]
        ]
        listed = html.escape("\n".join(lines))
        yield f"<details><summary>The operations</summary><pre>{listed}</pre></details>"


def _faults(report: Report) -> Iterator[str]:
    yield "<section><h2>Faults</h2>"
    if not report.faults:
        yield "<p>There were none.</p></section>"
        return
    yield "<ol class='faults'>"
    for done in report.faults:
        lasted = "" if done.end_s is None else f", for {done.end_s - done.start_s:.2f} s"
        trouble = f" {done.trouble}" if done.trouble else ""
        yield (
            f"<li><span class='chip'>{done.kind}</span> at {done.start_s:.2f} s{lasted}: "
            f"{html.escape(str(done))}.{html.escape(trouble)}</li>"
        )
    yield "</ol></section>"


def _histories(parts: Iterable[Part]) -> Iterator[str]:
    lines = [
        f"coterie check-history {part.path} --model {part.workload.promises[0].model}"
        for part in parts
        if part.path is not None
    ]
    if lines:
        listed = html.escape("\n".join(lines))
        yield f"<section><h2>Histories</h2><pre>{listed}</pre></section>"
