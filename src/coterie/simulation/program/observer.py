"""Looks at what an app declares with `always` and `eventually`, from a host of its own."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...app import App
from ...app.trials import Promise
from ...errors import CoterieError
from ..nodes import connected
from ..universe import Violation
from .clients import Failed, check_failed

if TYPE_CHECKING:
    from .scenario import Stage

__all__ = ["OBSERVER", "Observer"]

OBSERVER = "observer"
_EVERY_S = 5.0
"""How long the clients are left alone between two looks."""
_QUIET_S = 1.0
"""How long to wait until nothing is under way, with the clients held back."""
_LOOK_S = 2.0
"""How long a look may take while faults happen."""
_POLL_S = 0.25


class Observer:
    """Checks promises between the operations of a universe, and at its end."""

    def __init__(self, stage: Stage) -> None:
        self.failed: Failed | None = None
        self.looks: int = 0
        """How often all of `always`, or one promise at the end, was found to hold."""
        self._stage = stage
        self._final = asyncio.Event()
        self._app: App | None = None

    async def main(self) -> None:
        """What its host runs."""
        stage = self._stage
        stage.load()
        async with connected(stage.engine, stage.trial.app, wrap=stage.wrap(OBSERVER, quiet=True)) as app:
            self._app = app
            while not self._final.is_set() and self.failed is None:
                # The look is outside of the handler: what it finds would seem to come of the timeout.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_EVERY_S):
                        await self._final.wait()
                if not self._final.is_set():
                    await self._look(app)
            if self.failed is None:
                await self._at_the_end(app)

    def finish(self) -> None:
        """Do the last look: the faults are over, and nothing is under way."""
        self._final.set()

    async def _look(self, app: App) -> None:
        """Check `always` at a moment when nothing is under way, if there is one soon."""
        book, gate = self._stage.notebook, self._stage.gate
        if not app.invariants:
            return
        gate.close()
        try:
            for _ in range(int(_QUIET_S / 0.05)):
                if not book.busy:
                    break
                await asyncio.sleep(0.05)
            else:
                return
            for declared in app.invariants:
                before = (book.activity, self._stage.changes)
                try:
                    async with asyncio.timeout(_LOOK_S):
                        problem = await self._broken(app, declared)
                except (CoterieError, TimeoutError):
                    return
                if problem is not None:
                    # Something that was on its way may have arrived meanwhile: then it was not quiet.
                    if before == (book.activity, self._stage.changes):
                        self.failed = problem
                    return
            self.looks += 1
        finally:
            gate.open()

    async def _at_the_end(self, app: App) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for declared in app.goals:
            problem = await self._until(app, declared, began + declared.within_s, again=True)
            if problem is not None:
                problem.sentence += f", {declared.within_s:g} s after the last fault"
                self.failed = problem
                return
            self.looks += 1
        for declared in app.invariants:
            self.failed = await self._until(app, declared, loop.time() + 30.0, again=False)
            if self.failed is not None:
                return
            self.looks += 1

    async def _until(self, app: App, declared: Promise, end_s: float, *, again: bool) -> Failed | None:
        """Return what is wrong with a promise; look again for as long as it cannot be said, or `again`."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(max(end_s, loop.time() + _POLL_S)):
                    problem = await self._broken(app, declared)
            except (CoterieError, TimeoutError) as error:
                sentence = f"{declared.name!r} cannot be checked: {type(error).__name__}: {error}"
                problem = Failed(f"{declared.name}", sentence, error)
                retry = True
            else:
                retry = again
            if problem is None or not retry or loop.time() + _POLL_S >= end_s:
                return problem
            await asyncio.sleep(_POLL_S)

    async def _broken(self, app: App, declared: Promise) -> Failed | None:
        """Return why a promise does not hold, or None. Raises errors of Coterie."""
        kind = "always" if declared in app.invariants else "eventually"
        try:
            result: Any = declared.function()
            if inspect.isawaitable(result):
                result = await result
        except (CoterieError, TimeoutError):
            raise
        except AssertionError as error:
            text = str(error).strip().partition("\n")[0]
            sentence = f"{declared.name!r} does not hold{f': {text}' if text else ''}"
            return Failed(f"{kind} {declared.name}", sentence, error)
        except Exception as error:  # noqa: BLE001 - the program's own
            sentence = f"{declared.name!r} fails with {type(error).__name__}: {error}"
            return Failed(f"{kind} {declared.name}", sentence, error)
        if result is None or result:
            return None
        sentence = f"{declared.name!r} does not hold: it returns {result!r}"
        return Failed(f"{kind} {declared.name}", sentence, Violation(sentence))

    def check(self) -> None:
        """Raise the broken promise that was found, if any."""
        check_failed(self.failed)
