"""The few elements of SVG that the diagrams are made of, as text."""

from __future__ import annotations

import html

__all__ = ["Drawing"]


class Drawing:
    """Collects elements. Colours come from classes, so that the page can be light or dark."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str, *, marker: str = "") -> None:
        end = f' marker-end="url(#{marker})"' if marker else ""
        self._parts.append(
            f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{end}/>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, style: str, *, tip: str = "", round_: float = 0
    ) -> None:
        inside = f"<title>{html.escape(tip)}</title>" if tip else ""
        self._parts.append(
            f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" '
            f'height="{max(height, 0.5):.1f}" rx="{round_}">{inside}</rect>'
        )

    def text(
        self, x: float, y: float, text: str, style: str = "", *, anchor: str = "start", tip: str = ""
    ) -> None:
        inside = f"<title>{html.escape(tip)}</title>" if tip else ""
        self._parts.append(
            f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{html.escape(text)}{inside}</text>"
        )

    def cross(self, x: float, y: float, size: float, style: str) -> None:
        self.line(x - size, y - size, x + size, y + size, style)
        self.line(x - size, y + size, x + size, y - size, style)

    def diamond(self, x: float, y: float, size: float, style: str, *, tip: str = "") -> None:
        points = (
            f"{x:.1f},{y - size:.1f} {x + size:.1f},{y:.1f} {x:.1f},{y + size:.1f} {x - size:.1f},{y:.1f}"
        )
        inside = f"<title>{html.escape(tip)}</title>" if tip else ""
        self._parts.append(f'<polygon class="{style}" points="{points}">{inside}</polygon>')

    def render(self, label: str, *, fluid: bool = False) -> str:
        """Return the element. A `fluid` one is as wide as the page."""
        style = "fluid" if fluid else ""
        return (
            f'<svg role="img" aria-label="{html.escape(label)}" class="{style}" width="{self.width:.0f}" '
            f'height="{self.height:.0f}" viewBox="0 0 {self.width:.0f} {self.height:.0f}">'
            + "".join(self._parts)
            + "</svg>"
        )
