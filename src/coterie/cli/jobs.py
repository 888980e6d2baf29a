"""`coterie jobs`: what is scheduled, when it is due, who runs it now, and what became of its latest ticks."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from ..app import App
from ..coordination import Coordination, Run, RunStatus
from ..coordination.cron import Cron, Every
from ..coordination.observe_jobs import JobState, job_states
from ..coordination.words import in_words
from ..errors import NotFound
from .options import Command, as_json, engine_options, epilog, load, run_async, target, with_coordination
from .output import echo, print_json, print_table

__all__ = ["command"]

_COLOURS = {
    RunStatus.DONE: "green",
    RunStatus.RUNNING: "cyan",
    RunStatus.FAILED: "red",
    RunStatus.CRASHED: "red",
    RunStatus.MISSED: "yellow",
    RunStatus.SKIPPED: "yellow",
}
_NEVER_BEGAN = frozenset({RunStatus.MISSED, RunStatus.SKIPPED})
_Cell = tuple[str, str] | str


@click.command(
    "jobs",
    cls=Command,
    epilog=epilog(
        "coterie jobs examples/shop.py",
        "coterie jobs shop:app close_the_day               # all that is known of one",
        "coterie jobs shop:app close_the_day --history 5   # the last five ticks",
        "coterie jobs shop:app --history 3 --json",
    ),
)
@target
@click.argument("name", required=False)
@click.option(
    "--history", "last", type=click.IntRange(1), metavar="N", help="The last N ticks; of NAME by default all."
)
@engine_options
@as_json
def command(target: str, name: str | None, last: int | None, json_: bool, **options: Any) -> None:
    """Show what TARGET runs by `@app.every` and `@app.cron`: when, who runs it now, and how it went.

    With NAME, or with --history, it lists ticks, the newest last. The latest 50 of each are kept, and those
    under way; ticks in a row that nobody was there for are one entry. No node need run: this reads the
    store. Times are UTC, by the clocks of the nodes.
    """
    app, config, _ = load(target, options)
    if name is not None and name not in app.jobs:
        raise _unknown(app, name)
    jobs = list(app.jobs.values()) if name is None else [app.jobs[name]]

    async def body(here: Coordination) -> None:
        states = await job_states(here, jobs)
        now = here.clock.time()
        if json_:
            print_json({"now": round(now, 3), "jobs": [_facts(state, last) for state in states]})
        elif not states:
            echo(f"The app {app.name!r} schedules nothing.")
        elif name is not None:
            _show_one(states[0], last, now)
        else:
            _show_all(states, now)
            if last is not None:
                echo("")
                _show_history(states, last, now)

    run_async(with_coordination(app, config, body))


def _unknown(app: App, name: str) -> NotFound:
    near = difflib.get_close_matches(name, app.jobs, n=2)
    hint = "it declares none: @app.every(seconds) or @app.cron('0 3 * * *')"
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif app.jobs:
        hint = f"there are: {', '.join(sorted(app.jobs))}"
    return NotFound(f"the app {app.name!r} schedules nothing called {name!r}", hint=hint)


def _show_all(states: list[JobState], now: float) -> None:
    rows: list[tuple[_Cell, ...]] = []
    for state in states:
        ended = [run for run in state.history if run.ended]
        last = ended[-1] if ended else None
        rows.append(
            (
                state.job.name,
                in_words(state.job.schedule),
                _next(state, now),
                "; ".join(_runner(state, run, now) for run in state.running) or "nobody",
                "never" if last is None else _moment(last.started),
                "" if last is None else _took(last, now),
                "" if last is None else last.node,
                "" if last is None else _outcome(state, last),
                ", ".join(f"{count} {status}" for status, count in state.counts.items()),
            )
        )
    columns = ("job", "schedule", "next", "runs now", "last run", "took", "node", "outcome", "ticks kept")
    print_table(columns, rows)


def _show_one(state: JobState, last: int | None, now: float) -> None:
    policy = state.job.policy
    schedule = state.job.schedule
    expression = f"  ({schedule.expression})" if isinstance(schedule, Cron) else ""
    echo(f"{state.job.name}: {in_words(schedule)}{expression}")
    echo(
        f"missed: {policy.missed}, overlap: {policy.overlap}, crashed: {policy.crashed}, "
        f"grace: {policy.grace_s:g} s"
    )
    echo(f"next: {_next(state, now)}")
    for run in state.running:
        echo(f"runs now: {_runner(state, run, now)}")
    if not state.history:
        echo("No tick was due yet." if state.record else "No node of the app has run yet.")
        return
    echo("")
    _show_history([state], last, now)


def _show_history(states: list[JobState], last: int | None, now: float) -> None:
    rows = [
        (
            state.job.name,
            _moment(run.tick),
            "" if run.status in _NEVER_BEGAN else _moment(run.started),
            _took(run, now),
            run.node,
            "" if run.status in _NEVER_BEGAN else str(run.attempt),
            _outcome(state, run),
            run.error,
        )
        for state in states
        for run in state.history[-(last or 0) :]
    ]
    print_table(("job", "tick", "started", "took", "node", "attempt", "outcome", "error"), rows)


def _facts(state: JobState, last: int | None) -> dict[str, Any]:
    schedule = state.job.schedule
    spec: dict[str, Any] = {"words": in_words(schedule)}
    if isinstance(schedule, Every):
        spec["every_s"] = schedule.seconds
    elif isinstance(schedule, Cron):
        spec |= {"cron": schedule.expression, "tz": schedule.zone}
    return {
        "name": state.job.name,
        "schedule": spec,
        "policy": msgspec.to_builtins(state.job.policy),
        "next": state.next_tick,
        "running": [_run_facts(state, run) for run in state.running],
        "ticks": state.counts,
        "history": [_run_facts(state, run) for run in state.history[-(last or 0) :]],
    }


def _run_facts(state: JobState, run: Run) -> dict[str, Any]:
    return {
        "tick": run.tick,
        "outcome": run.status.value,
        "node": run.node or None,
        "node_gone": state.orphaned(run),
        "started": None if run.status in _NEVER_BEGAN else run.started,
        "took_s": round(run.ended - run.started, 6) if run.ended else None,
        "attempt": run.attempt,
        "ticks": run.count,
        "error": run.error or None,
    }


def _next(state: JobState, now: float) -> str:
    away_s = state.next_tick - now
    if away_s >= 0:
        return f"{_moment(state.next_tick)} (in {_span(away_s)})"
    return f"{_moment(state.next_tick)} ({_span(-away_s)} late)"


def _runner(state: JobState, run: Run, now: float) -> str:
    if state.orphaned(run):
        return f"{run.node}, which is gone"
    return f"{run.node} for {_span(now - run.started)}"


def _outcome(state: JobState, run: Run) -> _Cell:
    text = run.status.value
    if run.count > 1:
        text += f" ({run.count} ticks)"
    if state.orphaned(run):
        text += " (its node is gone)"
    return text, _COLOURS[run.status]


def _took(run: Run, now: float) -> str:
    if run.status is RunStatus.RUNNING:
        return _span(now - run.started)
    return _span(run.ended - run.started) if run.ended else ""


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _span(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"
