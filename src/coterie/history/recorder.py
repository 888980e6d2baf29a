"""Records what clients do while they do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import CoterieError, InvalidArgument, Outcome, Overloaded
from .operations import History, Operation, RecordType

__all__ = ["Recorder", "Running"]


class Recorder:
    """Collects records in the order in which they happen.

    `clock` returns nanoseconds and never goes back (`time.monotonic_ns`, or a simulated clock). At
    most `limit` records are kept; then `invoke` raises `Overloaded`. Not for use from several threads.
    """

    def __init__(self, clock: Callable[[], int], *, limit: int = 10_000_000) -> None:
        if limit < 2:
            raise InvalidArgument(f"limit is {limit}; expected at least 2 records")
        self._clock = clock
        self._limit = limit
        self._records: list[Operation] = []
        self._open: dict[int | str, Operation] = {}

    def __len__(self) -> int:
        return len(self._records)

    @property
    def history(self) -> History:
        """What has been recorded until now."""
        return History(self._records, source="recorded history")

    def invoke(self, process: int | str, f: str, *, key: Any = None, value: Any = None) -> None:
        """Record that `process` begins `f`. Raises `InvalidArgument` if it is busy with another."""
        if process in self._open:
            busy = self._open[process].f
            raise InvalidArgument(
                f"process {process!r} invokes {f!r} but has not completed {busy!r}",
                hint="a process does one operation at a time; give each concurrent task its own",
            )
        if len(self._records) + len(self._open) + 2 > self._limit:
            raise Overloaded(f"the history is full: {self._limit} records")
        record = Operation(process=process, type="invoke", f=f, key=key, value=value, time=self._clock())
        self._open[process] = record
        self._records.append(record)

    def ok(self, process: int | str, value: Any = None) -> None:
        """Record that the operation of `process` happened; `value` is its result."""
        self._complete(process, "ok", value, None)

    def fail(self, process: int | str, error: str | None = None) -> None:
        """Record that the operation of `process` certainly did not happen."""
        self._complete(process, "fail", None, error)

    def info(self, process: int | str, error: str | None = None) -> None:
        """Record that nobody knows whether the operation of `process` happened (a timeout, a crash)."""
        self._complete(process, "info", None, error)

    @contextmanager
    def operation(
        self, process: int | str, f: str, *, key: Any = None, value: Any = None
    ) -> Iterator[Running]:
        """Record the operation that the body does; the body sets `result` on what it is given.

        An error of Coterie is recorded by its `outcome`, any other exception, cancellation
        included, as unknown. Exceptions pass through.
        """
        self.invoke(process, f, key=key, value=value)
        running = Running()
        try:
            yield running
        except BaseException as error:
            certain = isinstance(error, CoterieError) and error.outcome is Outcome.NOT_APPLIED
            self._complete(process, "fail" if certain else "info", None, _name(error))
            raise
        self.ok(process, running.result)

    def _complete(self, process: int | str, type_: RecordType, value: Any, error: str | None) -> None:
        begun = self._open.pop(process, None)
        if begun is None:
            raise InvalidArgument(f"process {process!r} completes an operation that it did not invoke")
        self._records.append(
            Operation(
                process=process,
                type=type_,
                f=begun.f,
                key=begun.key,
                value=value,
                time=self._clock(),
                error=error,
            )
        )


class Running:
    """An operation that is being recorded; `result` becomes the value of its `ok`."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: Any = None


def _name(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
