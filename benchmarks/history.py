"""Checking recorded histories: the sorting checker beside searches, Porcupine's among them.

    python -m benchmarks.history [--quick] [--json]

One register, 16 clients that overlap, distinct written values: the history is right, so that a
search may stop at the first order that it finds. The time is CPU time from records (or the bytes of a
file) to the verdict. `search` is our own Wing-Gong-Lowe on the same operations, `porcupine` the Go checker
of that name, built from its module when there is a Go toolchain that can fetch it, else left out.
Each search has a limit of time or steps; a search that ends at it has decided nothing, and its row
says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from coterie.history import NEVER, History, Operation, check, decode_history, encode_history
from coterie.history.checkers._search import REJECT, Budget, search

from ._harness import Goal, Row, Sample, compare, main, take_turns

__all__ = ["TITLE", "run"]

TITLE = "Checking histories"
CLIENTS = 16
LIMIT_S = 5
STEPS = 500_000

PORCUPINE = """package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
)

type input struct {
	write bool
	value int
}

func cpu() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e6
}

func main() {
	var rows [][5]int64
	if err := json.NewDecoder(bufio.NewReader(os.Stdin)).Decode(&rows); err != nil {
		panic(err)
	}
	model := porcupine.Model{
		Init: func() interface{} { return 0 },
		Step: func(state, in, out interface{}) (bool, interface{}) {
			if in.(input).write {
				return true, in.(input).value
			}
			return out.(int) == state.(int), state
		},
	}
	operations := make([]porcupine.Operation, len(rows))
	for i, row := range rows {
		operations[i] = porcupine.Operation{ClientId: int(row[0]), Input: input{row[1] == 1, int(row[2])},
			Output: int(row[2]), Call: row[3], Return: row[4]}
	}
	before := cpu()
	result := porcupine.CheckOperationsTimeout(model, operations, LIMIT * time.Second)
	fmt.Printf("%s %f\\n", result, cpu()-before)
}
""".replace("LIMIT", str(LIMIT_S))


Apply = Callable[[str, Any], Any]


def overlapping(
    draw: Callable[[Random], tuple[str, Any]], apply: Apply, operations: int, *, unknown: float = 0.0
) -> History:
    """Return what 16 clients did to an object on which each operation takes effect at one instant.

    With chance `unknown` a client does not learn the outcome of what it changes, and goes on; half of
    those take effect, a little later.
    """
    random = Random(1)
    records: list[Operation] = []
    running: list[tuple[int, str, Any, Any]] = []
    idle = list(range(CLIENTS))
    late: list[tuple[str, Any]] = []

    def record(process: int, type_: Any, f: str, value: Any) -> None:
        records.append(Operation(process=process, type=type_, f=f, value=value, time=len(records) * 1000))

    while operations or running:
        if late and random.random() < 0.1:
            apply(*late.pop())
        if operations and idle and random.random() < 0.5:
            process = idle.pop(random.randrange(len(idle)))
            f, argument = draw(random)
            record(process, "invoke", f, argument)
            running.append((process, f, argument, None))
            operations -= 1
        elif running:
            index = random.randrange(len(running))
            process, f, argument, result = running[index]
            if result is None and (f == "read" or random.random() >= unknown):
                running[index] = process, f, argument, (apply(f, argument),)
                continue
            del running[index]
            idle.append(process)
            if result is not None:
                record(process, "ok", f, result[0])
            else:
                record(process, "info", f, None)
                late += [(f, argument)] * (random.random() < 0.5)
    return History(records)


def register_history(operations: int, unknown: float) -> History:
    """Return reads and writes of distinct values on one register that begins as 0."""
    values, fresh = [0], count(1)

    def apply(f: str, argument: Any) -> Any:
        if f == "read":
            return values[-1]
        values[-1] = argument
        return None

    def draw(random: Random) -> tuple[str, Any]:
        return ("read", None) if random.random() < 0.5 else ("write", next(fresh))

    return overlapping(draw, apply, operations, unknown=unknown)


def append_history(transactions: int) -> History:
    """Return transactions of three steps on 100 lists, each of which ends after 100 appends."""
    lists: dict[int, list[int]] = {}
    fresh = count(1)

    def apply(f: str, steps: Any) -> Any:
        done = []
        for kind, key, value in steps:
            if kind == "append":
                lists.setdefault(key, []).append(value)
            done.append([kind, key, value if kind == "append" else list(lists.get(key, ()))])
        return done

    def draw(random: Random) -> tuple[str, Any]:
        number = next(fresh)
        keys = [number // 3000 * 100 + random.randrange(100) for _ in range(3)]
        kinds = [random.random() < 0.5 for _ in keys]
        steps = [
            ["append", k, 3 * number + i] if a else ["r", k, None]
            for i, (k, a) in enumerate(zip(keys, kinds, strict=True))
        ]
        return "txn", steps

    return overlapping(draw, apply, transactions)


def queue_history(operations: int) -> History:
    """Return enqueues and dequeues of one queue."""
    elements: deque[int] = deque()
    fresh = count(1)

    def apply(f: str, argument: Any) -> Any:
        if f == "enqueue":
            elements.append(argument)
            return None
        return elements.popleft() if elements else None

    def draw(random: Random) -> tuple[str, Any]:
        return ("enqueue", next(fresh)) if random.random() < 0.5 else ("dequeue", None)

    return overlapping(draw, apply, operations)


def _cpu_ms(body: Callable[[], str], expected: str = "ok") -> Sample:
    started = time.process_time()
    found = body()
    elapsed = time.process_time() - started
    if found != expected:
        raise RuntimeError(f"the verdict was {found}, not {expected}")
    return Sample(elapsed * 1000)


def _sorting(history: History) -> Callable[[], Sample]:
    records = history.operations
    return lambda: _cpu_ms(lambda: check(History(records), "register", initial=0).status)


def _file(history: History) -> Callable[[], Sample]:
    data = encode_history(history)
    return lambda: _cpu_ms(lambda: check(decode_history(data), "register", initial=0).status)


def _searching(history: History) -> tuple[str, Callable[[], Sample]]:
    """Return the search on the operations that a search needs: all but unknown reads."""
    group = [op for op in history.intervals if op.end != NEVER or op.f == "write"]

    def step(state: Any, op: Any) -> Any:
        return op.argument if op.f == "write" else state if op.result == state else REJECT

    def body() -> str:
        found = search(group, 0, step, reads=lambda op: op.f == "read", budget=Budget(STEPS))
        return "undecided" if found is None else "ok" if found else "violated"

    answer = body()
    name = "search" if answer == "ok" else f"search: {answer} after {STEPS:,} steps"
    return name, lambda: _cpu_ms(body, answer)


def _porcupine(history: History, program: Path | None) -> dict[str, Callable[[], Sample]]:
    if program is None:
        return {}
    end = 2 * len(history)
    rows = [
        [
            op.process,
            int(op.f == "write"),
            op.argument if op.f == "write" else op.result,
            op.start,
            end if op.end == NEVER else op.end,
        ]
        for op in history.intervals
        if op.outcome == "ok" or op.f == "write"
    ]
    text = json.dumps(rows)

    def body() -> tuple[str, float]:
        done = subprocess.run([str(program)], input=text, capture_output=True, text=True, check=True)
        answer, milliseconds = done.stdout.split()
        return answer, float(milliseconds)

    answer, _ = body()
    name = "porcupine (Go)" if answer == "Ok" else f"porcupine (Go): {answer} after {LIMIT_S} s"
    return {name: lambda: Sample(body()[1])}


def _build_porcupine(folder: str) -> Path | None:
    go = shutil.which("go")
    if go is None:
        return None
    (Path(folder) / "go.mod").write_text("module bench\ngo 1.21\n")
    (Path(folder) / "main.go").write_text(PORCUPINE)
    module = "github.com/anishathalye/porcupine@v1.3.1"
    for command in ([go, "get", module], [go, "build", "-o", "check", "."]):
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
        if done.returncode:
            return None
    return Path(folder) / "check"


def _model(history: History, model: str, **options: Any) -> Callable[[], Sample]:
    records = history.operations
    return lambda: _cpu_ms(lambda: check(History(records), model, **options).status)


def run(quick: bool = False) -> list[Row]:
    """Measure the checkers, in milliseconds of CPU time."""
    rounds = 1 if quick else 5
    many = 20_000 if quick else 100_000
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        program = _build_porcupine(folder)
        for operations, unknown in ((300, 0.0), (many, 0.0), (many, 0.01)):
            history = register_history(operations, unknown)
            searches = dict([_searching(history)]) | _porcupine(history, program)
            sorting = {"sorting": _sorting(history), "sorting, from a file": _file(history)}
            # A search that decides nothing is measured once: it takes its whole limit each time.
            decided = {name: body for name, body in searches.items() if "after" not in name}
            samples = take_turns(sorting | decided, rounds=rounds, warm_up=0)
            for name in searches.keys() - decided.keys():
                samples[name] = [searches[name]()] * rounds
            rows += compare(
                f"register, {operations:,}, {unknown:.0%} unknown",
                samples,
                in_flight=CLIENTS,
                unit="ms CPU",
                goals=[Goal("sorting", at_most=1000)],
            )
    causal = register_history(many // 5, 0.0)
    models = {
        f"append, {many // 10:,} transactions": _model(append_history(many // 10), "append"),
        f"queue, {many:,}": _model(queue_history(many), "queue"),
        f"causal, {many // 5:,}": _model(causal, "causal", initial=0),
    }
    return rows + compare(
        "others", take_turns(models, rounds=rounds, warm_up=0), in_flight=CLIENTS, unit="ms CPU"
    )


if __name__ == "__main__":
    main(TITLE, run, sys.argv[1:])
