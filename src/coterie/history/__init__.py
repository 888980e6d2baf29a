"""Recorded operations and the checkers that judge them: pure, and usable on anyone's histories.

A history is a sequence of records shaped like Jepsen's, from `Recorder` or a file of JSON lines;
`check(history, "register")` returns a `Verdict`: ok, violated with a minimal witness, or inconclusive.
"""

from .jsonlines import decode_history, encode_history, merge_histories, read_history, write_history
from .operations import NEVER, History, Interval, Operation
from .recorder import Recorder
from .registry import MODELS, Model, check
from .verdict import Verdict

__all__ = [
    "MODELS",
    "NEVER",
    "History",
    "Interval",
    "Model",
    "Operation",
    "Recorder",
    "Verdict",
    "check",
    "decode_history",
    "encode_history",
    "merge_histories",
    "read_history",
    "write_history",
]
