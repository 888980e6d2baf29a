"""The error of the laboratory."""

from __future__ import annotations

from ..errors import CoterieError, Outcome

__all__ = ["LabError"]


class LabError(CoterieError):
    """A cluster could not be started, or did not do what was asked of it in time.

    The message ends with the last lines of the log of the member that it is about.
    """

    code = "lab_error"
    default_outcome = Outcome.NOT_APPLIED
