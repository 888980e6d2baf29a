"""What a simulation can complain about."""

from __future__ import annotations

from ..errors import CoterieError, Outcome

__all__ = ["BudgetExhausted", "Deadlock", "ProcessFailed", "Refused", "SimulationError"]


class SimulationError(CoterieError):
    """The root of what only a simulation raises."""

    code = "simulation"
    default_outcome = Outcome.NOT_APPLIED


class Deadlock(SimulationError):
    """Nothing is left to do while tasks still wait: no event can ever wake them."""

    code = "simulation_deadlock"


class BudgetExhausted(SimulationError):
    """The universe used more events, or more virtual time, than it was given."""

    code = "simulation_budget"


class Refused(SimulationError):
    """The program did something that cannot be simulated, or would differ from run to run.

    The message names what it was and the line of the program that did it.
    """

    code = "simulation_refused"


class ProcessFailed(SimulationError):
    """The main coroutine of a process ended with an exception."""

    code = "simulation_process_failed"
