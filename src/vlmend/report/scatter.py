"""A picture of models in two measures, with intervals, and the line of those that nothing beats in both."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise, product, zip_longest
from typing import Any

SIZE = (8.0, 5.6)  # inches
DPI = 130
BEST, OTHER = "#b3402a", "#49627a"
AROUND = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (0, 1), (-1, 0), (0, -1))  # where a label may stand
REACH = (7, 14, 22, 32, 44, 60, 78, 98)  # points from the dot


@dataclass(frozen=True)
class Coordinate:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """What is measured, and whether less of it is better: the better end is on the right and on top."""

    title: str
    reversed: bool = False
    percent: bool = False


def picture(
    dots: Mapping[str, tuple[Coordinate, Coordinate]], best: Set[str], across: Axis, up: Axis, title: str
) -> bytes:
    """A PNG. Each dot is named; those in `best` are of another color and joined by the staircase of the front."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    axes.set(xlabel=across.title, ylabel=up.title, title=title)
    axes.grid(alpha=0.25, linewidth=0.6)
    for name, (x, y) in dots.items():
        color = BEST if name in best else OTHER
        ends = ([[x.value - x.low], [x.high - x.value]], [[y.value - y.low], [y.high - y.value]])
        axes.errorbar(
            x.value, y.value, xerr=ends[0], yerr=ends[1], fmt="o", color=color, elinewidth=1, markersize=5.5,
            ecolor=(color, 0.35), zorder=3 + (name in best),
        )  # fmt: skip
    for axis, values, chosen in ((across, axes.set_xlim, 0), (up, axes.set_ylim, 1)):
        values(*_limits([dot[chosen] for dot in dots.values()], axis))
    for axis, drawn in ((across, axes.xaxis), (up, axes.yaxis)):
        if axis.percent:
            drawn.set_major_formatter(PercentFormatter(1.0))
    steps = sorted({(dots[name][0].value, dots[name][1].value) for name in best}, reverse=across.reversed)
    axes.plot(*_stairs(steps), color=BEST, linewidth=5, alpha=0.2, zorder=2)
    canvas.draw()
    figure.set_layout_engine("none")  # names are placed where things are now
    _label(axes, canvas.get_renderer(), dots, best)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _limits(values: Sequence[Coordinate], axis: Axis) -> tuple[float, float]:
    low, high = min(v.low for v in values), max(v.high for v in values)
    room = 0.06 * (high - low or 1.0)
    return (high + room, low - room) if axis.reversed else (low - room, high + room)


def _stairs(steps: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """From dot to dot, the worst across first, by way of the corner that both of them beat."""
    corners = [(x, y) for (x, _), (_, y) in pairwise(steps)]
    path = [at for pair in zip_longest(steps, corners) for at in pair if at is not None]
    return [x for x, _ in path], [y for _, y in path]


def _label(axes: Any, renderer: Any, dots: Mapping[str, tuple[Coordinate, Coordinate]], best: Set[str]) -> None:
    """Each name near its dot, where it covers no dot and no other name, as far as there is such a place."""
    from matplotlib.text import Text

    spots = [axes.transData.transform((x.value, y.value)) for x, y in dots.values()]
    frame = axes.get_window_extent(renderer)
    boxes: list[Any] = []
    for name, (x, y) in dots.items():
        text: Any = axes.annotate(
            name, (x.value, y.value), (0, 0), textcoords="offset points", fontsize=8, va="center",
            color=BEST if name in best else OTHER, weight="bold" if name in best else "normal", zorder=6,
            arrowprops={"arrowstyle": "-", "color": OTHER, "alpha": 0.5, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        for reach, (dx, dy) in product(REACH, AROUND):
            text.set(position=(reach * dx, reach * dy), ha={1: "left", 0: "center", -1: "right"}[dx])
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # of the name alone, without the line to its dot
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            if inside and not any(map(box.overlaps, boxes)) and not any(box.contains(*spot) for spot in spots):
                break
        boxes.append(Text.get_window_extent(text, renderer))
