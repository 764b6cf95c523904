"""Plots as SVG that stands in a page by itself: lines over time, lines over lag, bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from infinitetalk.evaluate.series import Floats

WIDTH, HEIGHT = 760, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 30
POINTS: Final = 600
"""Of a line, at most: more than that are drawn as means."""
TICKS: Final = 4


@dataclass(frozen=True, slots=True)
class Line:
    """Values (n,) at places (n,); gaps where they are no numbers."""

    name: str
    places: Floats
    values: Floats
    kind: str = "a"
    """Class in the page's style: a and b are lines, faint is a control, level is a baseline."""


@dataclass(frozen=True, slots=True)
class Axes:
    """From where to where a plot reaches."""

    across: tuple[float, float]
    up: tuple[float, float]
    label: str
    """What is below the horizontal axis."""

    def x(self, value: float) -> float:
        """Where a value lies, in units of the drawing."""
        low, high = self.across
        return _LEFT + (value - low) / max(1e-9, high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """The same for the vertical axis."""
        low, high = self.up
        return HEIGHT - _BOTTOM - (value - low) / max(1e-9, high - low) * (HEIGHT - _TOP - _BOTTOM)


def lines(drawn: Sequence[Line], label: str, *, marks: Sequence[float] = (), zero: bool = False) -> str:
    """Lines over one axis; `marks` are vertical lines, `zero` asks for 0 to be seen."""
    drawn = [line for line in map(thinned, drawn) if np.isfinite(line.values).any()]
    if not drawn:
        return '<p class="none">nothing to draw</p>'
    values = np.concatenate([line.values[np.isfinite(line.values)] for line in drawn])
    low, high = float(values.min()), float(values.max())
    low = min(0.0, low) if zero else low
    room = 0.06 * max(1e-6, high - low)
    first, last = (float(edge(np.concatenate([line.places for line in drawn]))) for edge in (np.min, np.max))
    axes = Axes((first, last), (low if low == 0 else low - room, high + room), label)
    inside = [*_frame(axes), *(_mark(axes, place) for place in marks), *(_path(axes, line) for line in drawn)]
    legend = "".join(f'<span class="{line.kind}">{escape(line.name)}</span>' for line in drawn if line.name)
    return _svg(inside) + (f'<p class="legend">{legend}</p>' if legend else "")


def bars(values: Sequence[float], label: str, *, level: float | None = None) -> str:
    """Bars from 0 on, one for each value; `level` is a horizontal line."""
    if not values:
        return '<p class="none">nothing to draw</p>'
    high = max(*values, level or 0.0, 1e-6) * 1.06
    axes = Axes((0.0, float(len(values))), (0.0, high), label)
    wide = (WIDTH - _LEFT - _RIGHT) / len(values)
    gap = min(6.0, wide * 0.2)
    drawn = [
        f'<rect class="bar" x="{axes.x(place) + gap / 2:.1f}" y="{axes.y(value):.1f}" width="{wide - gap:.1f}" '
        f'height="{axes.y(0) - axes.y(value):.1f}"><title>{place + 1}: {value:.3g}</title></rect>'
        for place, value in enumerate(values)
    ]
    line = [] if level is None else [_level(axes, level)]
    return _svg([*_frame(axes, across=False), *drawn, *line])


def thinned(line: Line) -> Line:
    """The same line with so many points that a page stays small."""
    count = len(line.values)
    if count <= POINTS:
        return line
    step = -(-count // POINTS)
    whole = count // step * step
    values = line.values[:whole].reshape(-1, step)
    there = np.isfinite(values)
    means = np.where(there, values, 0).sum(1) / np.maximum(1, there.sum(1))
    means[~there.any(1)] = np.nan
    return Line(line.name, line.places[:whole].reshape(-1, step).mean(1), means.astype(np.float32), line.kind)


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def ticks(low: float, high: float) -> list[float]:
    """A few round numbers between two."""
    rough = (high - low) / TICKS
    if rough <= 0:
        return [low]
    size = 10.0 ** np.floor(np.log10(rough))
    step = min((size * factor for factor in (1, 2, 5, 10)), key=lambda value: abs(value - rough))
    first = int(np.ceil(low / step - 1e-9))
    return [float(number * step) for number in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def _frame(axes: Axes, *, across: bool = True) -> list[str]:
    """Grid, numbers and the label."""
    parts = []
    for value in ticks(*axes.up):
        y = axes.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="up" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:.4g}</text>')
    for value in ticks(*axes.across) if across else ():
        parts.append(f'<text class="across" x="{axes.x(value):.1f}" y="{HEIGHT - 14}">{value:.4g}</text>')
    parts.append(f'<text class="label" x="{WIDTH - _RIGHT}" y="{HEIGHT - 2}">{escape(axes.label)}</text>')
    return parts


def _mark(axes: Axes, place: float) -> str:
    x = axes.x(place)
    return f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'


def _level(axes: Axes, value: float) -> str:
    y = axes.y(value)
    return f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _path(axes: Axes, line: Line) -> str:
    """The line, in pieces where there are gaps; a lone value is a dot."""
    there = np.isfinite(line.values)
    known = [(axes.x(float(place)), axes.y(float(value)))
             for place, value in zip(line.places[there], line.values[there], strict=True)]  # fmt: skip
    # Values that are told now and then are joined; gaps longer than usual are not.
    places = np.flatnonzero(there)
    usual = np.median(np.diff(places)) if len(places) > 1 else 1
    breaks = {index + 1 for index, gap in enumerate(np.diff(places)) if gap > 1.5 * usual}
    steps = [f"{'M' if index in breaks or not index else 'L'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(known)]
    if len(known) == 1:
        return f'<circle class="{line.kind}" cx="{known[0][0]:.1f}" cy="{known[0][1]:.1f}" r="3"/>'
    return f'<path class="{line.kind}" d="{"".join(steps)}"/>'
