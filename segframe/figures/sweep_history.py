"""The value of every trial of a sweep, and the best one so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segframe.figures import canvas
from segframe.figures.sweep_scale import FAILED, FINISHED, INTERRUPTED, PRUNED, Point, value_scale, valued
from segframe.wording import shown_score

TRIAL, BEST, LOST = "#3b6fb6", "#c8502d", "#b03a48"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _RIGHT = 8.0, 3.0, 0.85, 0.55, 0.3
_TEXT = 9.5
ENTRIES = 5
"""Entries of a legend in a line, where a picture is wide."""

LEGEND_ROW = 0.24
"""Inches that a line of a legend takes."""

_NO_VALUE = "no value"


def sweep_history(points: Sequence[Point], metric: str, is_maximized: bool, out: str | Path) -> None:
    """Draws values over the numbers of trials, as a PNG; pruned trials at their last one, failed ones below.

    Args:
        points: The trials.
        metric: What the values are.
        is_maximized: Whether the largest value is the best.
        out: The file.
    """
    canvas.save(sweep_history_figure(points, metric, is_maximized), out)


def sweep_history_figure(points: Sequence[Point], metric: str, is_maximized: bool) -> Figure:
    """Returns the picture of ``sweep_history`` as a figure."""
    figure = canvas.new_figure(_WIDTH, _BOTTOM + _HEIGHT + 0.2 + LEGEND_ROW * legend_rows(points, 2))
    axes = canvas.add_axes(figure, _LEFT, _BOTTOM, _WIDTH - _LEFT - _RIGHT, _HEIGHT)
    canvas.plain(axes)
    axes.grid(color=canvas.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=_TEXT - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlim(-0.6, max([1, *(point.number for point in points)]) + 0.6)
    axes.set_xlabel("trial", fontsize=_TEXT + 0.5)
    axes.set_ylabel(canvas.short(metric), fontsize=_TEXT + 0.5, parse_math=False)
    _draw_values(axes, points, metric, is_maximized)
    draw_lost(axes, points, [point.number for point in points])
    legend(axes)
    return figure


def _draw_values(axes: Axes, points: Sequence[Point], metric: str, is_maximized: bool) -> None:
    finished, pruned = valued(points), valued(points, PRUNED)
    if not finished and not pruned:
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no trial has a value yet", transform=axes.transAxes, ha="center", fontsize=11, color=canvas.MUTED
        )
        return
    values = [point.value or 0.0 for point in [*finished, *pruned]]
    set_value_limits(axes, metric, values)
    if pruned:
        label = f"pruned ({len(pruned)})"
        axes.scatter(
            [p.number for p in pruned],
            values[len(finished) :],
            s=26,
            marker="D",
            facecolors="none",
            edgecolors=canvas.MUTED,
            linewidths=1.0,
            label=label,
            zorder=3,
        )
    if not finished:
        return
    numbers, found = [p.number for p in finished], values[: len(finished)]
    best = list(accumulate(found, max if is_maximized else min))
    end = max(p.number for p in points)
    axes.plot(
        [*numbers, end],
        [*best, best[-1]],
        drawstyle="steps-post",
        color=BEST,
        linewidth=1.5,
        label="best so far",
        zorder=2,
    )
    axes.scatter(numbers, found, s=24, color=TRIAL, label=f"finished ({len(finished)})", zorder=4)
    place = found.index(best[-1])
    axes.scatter(
        [numbers[place]],
        [best[-1]],
        s=120,
        marker="*",
        color=BEST,
        edgecolors="white",
        linewidths=0.8,
        zorder=5,
        label=f"best: {shown_score(best[-1])}, trial {numbers[place]}",
    )


def draw_lost(axes: Axes, points: Sequence[Point], places: Sequence[float]) -> None:
    """Marks trials without a value at the lower edge, failed and interrupted ones each in their way.

    Args:
        axes: Where.
        points: The trials.
        places: Where each stands from left to right; NaN is left out.
    """
    for kind, marker in ((FAILED, "x"), (INTERRUPTED, "|"), (_NO_VALUE, "1")):
        at = [x for point, x in zip(points, places, strict=True) if _lost(point) == kind and math.isfinite(x)]
        if at:
            axes.scatter(
                at,
                [0.03] * len(at),
                s=34,
                marker=marker,
                color=LOST,
                linewidths=1.5,
                zorder=6,
                clip_on=False,
                transform=axes.get_xaxis_transform(),
                label=f"{kind} ({len(at)})",
            )


def set_value_limits(axes: Axes, metric: str, values: Sequence[float]) -> None:
    """Gives the axis of values room below for trials without one, and a logarithm where one value dwarfs the others.

    Args:
        axes: Where.
        metric: What the values are.
        values: Finite ones, one at least.
    """
    scale, low, high = value_scale(metric, values), min(values), max(values)
    if scale.is_log:
        axes.set_yscale("log")
        axes.set_ylim(low / (high / low) ** 0.12, high * (high / low) ** 0.06)
        return
    room = (high - low) or abs(high) * 0.1 or 1.0
    axes.set_ylim(low - 0.12 * room, high + 0.08 * room)
    axes.yaxis.set_major_locator(MaxNLocator(6))


def legend_rows(points: Sequence[Point], more: int, columns: int = ENTRIES) -> int:
    """Returns how many lines ``legend`` takes above a picture.

    Args:
        points: The trials, whose kinds the legend tells apart.
        more: Entries besides.
        columns: Entries in a line.
    """
    return -(-(len({_lost(point) or point.state for point in points}) + more) // columns)


def legend(axes: Axes, columns: int = ENTRIES) -> None:
    """Says above a picture what its marks are.

    Args:
        axes: The picture's.
        columns: Entries in a line.
    """
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=columns,
            frameon=False,
            fontsize=_TEXT - 1,
            handletextpad=0.4,
            columnspacing=1.1,
            handlelength=1.4,
        )


def _lost(point: Point) -> str | None:
    """Returns why a trial has no place among the values, None where it has one."""
    if point.state in (FINISHED, PRUNED):
        return None if point.value is not None and math.isfinite(point.value) else _NO_VALUE
    return point.state
