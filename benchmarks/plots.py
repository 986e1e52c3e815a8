"""Curves over time, as SVG that reads well on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 40, 56

# Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7"]


@dataclass(frozen=True)
class Curve:
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """Some curves over the same time, with zero at the bottom."""

    title: str
    curves: Sequence[Curve]


def write_svg(plot: Plot, unit_of_x: str) -> str:
    """Return an SVG document of `plot`, whose x are in `unit_of_x`."""
    points = [point for curve in plot.curves for point in curve.points] or [(0.0, 0.0)]
    most_x = max(x for x, _ in points) or 1.0
    most_y = ceiling(max(y for _, y in points) or 1.0)

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / most_x * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - y / most_y * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#808080">',
        text(LEFT, 20, plot.title, size=14),
    ]
    for step in range(5):
        _, height = at(0, step * most_y / 4)
        parts.append(line(LEFT, height, WIDTH - RIGHT, height))
        parts.append(text(LEFT - 6, height + 4, f"{step * most_y / 4:g}", anchor="end"))
        across, _ = at(step * most_x / 4, 0)
        label = f"{step * most_x / 4:.3g}" + (f" {unit_of_x}" if step == 4 else "")
        parts.append(text(across, HEIGHT - BOTTOM + 16, label, anchor="end" if step else "start"))
    for number, curve in enumerate(plot.curves):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in curve.points))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        parts.append(text(LEFT + 200 * number, HEIGHT - 12, curve.name, colour=colour))
    return "\n".join([*parts, "</svg>", ""])


def ceiling(most: float) -> float:
    """Return the next of 1, 2, 4, 6, 8 and 10 times a power of ten: it has four equal steps."""
    power = 10 ** math.floor(math.log10(most))
    return next(times * power for times in (1, 2, 4, 6, 8, 10) if times * power >= most)


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#808080" stroke-opacity="0.3"/>'


def text(
    x: float, y: float, what: str, *, anchor: str = "start", size: int = 12, colour: str = "#808080"
) -> str:
    place = f'x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {place}>{escape(what)}</text>"
