"""What `coterie up` shows: a live table on a terminal, lines elsewhere, JSON lines on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .output import console, echo, json_line, on_terminal
from .supervisor import Child

__all__ = ["Board"]

_COLORS = {"ready": "green", "dead": "red", "given up": "red", "draining": "yellow"}


class Board:
    """Tells a person or a machine what happens to the nodes; raises `OSError` when they left."""

    def __init__(self, title: str, children: Sequence[Child], *, as_json: bool) -> None:
        self._children = children
        self._as_json = as_json
        self._live: Any = None
        if as_json:
            return
        echo(title)
        if on_terminal():
            from rich.live import Live

            self._live = Live(self._table(running=True), console=console(), refresh_per_second=8)
            self._live.start()

    def show(self, child: Child, event: str, **facts: Any) -> None:
        """Tell that `event` happened to a node."""
        if self._as_json:
            echo(json_line({"event": event.replace(" ", "_"), "node": child.name, "pid": child.pid, **facts}))
        elif self._live is not None:
            self._live.update(self._table(running=True))
        else:
            shown = ("http", "message", "hint", "reason") if event != "given up" else ()
            more = "  ".join(str(facts[key]) for key in shown if facts.get(key))
            echo(f"{child.name} (pid {child.pid}) {event}  {more}".rstrip())

    def note(self, child: Child, text: str) -> None:
        """Pass on what the program printed."""
        if self._as_json:
            echo(json_line({"event": "output", "node": child.name, "pid": child.pid, "text": text}))
        elif self._live is not None:
            from rich.text import Text

            line = Text(f"{child.name}: ", style="dim")
            line.append(Text.from_ansi(text))
            self._live.console.print(line)
        else:
            echo(f"{child.name}: {text}")

    def tell(self, event: str, text: str, **facts: Any) -> None:
        """Tell a person `text`, or a machine that `event` happened: something that is no node's."""
        if self._as_json:
            echo(json_line({"event": event, **facts}))
        elif self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            echo(text)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.update(self._table(running=False))
            self._live.stop()

    def _table(self, *, running: bool) -> Any:
        from rich import box
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table("node", "state", "HTTP", "pid", "starts", "", box=box.SIMPLE_HEAD, pad_edge=False)
        for child in self._children:
            state = (
                Spinner("dots", child.state, style="yellow")
                if child.state in {"starting", "draining"}
                else Text(child.state, style=_COLORS.get(child.state, ""))
            )
            pid = str(child.pid) if child.running else ""
            table.add_row(child.name, state, child.url, pid, str(child.starts), Text(child.problem))
        if running:
            table.caption = "Ctrl-C drains them all; twice hurries"
            table.caption_justify = "left"
        return table
