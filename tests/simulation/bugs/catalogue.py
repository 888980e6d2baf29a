"""The classics of this folder, how each is hunted, and the table of `docs/bugs.md`.

python tests/simulation/bugs/catalogue.py           hunt all of them, and write the table anew
python tests/simulation/bugs/catalogue.py NAME      hunt one, and print what was found
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from coterie.simulation import Request, Result, Shrunk, Target, Verdict, explore_pinned, shrink
from coterie.simulation.nursery import Nursery

__all__ = ["CLASSICS", "MOST_UNIVERSES", "PAGE", "Classic", "Found", "hunt", "row", "target", "universes"]

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[2] / "docs" / "bugs.md"
MOST_UNIVERSES = 500
"""Within how many universes a bug is to be found."""


@dataclass(frozen=True)
class Classic:
    """What the docstring of a program says: `Title: what goes wrong`, and its last paragraph, the repair."""

    name: str
    title: str
    repair: str


@dataclass(frozen=True)
class Found:
    """A bug, the universes it took to find it, and the least that shows it."""

    universes: int
    first: Result
    shrunk: Shrunk
    cpu_s: float


def _classic(path: Path) -> Classic:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    title = " ".join(text.partition("\n\n")[0].split())
    repair = " ".join(text.partition("\nRepair: ")[2].split())
    return Classic(path.stem, title, repair[:1].upper() + repair[1:])


CLASSICS = tuple(
    _classic(path)
    for path in sorted(FOLDER.glob("*.py"))
    if path.stem not in {"__init__", "bug_kit", "catalogue", "test_bugs"}
)


def target(name: str, program: str) -> Target:
    return Target(f"{FOLDER / name}.py:{program}")


def universes(name: str, program: str, count: int, *, jobs: int) -> Generator[Result, None, None]:
    """Run universes of one program; with one job in the order of their seeds."""
    requests = [Request(seed=seed) for seed in range(count)]
    yield from explore_pinned(target(name, program), requests, jobs=jobs)


def hunt(name: str) -> Found:
    """Find the bug of a classic and make it small; raise `LookupError` if no universe shows it."""
    ran: list[Result] = []
    with closing(universes(name, "broken", MOST_UNIVERSES, jobs=1)) as results:
        for result in results:
            ran.append(result)
            if result.verdict is not Verdict.OK:
                break
    failing = ran[-1]
    if failing.verdict is Verdict.OK:
        raise LookupError(f"{name} was not found in {len(ran)} universes")
    if failing.verdict is not Verdict.VIOLATED:
        raise AssertionError(f"{name}, seed {failing.seed}: {failing.message}\n{failing.detail}")
    with Nursery(target(name, "broken")) as nursery:
        shrunk = shrink(nursery.run, failing)
    return Found(len(ran), failing, shrunk, sum(each.cpu_s for each in ran))


def row(classic: Classic, recipe: str = "") -> str:
    """Return the line of the table for a classic; the recipe is what was found when it was written."""
    link = f"[`{classic.name}.py`](../tests/simulation/bugs/{classic.name}.py)"
    return f"| {link} | {classic.title} | {recipe} | {classic.repair} |"


def _recipe(found: Found) -> str:
    fired = [
        f"{each.what}, for {each.duration_s:.1f} s" if each.duration_s else each.what
        for each in found.shrunk.result.fired
    ]
    return f"{'; '.join(fired) or 'no fault at all'} (seed {found.first.seed})"


def main() -> None:
    for classic in CLASSICS:
        if classic.name not in (sys.argv[1:] or [each.name for each in CLASSICS]):
            continue
        found = hunt(classic.name)
        cost = f"{found.universes} universes, {found.cpu_s:.1f} s of CPU, shrunk in {found.shrunk.runs} runs"
        print(f"{classic.name}: {_recipe(found)}, {cost}", flush=True)
        print(f"  {found.shrunk.result.message}\n  {found.shrunk.result.edits.to_json()}", flush=True)
        line = row(classic, _recipe(found))
        pattern = rf"^\| \[`{classic.name}\.py`\].*$"
        PAGE.write_text(re.sub(pattern, lambda _, line=line: line, PAGE.read_text(), flags=re.MULTILINE))  # type: ignore[misc]


if __name__ == "__main__":
    main()
