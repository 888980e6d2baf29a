"""The clients of a universe: each runs its workload again and again until it is told to stop."""

from __future__ import annotations

import asyncio
import random
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...app import App
from ...errors import CoterieError
from ..nodes import connected
from ..universe import Violation

if TYPE_CHECKING:
    from .scenario import Stage

__all__ = ["Client", "Failed", "check_failed"]


_SIMULATION = Path(__file__).parents[1]


class Failed:
    """An exception of the program that no error of Coterie is, kept until the universe is judged."""

    def __init__(self, promise: str, sentence: str, error: BaseException) -> None:
        self.promise = promise
        self.sentence = sentence
        self.error = error


def check_failed(failed: Failed | None) -> None:
    """Raise what a client has met, if anything, as a broken promise."""
    if failed is not None:
        raise Violation(failed.sentence, promise=failed.promise, witness=_trace(failed.error))


def _trace(error: BaseException) -> str:
    """Return the traceback of an exception, from where the program's own code begins."""
    trace = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in trace.stack if not Path(frame.filename).is_relative_to(_SIMULATION)]
    trace.stack = traceback.StackSummary.from_list(frames)
    return "".join(trace.format()).rstrip() if frames else ""


class Client:
    """One client of one workload, on a host of its own."""

    def __init__(self, stage: Stage, index: int, number: int) -> None:
        declared = stage.app.workloads[index]
        self.name: str = f"{declared.name.replace('_', '-')}-{number + 1}"
        self.runs: int = 0
        """How many runs of the workload came to their end."""
        self.tolerated: int = 0
        """How many ended with an error of Coterie, or one that the app declares."""
        self.failed: Failed | None = None
        self.running: bool = False
        """Whether a run is under way."""
        self._stage = stage
        self._index = index
        self._number = number
        self._stopping = False

    async def main(self) -> None:
        """What its host runs."""
        stage = self._stage
        stage.load()
        async with connected(stage.engine, stage.trial.app, wrap=stage.wrap(self.name, client=True)) as app:
            declared = app.workloads[self._index]
            await asyncio.sleep(random.random() * declared.pause_s)  # noqa: S311 - the host's own
            while not self._stopping:
                await self._once(app)
                if self.failed is not None:
                    return
                await asyncio.sleep(random.random() * 2 * declared.pause_s)  # noqa: S311

    async def _once(self, app: App) -> None:
        declared = app.workloads[self._index]
        arguments: tuple[Any, ...] = (self._number,) if declared.numbered else ()
        self.running = True
        try:
            await declared.function(*arguments)
            self.runs += 1
        except Exception as error:  # noqa: BLE001 - judged below
            if isinstance(error, CoterieError) or app.errors.find(error) is not None:
                self.tolerated += 1
            else:
                what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                self.failed = Failed(
                    f"workload {declared.name}", f"the client {self.name} met with {what}", error
                )
        finally:
            self.running = False

    def stop(self) -> None:
        """Begin no further run."""
        self._stopping = True

    @property
    def ended(self) -> bool:
        """Whether nothing of it is under way any more."""
        return self._stopping and not self.running
